//! Messages and control frames byte by byte: what has been written once stays readable, and no change of any
//! byte does more than an error.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;
use transport::control::{self, Answer, Change, EntryText, Request, Snapshot};
use transport::frame::{self, Frame, Limits};
use transport::wire::{self, Hello, Piece};
use transport::{Class, Message};
use tree::repair::NodeIs;
use tree::trie::TrieNode;
use tree::{
    Delta, Digest128, Entry, Host, Issue, LogName, LogPos, Path, Push, PushItem, RepairAnswer,
    RepairAsk, Resource, Stamp, Summary, Value,
};

fn host(name: &str) -> Host {
    Host::new(name).expect("valid")
}

fn resource() -> Resource {
    Resource::new("data").expect("valid")
}

fn pos(offset: u64) -> LogPos {
    LogName::new(7, &host("alpha")).at(offset)
}

fn entry(nr: u64, value: Value) -> (Path, Entry) {
    let writer = host("alpha");
    let entry = Entry {
        value,
        stamp: Stamp::new(1_800_000_000_000_000_000 + nr, &writer),
        issue: Issue { nr, writer },
        lazy: nr == 2,
    };
    (Path::new("resource-data/primary").expect("valid"), entry)
}

fn summary() -> Summary {
    let mut summary = Summary::default();
    summary.raise(&host("alpha"), 5);
    summary.raise(&host("beta"), u64::MAX);
    summary
}

fn text(value: &str) -> Value {
    Value::text(value).expect("valid")
}

/// One of each kind.
fn messages() -> Vec<(&'static str, Message)> {
    let (path, one) = entry(1, text("alpha"));
    vec![
        (
            "hello",
            Message::Hello(Hello {
                version: 1,
                host: host("alpha"),
                cluster: "alpha_1800000000.000000007".to_owned(),
                wall_ns: 1_800_000_000_123_456_789,
                lamport: 1_800_000_000_123_456_790,
            }),
        ),
        (
            "summary",
            Message::Summary {
                summary: summary(),
                digest: [0xab; 16],
            },
        ),
        (
            "delta",
            Message::Delta(Delta {
                entries: vec![entry(1, text("alpha")), entry(2, Value::Tombstone)],
                raise: summary(),
                since: Summary::default(),
                floor: summary(),
                more: true,
            }),
        ),
        (
            "push",
            Message::Push(Push {
                entries: vec![PushItem {
                    path: path.clone(),
                    entry: one.clone(),
                    prev_issue_of_writer: 0,
                }],
            }),
        ),
        (
            "repair-ask-nodes",
            Message::RepairAsk(RepairAsk::Nodes(vec![TrieNode::ROOT])),
        ),
        (
            "repair-ask-entries",
            Message::RepairAsk(RepairAsk::Entries {
                want: vec![1, u64::MAX],
                give: vec![(path.clone(), one.clone())],
            }),
        ),
        (
            "repair-answer-nodes",
            Message::RepairAnswer(RepairAnswer::Nodes(vec![
                NodeIs::Digests(vec![1, 2]),
                NodeIs::Keys(vec![(3, 4)]),
            ])),
        ),
        (
            "repair-answer-entries",
            Message::RepairAnswer(RepairAnswer::Entries(vec![(path, one)])),
        ),
        (
            "must-replace",
            Message::MustReplace {
                writer: host("alpha"),
                floor: 7,
            },
        ),
        ("replace-ask", Message::ReplaceAsk { summary: summary() }),
        ("ping", Message::Ping { nonce: 1 }),
        ("pong", Message::Pong { nonce: u64::MAX }),
        (
            "subscribe",
            Message::Subscribe {
                resource: resource(),
                log: pos(0).log,
                from: 4096,
            },
        ),
        ("acked", Message::Acked { durable: 8192 }),
        (
            "log-start",
            Message::LogStart {
                header: Bytes::from_static(b"header"),
                durable: 4096,
                sealed: false,
            },
        ),
        (
            "log-bytes",
            Message::LogBytes {
                offset: 4096,
                bytes: Bytes::from_static(b"contents of the log"),
            },
        ),
        (
            "log-sealed",
            Message::LogSealed {
                len: 8192,
                digest: Digest128([0xcd; 16]),
            },
        ),
        (
            "log-refused",
            Message::LogRefused {
                reason: "not held here".to_owned(),
            },
        ),
        (
            "sync-digests",
            Message::SyncDigests {
                resource: resource(),
                id: 3,
                ranges: vec![(0, 1 << 20), (1 << 30, 4096)],
                block: 4096,
            },
        ),
        (
            "sync-blocks",
            Message::SyncBlocks {
                resource: resource(),
                id: 4,
                ranges: vec![(0, 4096)],
            },
        ),
        (
            "sync-digests-are",
            Message::SyncDigestsAre {
                id: 3,
                digests: vec![[1; 16], [2; 16]],
                at: pos(4096),
            },
        ),
        (
            "sync-blocks-are",
            Message::SyncBlocksAre {
                id: 4,
                pieces: vec![
                    Piece {
                        offset: 0,
                        bytes: Bytes::from_static(b"first"),
                    },
                    Piece {
                        offset: 4096,
                        bytes: Bytes::new(),
                    },
                    Piece {
                        offset: 8192,
                        bytes: Bytes::from_static(b"third"),
                    },
                ],
                not_before: pos(4096),
                not_after: pos(8192),
            },
        ),
        (
            "sync-refused",
            Message::SyncRefused {
                id: 4,
                reason: "not a member".to_owned(),
            },
        ),
    ]
}

