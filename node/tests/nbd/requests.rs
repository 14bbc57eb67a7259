//! Every command, every flag, every error of a request.

use node::export::DeviceError;
use node::export::nbd_wire::{can, cmd, flag};

use crate::harness::{Bench, MIB, number, settle};
use crate::memory_device::MemoryDevice;

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;
const ESHUTDOWN: u32 = 108;

#[tokio::test]
async fn what_is_written_reads_back_at_any_alignment() {
    let bench = Bench::new();
    for mut client in [bench.open().await, bench.open_structured().await] {
        for (off, len) in [
            (0, 1),
            (1, 3),
            (511, 514),
            (4095, 2),
            (70_001, 100_003),
            (16 * MIB - 1, 1),
        ] {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + off) as u8).collect();
            assert_eq!(
                client
                    .call(cmd::WRITE, 0, off as u64, len as u32, &data)
                    .await,
                (0, vec![])
            );
            assert_eq!(
                client.call(cmd::READ, 0, off as u64, len as u32, &[]).await,
                (0, data.clone())
            );
            assert_eq!(bench.device.content(off, len), data);
        }
    }
}

#[tokio::test]
async fn the_largest_request_passes_in_both_directions() {
    let bench = Bench::with(MemoryDevice::new(33 * MIB));
    let mut client = bench.open().await;
    let data: Vec<u8> = (0..32 * MIB).map(|i| (i / 4096) as u8).collect();
    let len = data.len() as u32;
    assert_eq!(client.call(cmd::WRITE, 0, 5, len, &data).await, (0, vec![]));
    let (error, read) = client.call(cmd::READ, 0, 5, len, &[]).await;
    assert!(error == 0 && read == data);
}

#[tokio::test]
async fn flags_reach_the_device_as_they_were_meant() {
    let bench = Bench::new();
    let mut client = bench.open_structured().await;
    for (command, flags, data) in [
        (cmd::WRITE, 0, &[1; 512][..]),
        (cmd::WRITE, flag::FUA, &[1; 512]),
        (cmd::READ, flag::DF, &[]),
        (cmd::TRIM, 0, &[]),
        (cmd::TRIM, flag::FUA, &[]),
        (cmd::WRITE_ZEROES, 0, &[]),
        (cmd::WRITE_ZEROES, flag::NO_HOLE | flag::FUA, &[]),
        (cmd::CACHE, 0, &[]),
        (cmd::BLOCK_STATUS, flag::REQ_ONE, &[]),
    ] {
        assert_eq!(
            client.call(command, flags, 1024, 512, data).await.0,
            0,
            "command {command}"
        );
    }
    assert_eq!(client.call(cmd::FLUSH, 0, 0, 0, &[]).await.0, 0);
    assert_eq!(
        bench.device.calls().join(", "),
        "write 1024+512, write 1024+512 fua, read 1024+512, trim 1024+512, trim 1024+512 fua, \
         zero 1024+512 may trim, zero 1024+512 fua, cache 1024+512, map 1024+512, flush"
    );
}

#[tokio::test]
async fn fast_zeroing_is_offered_and_done_only_where_it_is_true() {
    let mut device = MemoryDevice::new(MIB);
    let mut client = Bench::with(device.clone()).open().await;
    assert_eq!(
        client
            .call(cmd::WRITE_ZEROES, flag::FAST_ZERO, 0, 512, &[])
            .await
            .0,
        ENOTSUP
    );

    device.zero_is_fast = true;
    let bench = Bench::with(device);
    let mut client = bench.connect();
    client.greet().await;
    let (size, flags) = client.go("data").await;
    assert_eq!((size, flags & can::FAST_ZERO), (MIB as u64, can::FAST_ZERO));
    assert_eq!(
        client
            .call(cmd::WRITE_ZEROES, flag::FAST_ZERO, 0, 512, &[])
            .await
            .0,
        0
    );
}

#[tokio::test]
async fn requests_beyond_the_end_are_refused_one_by_one() {
    let bench = Bench::new();
    let mut client = bench.open().await;
    let end = 16 * MIB as u64;
    for (off, len) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 5, 16)] {
        assert_eq!(client.call(cmd::READ, 0, off, len, &[]).await.0, EINVAL);
        let data = vec![0; len as usize];
        assert_eq!(client.call(cmd::WRITE, 0, off, len, &data).await.0, ENOSPC);
        assert_eq!(
            client.call(cmd::WRITE_ZEROES, 0, off, len, &[]).await.0,
            ENOSPC
        );
        assert_eq!(client.call(cmd::TRIM, 0, off, len, &[]).await.0, EINVAL);
        assert_eq!(client.call(cmd::CACHE, 0, off, len, &[]).await.0, EINVAL);
    }
    assert_eq!(bench.device.calls(), [""; 0]);
    assert_eq!(
        client.call(cmd::READ, 0, end - 1, 1, &[]).await,
        (0, vec![0])
    );
}

