//! Exports that come and go, and clients that leave or are sent away.

use std::sync::Arc;
use std::time::Duration;

use node::export::nbd_wire::{cmd, opt, rep};
use node::export::{ExportError, ExportState, Refusal};

use crate::harness::{Bench, MIB, settle, soon, wants};
use crate::memory_device::MemoryDevice;

#[tokio::test]
async fn the_open_count_follows_the_clients_that_opened_something() {
    let bench = Bench::new();
    let mut asking = bench.connect();
    asking.greet().await;
    asking.option(opt::INFO, &wants("data", &[])).await;
    asking.option(opt::LIST, &[]).await;
    assert_eq!(bench.exports.opens("data"), 0);
    let first = bench.open().await;
    let mut second = bench.open().await;
    assert_eq!(bench.exports.opens("data"), 2);
    first.gone().await;
    assert_eq!(bench.exports.opens("data"), 1);
    second.ask(cmd::DISC, 0, 0, 0, &[]).await;
    assert_eq!(second.receive_rest().await, [0u8; 0]);
    second.gone().await;
    assert_eq!(bench.exports.opens("data"), 0);
}

#[tokio::test]
async fn an_export_being_closed_takes_nobody_new_and_stays_for_those_inside() {
    let bench = Bench::new();
    let mut inside = bench.open().await;
    let mut opens = bench.exports.begin_close("data").expect("it exists");
    assert_eq!(bench.exports.names(), [""; 0]);
    assert_eq!(
        bench.exports.states()["data"],
        ExportState {
            opens: 1,
            closing: true
        }
    );
    let mut late = bench.connect();
    late.greet().await;
    assert_eq!(
        late.option(opt::GO, &wants("data", &[])).await[0].0,
        rep::ERR_SHUTDOWN
    );
    assert_eq!(late.option(opt::LIST, &[]).await, [(rep::ACK, vec![])]);
    assert_eq!(inside.call(cmd::WRITE, 0, 0, 3, b"yes").await.0, 0);
    inside.gone().await;
    soon("count ends", opens.wait_for(|opens| *opens == 0))
        .await
        .unwrap();
    soon("export gone", bench.exports.gone("data")).await;
    assert_eq!(
        late.option(opt::GO, &wants("data", &[])).await[0].0,
        rep::ERR_UNKNOWN
    );
}

#[tokio::test]
async fn a_failed_handover_gives_the_export_back() {
    let bench = Bench::new();
    let inside = bench.open().await;
    bench.exports.begin_close("data");
    let again = bench.exports.add("data", Arc::new(MemoryDevice::new(MIB)));
    assert_eq!(
        again,
        Err(ExportError::Exists {
            name: "data".into(),
            opens: 1
        })
    );
    assert!(bench.exports.cancel_close("data"));
    let another = bench.open().await;
    inside.gone().await;
    another.gone().await;
    assert_eq!(bench.exports.names(), ["data"]);
    // With nobody inside it is gone at once.
    bench.exports.begin_close("data");
    assert!(!bench.exports.cancel_close("data"));
    assert_eq!(bench.exports.look("data").err(), Some(Refusal::Unknown));
    bench
        .exports
        .add("data", Arc::new(MemoryDevice::new(MIB)))
        .unwrap();
    bench.open().await.gone().await;
}

#[tokio::test]
async fn the_close_of_a_vanished_client_waits_for_what_it_began() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    client.ask(cmd::WRITE, 0, 0, 3, b"yes").await;
    client.ask(cmd::READ, 0, 0, 100_000, &[]).await;
    bench.until_asked(2).await;
    assert_eq!(bench.exports.usage("data").flying, 2);
    drop(client.stream);
    settle().await;
    assert_eq!(
        bench.exports.opens("data"),
        1,
        "closed over the head of a write"
    );
    gate.add_permits(2);
    soon("server lets go", client.task).await.expect("no panic");
    assert_eq!(bench.exports.opens("data"), 0);
    let used = bench.exports.usage("data");
    assert_eq!((used.flying, used.answered, used.bytes), (0, 2, 100_003));
}

#[tokio::test]
async fn requests_answered_at_once_are_counted_too() {
    let bench = Bench::new();
    let mut client = bench.open().await;
    assert_eq!(client.call(cmd::WRITE, 0, 0, 3, b"yes").await.0, 0);
    assert_eq!(client.call(cmd::FLUSH, 0, 0, 0, &[]).await.0, 0);
    let used = bench.exports.usage("data");
    assert_eq!((used.flying, used.answered, used.bytes), (0, 2, 3));
    assert_eq!(bench.exports.usage("nosuch").answered, 0);
}

#[tokio::test]
async fn a_client_that_says_goodbye_still_gets_its_replies() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    client.ask(cmd::WRITE, 0, 7, 3, b"yes").await;
    client.ask(cmd::DISC, 0, 0, 0, &[]).await;
    bench.until_asked(1).await;
    gate.add_permits(1);
    assert_eq!(client.reply(0).await.cookie, 7);
    assert_eq!(client.receive_rest().await, [0u8; 0]);
}

#[tokio::test]
async fn clients_sent_away_get_the_answers_to_what_they_began() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    let mut idle = bench.open().await;
    client.ask(cmd::WRITE, 0, 7, 3, b"yes").await;
    bench.until_asked(1).await;
    bench.exports.cut_all();
    assert_eq!(idle.receive_rest().await, [0u8; 0]);
    gate.add_permits(1);
    let reply = client.reply(0).await;
    assert_eq!((reply.cookie, reply.error), (7, 0));
    assert_eq!(client.receive_rest().await, [0u8; 0]);
    client.gone().await;
    soon("export gone", bench.exports.gone("data")).await;
}

#[tokio::test]
async fn a_client_sent_away_that_takes_no_replies_is_left_behind() {
    let bench = Bench::new();
    let mut client = bench.open().await;
    for _ in 0..10 {
        client.ask(cmd::READ, 0, 0, MIB as u32, &[]).await;
    }
    bench.until_asked(10).await;
    bench.exports.cut("data");
    settle().await;
    assert_eq!(bench.exports.opens("data"), 1);
    bench.clock.forward(Duration::from_secs(5));
    bench.until_opens(0).await;
    soon("server lets go", client.task).await.expect("no panic");
}

#[tokio::test]
async fn a_flush_on_one_connection_comes_after_writes_answered_on_another() {
    let bench = Bench::new();
    let mut one = bench.open().await;
    let mut other = bench.open().await;
    for off in 0..50 {
        assert_eq!(one.call(cmd::WRITE, 0, off, 1, b"x").await.0, 0);
        assert_eq!(other.call(cmd::FLUSH, 0, 0, 0, &[]).await.0, 0);
    }
    let calls = bench.device.calls();
    for (off, pair) in calls.chunks(2).enumerate() {
        assert_eq!(pair, [format!("write {off}+1"), "flush".to_owned()]);
    }
}