fn requests() -> Vec<(&'static str, Request)> {
    let change = |value: Option<&str>| Change {
        path: "resource-data/primary".to_owned(),
        value: value.map(str::to_owned),
    };
    vec![
        ("ask-ping", Request::Ping),
        (
            "ask-snapshot",
            Request::Snapshot {
                prefixes: vec!["resource-data/".to_owned()],
                resources: None,
                as_lines: false,
            },
        ),
        (
            "ask-snapshot-lines",
            Request::Snapshot {
                prefixes: Vec::new(),
                resources: Some(vec!["data".to_owned()]),
                as_lines: true,
            },
        ),
        (
            "ask-commit",
            Request::Commit {
                changes: vec![change(Some("beta")), change(None)],
                stamp: Some((1, 2)),
                trigger: 3,
            },
        ),
        ("ask-trigger", Request::Trigger { code: 8 }),
        (
            "ask-watch",
            Request::Watch {
                prefix: String::new(),
                after_generation: 9,
            },
        ),
        (
            "ask-wait-change",
            Request::WaitChange {
                generation: 9,
                timeout_ms: 1000,
            },
        ),
        (
            "ask-stat",
            Request::Stat {
                path: "uuid".to_owned(),
            },
        ),
        (
            "ask-token",
            Request::Token {
                ttl_s: 3600,
                uses: 1,
            },
        ),
        ("ask-facts", Request::Facts),
        ("ask-shutdown", Request::Shutdown),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    let entry = EntryText {
        path: "uuid".to_owned(),
        value: None,
        sec: 1_800_000_000,
        nsec: 7,
        writer: "alpha".to_owned(),
        kind: 'l',
    };
    vec![
        (
            "are-pong",
            Answer::Pong {
                host: "alpha".to_owned(),
                version: "0.1.0".to_owned(),
            },
        ),
        (
            "are-snapshot",
            Answer::Snapshot(Snapshot {
                entries: vec![entry.clone()],
                lines: String::new(),
                now_sec: 1,
                now_nsec: 2,
                host: "alpha".to_owned(),
                uuid: "alpha_1.000000002".to_owned(),
                generation: 3,
            }),
        ),
        (
            "are-committed",
            Answer::Committed {
                sec: 1,
                nsec: 2,
                generation: 3,
            },
        ),
        (
            "are-changed",
            Answer::Changed {
                generation: 3,
                entries: vec![entry.clone()],
            },
        ),
        ("are-generation", Answer::Generation { generation: 3 }),
        ("are-entry", Answer::Entry { entry: Some(entry) }),
        (
            "are-token",
            Answer::Token {
                token: "AQ".to_owned(),
            },
        ),
        (
            "are-facts",
            Answer::Facts {
                json: "{}".to_owned(),
            },
        ),
        ("are-done", Answer::Done),
        (
            "are-refused",
            Answer::Refused {
                reason: "no".to_owned(),
            },
        ),
    ]
}

/// Name and bytes of one of each.
fn all_bytes() -> Vec<(&'static str, Bytes)> {
    let of_frame = |frame: Result<Frame, frame::FrameError>| frame.expect("fits").to_bytes();
    let mut all = Vec::new();
    for (name, message) in messages() {
        all.push((name, of_frame(message.to_frame())));
    }
    for (name, request) in requests() {
        all.push((name, of_frame(Frame::of(&request))));
    }
    for (name, answer) in answers() {
        all.push((name, of_frame(Frame::of(&answer))));
    }
    all
}

fn golden_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames_v1.txt")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hex digits")
    };
    digits.map(byte).collect()
}

