//! Channels over real QUIC on loopback: order, size, both directions, ends.

mod common;

use bytes::Bytes;
use common::{Office, channel, host, log, soon};
use transport::wire::BODY_BYTES_MAX;
use transport::{Class, Message, Net, NetError};
use tree::Resource;

fn log_bytes(offset: u64, len: usize) -> Message {
    let bytes = Bytes::from(vec![(offset % 251) as u8; len]);
    Message::LogBytes { offset, bytes }
}

#[tokio::test]
async fn messages_of_every_class_arrive_whole_and_in_order() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    for nonce in 0..100 {
        near.send(Message::Ping { nonce }).await.expect("sent");
    }
    for nonce in 0..100 {
        assert_eq!(soon(far.recv()).await, Ok(Message::Ping { nonce }));
        far.send(Message::Pong { nonce }).await.expect("sent");
        assert_eq!(soon(near.recv()).await, Ok(Message::Pong { nonce }));
    }
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    let subscribe = Message::Subscribe {
        resource: Resource::new("data").expect("valid"),
        log: log(1),
        from: 0,
    };
    near.send(subscribe.clone()).await.expect("sent");
    assert_eq!(soon(far.recv()).await, Ok(subscribe));
}

#[tokio::test]
async fn large_and_small_messages_mixed_keep_their_order() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    let sizes = [1, BODY_BYTES_MAX, 0, 40_000, 5, 300_000, 31_000, 33_000];
    let sending = tokio::spawn(async move {
        for number in 0..200u64 {
            let len = sizes[number as usize % sizes.len()];
            near.send(log_bytes(number, len)).await.expect("sent");
        }
        near
    });
    for number in 0..200u64 {
        let len = sizes[number as usize % sizes.len()];
        let got = soon(far.recv()).await.expect("arrives");
        assert_eq!(got, log_bytes(number, len), "message {number}");
    }
    soon(sending).await.expect("no panic");
}

#[tokio::test]
async fn what_was_sent_before_the_end_still_arrives() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    for number in 0..3 {
        let message = log_bytes(number, BODY_BYTES_MAX);
        near.send(message).await.expect("sent");
    }
    drop(near);
    for number in 0..3 {
        let got = soon(far.recv()).await.expect("arrives");
        assert_eq!(got, log_bytes(number, BODY_BYTES_MAX));
    }
    let peer = host("alpha");
    assert_eq!(
        soon(far.recv()).await,
        Err(NetError::Closed { peer: peer.clone() })
    );
    // The other direction ends too, at the latest with the second message.
    let _ = far.send(log_bytes(0, 1)).await;
    let refused = soon(far.send(log_bytes(0, 1))).await;
    assert_eq!(refused, Err(NetError::Closed { peer }));
}

#[tokio::test]
async fn one_half_may_go_while_the_other_stays() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    let transport::Channel { tx, mut rx } = near;
    drop(tx);
    assert!(matches!(
        soon(far.recv()).await,
        Err(NetError::Closed { .. })
    ));
    // More than one window, so credit must still flow to a sender whose peer sends no more.
    let sending = tokio::spawn(async move {
        for number in 0..60 {
            let message = log_bytes(number, BODY_BYTES_MAX);
            far.send(message).await.expect("sent");
        }
        far
    });
    for number in 0..60 {
        let got = soon(rx.recv()).await.expect("arrives");
        assert_eq!(got, log_bytes(number, BODY_BYTES_MAX));
    }
    soon(sending).await.expect("no panic");
}

#[tokio::test]
async fn a_consumer_that_stands_still_stops_only_its_own_channel() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut stuck, _kept) = channel(&alpha, &beta, "beta", Class::Log).await;
    let filling = tokio::spawn(async move {
        let mut number = 0;
        loop {
            let message = log_bytes(number, BODY_BYTES_MAX);
            if stuck.send(message).await.is_err() {
                return number;
            }
            number += 1;
        }
    });
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Sync).await;
    for id in 0..100 {
        let resource = Resource::new("data").expect("valid");
        let ranges = vec![(id, 4096)];
        let ask = Message::SyncBlocks {
            resource,
            id,
            ranges,
        };
        near.send(ask.clone()).await.expect("sent");
        assert_eq!(soon(far.recv()).await, Ok(ask));
    }
    assert!(!filling.is_finished());
    filling.abort();
}

#[tokio::test]
async fn dropping_a_wait_loses_no_message() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    let sending = tokio::spawn(async move {
        for nonce in 0..500 {
            near.send(Message::Ping { nonce }).await.expect("sent");
            tokio::task::yield_now().await;
        }
        near
    });
    let mut nonce = 0;
    while nonce < 500 {
        let impatience = std::time::Duration::from_micros(nonce % 7 * 20);
        if let Ok(got) = tokio::time::timeout(impatience, far.recv()).await {
            assert_eq!(got, Ok(Message::Ping { nonce }));
            nonce += 1;
        }
    }
    soon(sending).await.expect("no panic");
}

#[tokio::test]
async fn a_message_on_the_wrong_class_is_refused_before_it_leaves() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    let _ = near.send(log_bytes(0, 1)).await;
    let refused = soon(near.recv()).await;
    assert!(
        matches!(refused, Err(NetError::Protocol { .. })),
        "{refused:?}"
    );
    assert!(soon(far.recv()).await.is_err());
}

#[tokio::test]
async fn both_sides_connecting_at_once_get_working_channels() {
    for _ in 0..5 {
        let office = Office::new("one");
        let [alpha, beta] = office.nets(["alpha", "beta"]);
        let (to_beta, to_alpha) = (host("beta"), host("alpha"));
        let (mut from_alpha, mut from_beta) = soon(async {
            tokio::try_join!(
                alpha.open(&to_beta, Class::State),
                beta.open(&to_alpha, Class::State)
            )
        })
        .await
        .expect("both open");
        let mut at_alpha = soon(alpha.accept()).await.expect("up").channel;
        let mut at_beta = soon(beta.accept()).await.expect("up").channel;
        let ping = Message::Ping { nonce: 1 };
        from_alpha.send(ping.clone()).await.expect("sent");
        from_beta.send(ping.clone()).await.expect("sent");
        assert_eq!(soon(at_alpha.recv()).await, Ok(ping.clone()));
        assert_eq!(soon(at_beta.recv()).await, Ok(ping));
    }
}

#[tokio::test]
async fn counters_tell_what_went_where() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    near.send(log_bytes(0, 100_000)).await.expect("sent");
    soon(far.recv()).await.expect("arrives");
    let sent = alpha.stats()[&host("beta")].classes["log"];
    let received = beta.stats()[&host("alpha")].classes["log"];
    assert_eq!((sent.sent_messages, received.received_messages), (1, 1));
    assert_eq!(sent.sent_bytes, received.received_bytes);
    assert!((100_000..100_200).contains(&sent.sent_bytes));
    assert_eq!(
        alpha.stats()[&host("beta")].classes["sync"].sent_messages,
        0
    );
    assert_eq!(alpha.stats()[&host("beta")].connections, 1);
}

#[tokio::test]
async fn after_the_end_there_is_nothing_more_to_accept_or_open() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (_near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    let waiting = tokio::spawn(alpha.accept());
    tokio::task::yield_now().await;
    soon(alpha.shut_down()).await;
    assert!(soon(waiting).await.expect("no panic").is_none());
    assert!(soon(alpha.accept()).await.is_none());
    let refused = soon(alpha.open(&host("beta"), Class::State)).await;
    assert!(refused.is_err());
    assert!(matches!(soon(far.recv()).await, Err(NetError::Lost { .. })));
}
