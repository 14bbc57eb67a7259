//! The negotiation, byte by byte.

use bytes::BytesMut;
use node::export::nbd_wire::{info, opt};
use node::export::{Catalog, ExportInfo, Handshake, Refusal, Step, Tls};

use crate::harness::{option_bytes, queries, wants};

/// `data` of 1 MiB, `rom` that is read-only, `old` that is being closed.
struct Shelf;

impl Catalog for Shelf {
    fn names(&self) -> Vec<String> {
        vec!["data".into(), "rom".into()]
    }

    fn look(&self, name: &str) -> Result<ExportInfo, Refusal> {
        let (size, read_only) = match name {
            "data" => (1 << 20, false),
            "rom" => (512, true),
            "old" => return Err(Refusal::Closing),
            _ => return Err(Refusal::Unknown),
        };
        Ok(ExportInfo {
            size,
            read_only,
            zero_is_fast: false,
            description: format!("the {name}"),
        })
    }

    fn open(&mut self, name: &str) -> Result<ExportInfo, Refusal> {
        self.look(name)
    }
}

/// Feeds `said` in pieces of `piece` bytes and tells what came of it: the bytes sent, and how it ended.
pub fn talk(tls: Tls, said: &[u8], piece: usize) -> (Vec<u8>, String) {
    let mut handshake = Handshake::new(tls);
    let (mut input, mut sent) = (BytesMut::new(), Vec::new());
    let mut pieces = said.chunks(piece);
    loop {
        match handshake.advance(&mut input, &mut Shelf, &mut sent) {
            Ok(Step::Send) => {}
            Ok(Step::Receive) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return (sent, "receive".into()),
            },
            Ok(Step::StartTls) => handshake.tls_started(),
            Ok(step) => return (sent, format!("{step:?}")),
            Err(error) => return (sent, format!("close: {error}")),
        }
    }
}

const FIXED: [u8; 4] = [0, 0, 0, 3];

fn say(options: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let options = options
        .iter()
        .flat_map(|(option, data)| option_bytes(*option, data));
    FIXED.into_iter().chain(options).collect()
}

/// Replies as a person reads them: number of the option, type, data as text with escapes.
fn readable(mut sent: &[u8]) -> String {
    let mut text = String::new();
    while let Some((magic, rest)) = sent.split_at_checked(8) {
        assert_eq!(magic, 0x0003_e889_0455_65a9_u64.to_be_bytes());
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        let len = number(8) as usize;
        let data = rest[12..12 + len].escape_ascii();
        text += &format!("{} {:#x} {data}\n", number(0), number(4));
        sent = &rest[12 + len..];
    }
    assert_eq!(sent, [0u8; 0], "bytes behind the last reply");
    text
}

fn check_options(options: &[(u32, Vec<u8>)], expect: &str, end: &str) {
    let (sent, how) = talk(Tls::Absent, &say(options), usize::MAX);
    let expect: String = expect
        .lines()
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    assert_eq!((readable(&sent), how), (expect, end.to_owned()));
}