#[tokio::test]
async fn illegal_requests_are_refused_and_legal_ones_go_on() {
    let bench = Bench::new();
    let mut client = bench.open().await;
    for (command, flags, off, len) in [
        (cmd::READ, flag::DF, 0, 512),      // needs structured replies
        (cmd::READ, flag::NO_HOLE, 0, 512), // not for reads
        (cmd::READ, 1 << 9, 0, 512),        // unknown flag
        (cmd::READ, 0, 0, (32 << 20) + 1),  // too long
        (cmd::FLUSH, 0, 0, 512),            // has no range
        (cmd::BLOCK_STATUS, 0, 0, 512),     // not negotiated
        (8, 0, 0, 512),                     // unknown command
        (0xffff, 0, 0, 512),
    ] {
        assert_eq!(
            client.call(command, flags, off, len, &[]).await.0,
            EINVAL,
            "command {command}"
        );
    }
    assert_eq!(bench.device.calls(), [""; 0]);
    assert_eq!(client.call(cmd::READ, 0, 0, 0, &[]).await, (0, vec![]));
    assert_eq!(client.call(cmd::WRITE, 0, 0, 0, &[]).await, (0, vec![]));
    assert_eq!(
        bench.device.calls(),
        [""; 0],
        "empty ranges do not reach the device"
    );
    let mut client = bench.open_structured().await;
    assert_eq!(client.call(cmd::BLOCK_STATUS, 0, 0, 0, &[]).await.0, EINVAL);
    assert_eq!(
        client.call(cmd::READ, flag::DF, 0, 0, &[]).await,
        (0, vec![])
    );
}

#[tokio::test]
async fn a_write_that_is_too_long_is_refused_and_its_data_passes_by() {
    let bench = Bench::with(MemoryDevice::new(64 * MIB));
    let mut client = bench.open().await;
    let data = vec![1; 32 * MIB + 1];
    assert_eq!(
        client
            .call(cmd::WRITE, 0, 0, data.len() as u32, &data)
            .await
            .0,
        EINVAL
    );
    assert_eq!(client.call(cmd::READ, 0, 0, 1, &[]).await, (0, vec![0]));
}

#[tokio::test]
async fn a_read_only_device_refuses_changes_by_itself() {
    let mut device = MemoryDevice::new(MIB);
    device.read_only = true;
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    assert_eq!(client.call(cmd::WRITE, 0, 0, 512, &[1; 512]).await.0, EPERM);
    assert_eq!(client.call(cmd::TRIM, 0, 0, 512, &[]).await.0, EPERM);
    assert_eq!(
        client.call(cmd::WRITE_ZEROES, 0, 0, 512, &[]).await.0,
        EPERM
    );
    assert_eq!(client.call(cmd::FLUSH, 0, 0, 0, &[]).await.0, 0);
    assert_eq!(bench.device.calls(), ["flush"]);
}

#[tokio::test]
async fn each_error_of_the_device_has_its_number_and_concerns_one_request() {
    let bench = Bench::new();
    let mut simple = bench.open().await;
    let mut structured = bench.open_structured().await;
    for (error, number) in [
        (DeviceError::Io("bad sector".into()), EIO),
        (DeviceError::NoSpace("/mars is full".into()), ENOSPC),
        (DeviceError::ReadOnly, EPERM),
        (DeviceError::Invalid("no".into()), EINVAL),
        (DeviceError::ShuttingDown, ESHUTDOWN),
        (DeviceError::TooLarge("no".into()), EOVERFLOW),
        (DeviceError::Unsupported("no".into()), ENOTSUP),
    ] {
        let text = error.to_string().into_bytes();
        bench.device.fail_next(error.clone());
        assert_eq!(
            simple.call(cmd::READ, 0, 0, 512, &[]).await,
            (number, vec![])
        );
        bench.device.fail_next(error.clone());
        assert_eq!(
            simple.call(cmd::WRITE, 0, 0, 512, &[1; 512]).await,
            (number, vec![])
        );
        bench.device.fail_next(error.clone());
        assert_eq!(
            structured.call(cmd::READ, 0, 0, 512, &[]).await,
            (number, text.clone())
        );
        bench.device.fail_next(error);
        assert_eq!(
            structured.call(cmd::BLOCK_STATUS, 0, 0, 512, &[]).await,
            (number, text)
        );
        assert_eq!(simple.call(cmd::READ, 0, 0, 1, &[]).await.0, 0);
    }
}

