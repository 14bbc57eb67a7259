//! Clients that are broken, slow or hostile: none of them panics the server, disturbs another
//! client, or keeps an export open.

use std::time::Duration;

use node::export::Tls;
use node::export::nbd_wire::{cmd, flag, info, opt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::handshake::talk;
use crate::harness::{Bench, option_bytes, queries, request_bytes, settle, soon, wants};

#[tokio::test]
async fn bytes_that_are_no_request_end_this_connection_and_no_other() {
    let bench = Bench::new();
    let mut good = bench.open().await;
    let mut bad = bench.open().await;
    bad.ask(cmd::READ, 0, 5, 1, &[]).await;
    bad.send(b"this is no request, not at all").await;
    assert_eq!(bad.reply(1).await.cookie, 5);
    assert_eq!(bad.receive_rest().await, [0u8; 0]);
    bad.gone().await;
    assert_eq!(good.call(cmd::READ, 0, 5, 1, &[]).await.0, 0);
    assert_eq!(bench.exports.opens("data"), 1);
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_request_is_closed() {
    let bench = Bench::new();
    let write = [
        &request_bytes(cmd::WRITE, 0, 1, 0, 100_000)[..],
        &[7; 50_000],
    ]
    .concat();
    for len in [1, 27, 28, 29, 40_000, 50_028] {
        let mut client = bench.open().await;
        client.send(&write[..len]).await;
        client.gone().await;
        assert_eq!(bench.exports.opens("data"), 0);
    }
    assert_eq!(bench.device.calls(), [""; 0]);
}

#[tokio::test]
async fn a_negotiation_that_takes_too_long_is_ended_wherever_it_is() {
    let bench = Bench::new();
    let go = option_bytes(opt::GO, &wants("data", &[]));
    let said = [&[0, 0, 0, 3][..], &go[..go.len() - 1]].concat();
    for len in [0, 1, 4, 5, said.len()] {
        let mut slow = bench.connect();
        slow.receive(18).await;
        slow.send(&said[..len]).await;
        settle().await;
        bench.clock.forward(Duration::from_secs(11));
        assert_eq!(slow.receive_rest().await, [0u8; 0]);
        slow.gone().await;
    }
    // Who is through with it may take all the time in the world.
    let mut idle = bench.open().await;
    bench.clock.forward(Duration::from_secs(100_000));
    settle().await;
    assert_eq!(idle.call(cmd::READ, 0, 5, 1, &[]).await.0, 0);
}

/// What the changes start from: every option, then every command.
fn sensible_options() -> Vec<u8> {
    let mut said = vec![0, 0, 0, 3];
    for (option, data) in [
        (opt::LIST, vec![]),
        (opt::STRUCTURED_REPLY, vec![]),
        (
            opt::INFO,
            wants("data", &[info::NAME, info::DESCRIPTION, info::BLOCK_SIZE]),
        ),
        (opt::LIST_META_CONTEXT, queries("data", &["base:"])),
        (opt::SET_META_CONTEXT, queries("data", &["base:allocation"])),
        (opt::GO, wants("data", &[info::BLOCK_SIZE])),
    ] {
        said.extend(option_bytes(option, &data));
    }
    said
}

fn sensible_requests() -> Vec<u8> {
    let mut said = Vec::new();
    for (command, flags, off, len, data) in [
        (cmd::WRITE, flag::FUA, 4096, 600, 600),
        (cmd::READ, flag::DF, 4000, 1000, 0),
        (cmd::WRITE_ZEROES, flag::NO_HOLE, 0, 1 << 16, 0),
        (cmd::TRIM, 0, 0, 1 << 20, 0),
        (cmd::BLOCK_STATUS, flag::REQ_ONE, 0, 1 << 20, 0),
        (cmd::CACHE, 0, 0, 1 << 20, 0),
        (cmd::WRITE, 0, 77, 40_000, 40_000),
        (cmd::FLUSH, 0, 0, 0, 0),
        (cmd::DISC, 0, 0, 0, 0),
    ] {
        said.extend(request_bytes(command, flags, off, off, len));
        said.extend(vec![0x55; data]);
    }
    said
}

/// One change of a byte string.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    End(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), prop_oneof![Just(0), Just(0xff), any::<u8>()])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, more)| Change::Insert(at, more)),
        (at(), 1usize..60).prop_map(|(at, len)| Change::Remove(at, len)),
        (at(), 1usize..60).prop_map(|(at, len)| Change::Repeat(at, len)),
        at().prop_map(Change::End),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Change::Set(at, byte) => bytes[at.index(len)] = *byte,
            Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Change::Insert(at, more) => {
                let at = at.index(len);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..(at + count).min(len));
            }
            Change::Repeat(at, count) => {
                let at = at.index(len);
                let again = bytes[at..(at + count).min(len)].to_vec();
                bytes.splice(at..at, again);
            }
            Change::End(at) => bytes.truncate(at.index(len)),
        }
    }
    bytes
}

/// Says all that to a server, ends, and looks whether everybody else is fine.
fn check_server_survives(said: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::new();
        let client = bench.connect();
        let (mut receiver, mut sender) = tokio::io::split(client.stream);
        let sending = async {
            // The server may close before everything is said.
            let _ = sender.write_all(&said).await;
            let _ = sender.shutdown().await;
        };
        let mut heard = Vec::new();
        let receiving = receiver.read_to_end(&mut heard);
        let (_, received) = soon("both directions end", async {
            tokio::join!(sending, receiving)
        })
        .await;
        received.unwrap();
        soon("server lets go", client.task).await.expect("no panic");
        assert_eq!(bench.exports.opens("data"), 0);
        let mut good = bench.open().await;
        assert_eq!(good.call(cmd::WRITE, 0, 0, 4, b"good").await.0, 0);
        assert_eq!(
            good.call(cmd::READ, 0, 0, 4, &[]).await,
            (0, b"good".to_vec())
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_changed_negotiation_ends_the_same_however_it_is_cut(
        changes in prop::collection::vec(change(), 0..6),
        piece in 1usize..50,
        required in any::<bool>(),
    ) {
        let said = changed(sensible_options(), &changes);
        let tls = if required { Tls::Required } else { Tls::Absent };
        let (sent, end) = talk(tls, &said, usize::MAX);
        prop_assert!(sent.len() < 64 * (said.len() + 1), "{} bytes for {}", sent.len(), said.len());
        prop_assert_eq!((sent, end), talk(tls, &said, piece));
    }

    #[test]
    fn a_changed_negotiation_harms_nobody(changes in prop::collection::vec(change(), 0..6)) {
        check_server_survives(changed(sensible_options(), &changes));
    }

    #[test]
    fn changed_requests_harm_nobody(changes in prop::collection::vec(change(), 0..6)) {
        let mut said = sensible_options();
        said.extend(changed(sensible_requests(), &changes));
        check_server_survives(said);
    }

    #[test]
    fn noise_harms_nobody(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut said = sensible_options();
        said.extend(noise);
        check_server_survives(said);
    }
}