/// Eight words of four bytes a line.
fn hex(bytes: &[u8]) -> String {
    let word = |word: &[u8]| {
        word.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let line = |line: &[u8]| line.chunks(4).map(word).collect::<Vec<_>>().join(" ");
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_bytes_of_a_whole_negotiation_stay_the_same() {
    let said = say(&[
        (opt::STRUCTURED_REPLY, vec![]),
        (opt::SET_META_CONTEXT, queries("data", &["base:allocation"])),
        (opt::GO, wants("data", &[info::BLOCK_SIZE])),
    ]);
    let (sent, end) = talk(Tls::Absent, &said, usize::MAX);
    insta::assert_snapshot!(hex(&sent), @r"
    0003e889 045565a9 00000008 00000001 00000000 0003e889 045565a9 0000000a
    00000004 00000013 00000001 62617365 3a616c6c 6f636174 696f6e00 03e88904
    5565a900 00000a00 00000100 00000000 03e88904 5565a900 00000700 00000300
    00000c00 00000000 00001000 0005ed00 03e88904 5565a900 00000700 00000300
    00000e00 03000000 01000010 00020000 000003e8 89045565 a9000000 07000000
    01000000 00
    ");
    assert_eq!(
        end,
        "Serve(Session { structured: true, block_status: true })"
    );
}

#[test]
fn the_list_names_what_can_be_opened() {
    check_options(
        &[(opt::LIST, vec![])],
        r"3 0x2 \x00\x00\x00\x04datathe data
          3 0x2 \x00\x00\x00\x03romthe rom
          3 0x1 ",
        "receive",
    );
}

#[test]
fn info_tells_what_was_asked_for_and_opens_nothing() {
    check_options(
        &[(
            opt::INFO,
            wants(
                "data",
                &[info::BLOCK_SIZE, info::NAME, info::DESCRIPTION, 77],
            ),
        )],
        r"6 0x3 \x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x05m
          6 0x3 \x00\x01data
          6 0x3 \x00\x02the data
          6 0x3 \x00\x03\x00\x00\x00\x01\x00\x00\x10\x00\x02\x00\x00\x00
          6 0x1 ",
        "receive",
    );
}

#[test]
fn a_read_only_export_offers_no_changes() {
    // HAS_FLAGS, READ_ONLY, FLUSH, MULTI_CONN, CACHE.
    check_options(
        &[(opt::GO, wants("rom", &[]))],
        "7 0x3 \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x05\\x07\n7 0x1 ",
        "Serve(Session { structured: false, block_status: false })",
    );
}

#[test]
fn unknown_and_closing_exports_are_told_apart() {
    check_options(
        &[(opt::GO, wants("nix", &[])), (opt::INFO, wants("old", &[]))],
        "7 0x80000006 no such export on this host; it exists on the actual primary only
         6 0x80000007 export is being closed",
        "receive",
    );
}

#[test]
fn unknown_options_are_answered_and_the_talk_goes_on() {
    check_options(
        &[(11, vec![]), (4711, b"what".to_vec()), (opt::ABORT, vec![])],
        "11 0x80000001 unknown option\n4711 0x80000001 unknown option\n2 0x1 ",
        "Bye",
    );
}

#[test]
fn malformed_options_are_answered_and_the_talk_goes_on() {
    let mut long = wants("data", &[]);
    long.push(0);
    let mut boastful = queries("data", &[]);
    boastful[8..12].fill(0xff);
    check_options(
        &[
            (opt::GO, vec![]),
            (opt::GO, long),
            (opt::INFO, b"\x00\x00\x00\x02\xff\xfe\x00\x00".to_vec()),
            (opt::LIST, vec![1]),
            (opt::STRUCTURED_REPLY, vec![]),
            (opt::SET_META_CONTEXT, boastful),
        ],
        "7 0x80000003 malformed request for an export
         7 0x80000003 malformed request for an export
         6 0x80000003 malformed request for an export
         3 0x80000003 LIST carries no data
         8 0x1 
         10 0x80000003 malformed list of contexts",
        "receive",
    );
}

#[test]
fn an_option_that_is_too_long_is_skipped_and_refused() {
    let said = say(&[(opt::LIST, vec![7; 200_000]), (opt::ABORT, vec![])]);
    for piece in [1000, usize::MAX] {
        let (sent, end) = talk(Tls::Absent, &said, piece);
        assert_eq!(readable(&sent), "3 0x80000009 option too long\n2 0x1 \n");
        assert_eq!(end, "Bye");
    }
}

#[test]
fn contexts_need_structured_replies_and_the_right_export() {
    let select = |name| {
        (
            opt::SET_META_CONTEXT,
            queries(name, &["base:allocation", "qemu:dirty"]),
        )
    };
    check_options(
        &[
            select("data"),
            (opt::STRUCTURED_REPLY, vec![]),
            (opt::LIST_META_CONTEXT, queries("data", &[])),
            (opt::LIST_META_CONTEXT, queries("data", &["base:"])),
            (opt::LIST_META_CONTEXT, queries("data", &["mars:"])),
            select("nix"),
            select("data"),
            (opt::GO, wants("rom", &[])),
        ],
        r"10 0x80000003 needs structured replies first
          8 0x1 
          9 0x4 \x00\x00\x00\x00base:allocation
          9 0x1 
          9 0x4 \x00\x00\x00\x00base:allocation
          9 0x1 
          9 0x1 
          10 0x80000006 no such export on this host; it exists on the actual primary only
          10 0x4 \x00\x00\x00\x01base:allocation
          10 0x1 
          7 0x3 \x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x05\x87
          7 0x1 ",
        "Serve(Session { structured: true, block_status: false })",
    );
}

#[test]
fn selecting_nothing_takes_back_what_was_selected() {
    let said = say(&[
        (opt::STRUCTURED_REPLY, vec![]),
        (opt::SET_META_CONTEXT, queries("data", &["base:allocation"])),
        (opt::SET_META_CONTEXT, queries("data", &[])),
        (opt::GO, wants("data", &[])),
    ]);
    let (_, end) = talk(Tls::Absent, &said, usize::MAX);
    assert_eq!(
        end,
        "Serve(Session { structured: true, block_status: false })"
    );
}

#[test]
fn export_name_is_followed_by_zeroes_only_for_those_who_want_them() {
    for (flags, len) in [(1u32, 134), (3, 10), (0, 134)] {
        let mut said = flags.to_be_bytes().to_vec();
        said.extend(option_bytes(opt::EXPORT_NAME, b"data"));
        let (sent, end) = talk(Tls::Absent, &said, usize::MAX);
        assert_eq!(sent[..10], [0, 0, 0, 0, 0, 0x10, 0, 0, 0x05, 0x6d]);
        assert_eq!((sent.len(), &end[..5]), (len, "Serve"));
    }
}

#[test]
fn what_cannot_be_answered_closes_the_connection() {
    let ends = |said: &[u8]| talk(Tls::Absent, said, usize::MAX).1;
    assert_eq!(
        ends(&[0, 0, 0, 7]),
        "close: client flags 0x7 contain unknown bits"
    );
    assert_eq!(
        ends(b"\0\0\0\x03GET / HTTP/1.1\r\n\r\n"),
        "close: option begins with 0x474554202f204854 instead of IHAVEOPT"
    );
    let old = [&[0; 4][..], &option_bytes(opt::LIST, &[])].concat();
    assert_eq!(
        ends(&old),
        "close: option 3 from a client without fixed newstyle negotiation"
    );
    assert_eq!(
        ends(&say(&[(opt::EXPORT_NAME, b"nix".to_vec())])),
        "close: export nix: no such export on this host; it exists on the actual primary only"
    );
    assert_eq!(
        ends(&say(&[(opt::EXPORT_NAME, vec![b'x'; 70_000])])),
        "close: export of 70000 bytes: name too long"
    );
}

#[test]
fn with_tls_required_nothing_is_told_in_the_clear() {
    let said = say(&[
        (opt::LIST, vec![]),
        (opt::GO, wants("data", &[])),
        (opt::STRUCTURED_REPLY, vec![]),
        (opt::STARTTLS, vec![]),
        (opt::STARTTLS, vec![]),
        (opt::GO, wants("data", &[])),
    ]);
    let (sent, end) = talk(Tls::Required, &said, usize::MAX);
    assert_eq!(
        readable(&sent),
        "3 0x80000005 this server requires TLS\n7 0x80000005 this server requires TLS\n\
         8 0x80000005 this server requires TLS\n5 0x1 \n5 0x80000003 TLS runs already\n\
         7 0x3 \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x10\\x00\\x00\\x05m\n7 0x1 \n"
    );
    assert_eq!(
        end,
        "Serve(Session { structured: false, block_status: false })"
    );
    let (_, end) = talk(
        Tls::Required,
        &say(&[(opt::EXPORT_NAME, b"data".to_vec())]),
        usize::MAX,
    );
    assert_eq!(end, "close: export data: TLS is required");
}

#[test]
fn tls_that_is_not_there_is_refused_politely() {
    check_options(
        &[(opt::STARTTLS, vec![])],
        "5 0x80000001 TLS is not offered here",
        "receive",
    );
}