#[tokio::test]
async fn block_status_tells_holes_from_data() {
    let bench = Bench::new();
    let mut client = bench.open_structured().await;
    client.call(cmd::WRITE, 0, 8192, 8192, &[1; 8192]).await;
    let (error, all) = client.call(cmd::BLOCK_STATUS, 0, 4096, 16384, &[]).await;
    let words: Vec<u64> = all.chunks(4).map(number).collect();
    assert_eq!((error, words), (0, vec![4096, 3, 8192, 0, 4096, 3]));
    let (error, one) = client
        .call(cmd::BLOCK_STATUS, flag::REQ_ONE, 9000, 16384, &[])
        .await;
    let words: Vec<u64> = one.chunks(4).map(number).collect();
    assert_eq!((error, words), (0, vec![16384 - 9000, 0]));
}

#[tokio::test]
async fn a_slow_request_does_not_hold_up_those_behind_it() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    for off in 0..3 {
        client.ask(cmd::READ, 0, off, 1, &[]).await;
    }
    // Refused by the server itself, so it is not kept waiting by the gate.
    client.ask(cmd::READ, 0, 4 << 20, 1, &[]).await;
    let reply = client.reply(0).await;
    assert_eq!((reply.cookie, reply.error), (4 << 20, EINVAL));
    gate.add_permits(3);
    let mut cookies = Vec::new();
    for _ in 0..3 {
        cookies.push(client.reply(1).await.cookie);
    }
    cookies.sort_unstable();
    assert_eq!(cookies, [0, 1, 2]);
}

#[tokio::test]
async fn hundreds_of_requests_sent_at_once_are_each_answered_once() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    const COUNT: u64 = 3000; // more than may be under way
    let (mut receiver, mut sender) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        for off in 0..COUNT {
            let request = crate::harness::request_bytes(cmd::WRITE, 0, off, off, 1);
            tokio::io::AsyncWriteExt::write_all(&mut sender, &request)
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut sender, &[off as u8])
                .await
                .unwrap();
        }
        sender
    });
    gate.add_permits(COUNT as usize + 1);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..COUNT {
        let mut reply = [0; 16];
        crate::harness::soon(
            "reply",
            tokio::io::AsyncReadExt::read_exact(&mut receiver, &mut reply),
        )
        .await
        .unwrap();
        assert_eq!(number(&reply[4..8]), 0);
        assert!(seen.insert(number(&reply[8..])), "answered twice");
    }
    client.stream = receiver.unsplit(sending.await.unwrap());
    assert_eq!(client.call(cmd::READ, 0, 77, 1, &[]).await.0, 0);
}

#[tokio::test]
async fn writes_nobody_finishes_are_taken_up_only_as_far_as_memory_is_meant_for_them() {
    let (device, gate) = MemoryDevice::new(MIB).gated();
    let bench = Bench::with(device);
    let mut client = bench.open().await;
    let (mut receiver, mut sender) = tokio::io::split(std::mem::replace(
        &mut client.stream,
        tokio::io::duplex(1).0,
    ));
    let sending = tokio::spawn(async move {
        for cookie in 0..100 {
            let request = crate::harness::request_bytes(cmd::WRITE, 0, cookie, 0, MIB as u32);
            tokio::io::AsyncWriteExt::write_all(&mut sender, &request)
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut sender, &vec![1; MIB])
                .await
                .unwrap();
        }
        sender
    });
    assert_eq!(bench.until_asked(48).await.len(), 48);
    settle().await;
    assert_eq!(
        bench.device.calls(),
        [""; 0],
        "more than 48 MiB were taken up"
    );
    gate.add_permits(100);
    let mut replies = vec![0; 100 * 16];
    crate::harness::soon(
        "replies",
        tokio::io::AsyncReadExt::read_exact(&mut receiver, &mut replies),
    )
    .await
    .unwrap();
    assert_eq!(bench.device.calls().len(), 52);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn reads_nobody_takes_are_taken_up_only_as_far_as_memory_is_meant_for_them() {
    let bench = Bench::new();
    let mut client = bench.open().await;
    for _ in 0..100 {
        client.ask(cmd::READ, 0, 0, MIB as u32, &[]).await;
    }
    let asked = bench.until_asked(48).await.len();
    settle().await;
    let asked = asked + bench.device.calls().len();
    assert!(
        asked <= 49,
        "{asked} reads were begun for a client that takes nothing"
    );
    for _ in 0..100 {
        assert_eq!(client.reply(MIB).await.error, 0);
    }
}