/// To accept a deliberate change, run with `MARS_ACCEPT_FRAMES=1`; for released versions add a file instead.
#[test]
fn the_bytes_of_every_message_are_the_ones_on_file() {
    let is_accepted = std::env::var_os("MARS_ACCEPT_FRAMES").is_some();
    let mut now = String::new();
    for (name, bytes) in all_bytes() {
        let _ = writeln!(now, "{name} {}", hex(&bytes));
    }
    if is_accepted {
        std::fs::write(golden_file(), &now).expect("written");
    }
    let held = std::fs::read_to_string(golden_file()).expect("there");
    for (held, now) in held.lines().zip(now.lines()) {
        assert_eq!(held, now);
    }
    assert_eq!(held.lines().count(), now.lines().count());
}

fn any_limits() -> Limits {
    Limits {
        head_max: 1 << 20,
        body_max: 1 << 20,
    }
}

fn read(bytes: &[u8]) -> Result<Frame, frame::FrameError> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().expect("a runtime");
    runtime.block_on(frame::read_frame(&mut &bytes[..], any_limits()))
}

#[test]
fn what_is_on_file_reads_as_what_was_written() {
    let held = std::fs::read_to_string(golden_file()).expect("there");
    let frame_of = |name: &str| {
        let line = held
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let (_, digits) = line.and_then(|l| l.split_once(' ')).expect("on file");
        read(&unhex(digits)).expect("a frame")
    };
    for (name, message) in messages() {
        let read = Message::from_frame(&frame_of(name)).expect(name);
        assert_eq!(read, message);
    }
    for (name, request) in requests() {
        let read: Request = frame::from_head(&frame_of(name).head).expect(name);
        assert_eq!(read, request);
    }
    for (name, answer) in answers() {
        let read: Answer = frame::from_head(&frame_of(name).head).expect(name);
        assert_eq!(read, answer);
    }
}

#[test]
fn a_newer_peer_may_have_more_fields_and_an_older_one_fewer() {
    #[derive(serde::Serialize)]
    struct Head<T> {
        message: T,
        later: u8,
    }
    #[derive(serde::Serialize)]
    enum Later {
        Ping { nonce: u64, mood: &'static str },
    }
    let message = Later::Ping {
        nonce: 5,
        mood: "good",
    };
    let frame = Frame::of(&Head { message, later: 1 }).expect("fits");
    let read = Message::from_frame(&frame).expect("readable");
    assert_eq!(read, Message::Ping { nonce: 5 });

    #[derive(serde::Serialize)]
    enum Earlier {
        Snapshot {},
    }
    let frame = Frame::of(&Earlier::Snapshot {}).expect("fits");
    let read: Request = frame::from_head(&frame.head).expect("readable");
    let all = Request::Snapshot {
        prefixes: vec![],
        resources: None,
        as_lines: false,
    };
    assert_eq!(read, all);
}

#[test]
fn both_sides_keep_to_the_lower_version() {
    assert_eq!(wire::common_version(wire::VERSION + 5), Ok(wire::VERSION));
    assert_eq!(
        wire::common_version(wire::VERSION_MIN),
        Ok(wire::VERSION_MIN)
    );
    assert!(wire::common_version(wire::VERSION_MIN - 1).is_err());
}

#[test]
fn a_message_over_its_limits_is_refused_by_its_sender() {
    let bytes = Bytes::from(vec![0; wire::BODY_BYTES_MAX + 1]);
    let message = Message::LogBytes { offset: 0, bytes };
    assert!(message.encode().is_err());
    let reason = "x".repeat(wire::BULK_HEAD_BYTES_MAX);
    assert!(Message::LogRefused { reason }.encode().is_err());
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow_of_the_stack() {
    for byte in [0x91, 0x81] {
        let deep = vec![byte; 1 << 20];
        assert!(frame::from_head::<Request>(&deep).is_err());
        let head = Bytes::from(deep);
        let frame = Frame {
            head,
            body: Bytes::new(),
        };
        assert!(Message::from_frame(&frame).is_err());
    }
}

#[test]
fn a_hostile_count_reserves_no_memory() {
    // "An array of 2^32 - 1 elements" where a list belongs.
    let mut head = b"\x81\xa8Snapshot\x81\xa8prefixes".to_vec();
    head.extend(b"\xdd\xff\xff\xff\xff");
    assert!(frame::from_head::<Request>(&head).is_err());
}

/// Everything that reads bytes from outside gets these; only errors may come out.
fn check_no_panic(bytes: &[u8]) {
    let Ok(frame) = read(bytes) else {
        return;
    };
    if let Ok(message) = Message::from_frame(&frame) {
        let _ = message.class();
        // What was understood can be said again.
        let _ = message.to_frame();
    }
    let _ = frame::from_head::<Request>(&frame.head);
    let _ = frame::from_head::<Answer>(&frame.head);
}

/// Changes to make to some bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, u8),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, b)| Mutation::Insert(at, b)),
        (at(), 1u8..9).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match change {
        Mutation::Flip(at, bits) => bytes[at.index(len)] ^= bits,
        Mutation::Insert(at, more) => {
            let at = at.index(len);
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Remove(at, count) => {
            let at = at.index(len);
            bytes.drain(at..len.min(at + usize::from(*count)));
        }
        Mutation::Swap(a, b) => bytes.swap(a.index(len), b.index(len)),
    }
}

/// Makes the lengths in front fit again, so that changes reach what lies behind them.
fn mend_lengths(bytes: &mut [u8], body: usize) {
    if bytes.len() < frame::PREFIX_BYTES {
        return;
    }
    let rest = bytes.len() - frame::PREFIX_BYTES;
    let body = body.min(rest);
    bytes[..frame::PREFIX_BYTES].copy_from_slice(&frame::prefix(rest - body, body));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_no_panic(&bytes);
    }

    #[test]
    fn changed_bytes_are_a_message_or_an_error(
        which: prop::sample::Index,
        changes in prop::collection::vec(mutation(), 1..6),
        body in 0usize..40,
        mend: bool,
    ) {
        let all = all_bytes();
        let mut bytes = all[which.index(all.len())].1.to_vec();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        if mend {
            mend_lengths(&mut bytes, body);
        }
        check_no_panic(&bytes);
    }

    #[test]
    fn a_frame_that_breaks_off_is_an_error(which: prop::sample::Index, at: prop::sample::Index) {
        let all = all_bytes();
        let bytes = &all[which.index(all.len())].1;
        prop_assert!(read(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn contents_survive_the_way(lens in prop::collection::vec(0usize..5000, 0..20)) {
        let pieces: Vec<Piece> = (0u64..)
            .zip(&lens)
            .map(|(nr, len)| Piece {
                offset: nr * 4096,
                bytes: vec![nr as u8; *len].into(),
            })
            .collect();
        let message = Message::SyncBlocksAre {
            id: 1,
            pieces,
            not_before: pos(1),
            not_after: pos(2),
        };
        let bytes = message.to_frame().expect("fits").to_bytes();
        let read = Message::from_frame(&read(&bytes).expect("whole")).expect("readable");
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(read.class(), Class::Sync);
    }
}

#[test]
fn the_client_of_the_control_socket_and_the_daemon_understand_each_other() {
    let home = tempfile::tempdir().expect("temporary directory");
    let socket = home.path().join("mars.sock");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listening = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(&socket).expect("binds")
    };
    let serving = runtime.spawn(async move {
        let (mut stream, _) = listening.accept().await.expect("somebody comes");
        for (_, answer) in answers() {
            let request = control::read_request(&mut stream).await.expect("asks");
            assert_eq!(request, Request::Facts);
            control::write_answer(&mut stream, &answer)
                .await
                .expect("still there");
        }
    });
    let mut client = control::ControlClient::connect(&socket).expect("connects");
    client
        .set_timeout(Some(std::time::Duration::from_secs(20)))
        .expect("takes it");
    for (_, answer) in answers() {
        assert_eq!(client.request(&Request::Facts).expect("answered"), answer);
    }
    runtime.block_on(serving).expect("no panic");
    let gone = client.request(&Request::Ping);
    assert!(matches!(gone, Err(control::ControlError::Broken { .. })));
    let nobody = control::ControlClient::connect(&home.path().join("none"));
    assert!(matches!(
        nobody,
        Err(control::ControlError::NotRunning { .. })
    ));
}
