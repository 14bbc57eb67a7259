//! Planned handover, back and forth, under a load that reconnects.

use crate::lab::{Lab, RES, now};
use crate::writer::{Writer, read_all};

const SIZE: u64 = 8 << 20;

#[test]
fn ten_handovers_under_a_load_that_reconnects_lose_no_acknowledged_write() {
    let mut lab = Lab::new(&["alpha", "beta"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 77);
    for round in 0..10 {
        let (old, new) = (round % 2, (round + 1) % 2);
        let device = lab.device(old);
        let goal = writer.count() + 200;
        lab.runtime
            .block_on(writer.run(&device, |n| n < goal))
            .expect("write");
        lab.runtime.block_on(device.close()).expect("close");
        let started = now();
        lab.ok(new, &["primary", RES]);
        let device = lab.device(new);
        println!("handover {round}: {:?}", started.elapsed());
        let bytes = lab.runtime.block_on(read_all(&device)).expect("read");
        // Not only durable writes: a handover loses no acknowledged write at all.
        assert_eq!(writer.must_be_a_prefix(&bytes), goal);
        lab.runtime.block_on(device.close()).expect("close");
    }
    lab.wait_replayed(0, 1);
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}

#[test]
fn a_handover_while_the_device_is_open_is_refused_and_the_old_side_goes_on() {
    let lab = Lab::new(&["alpha", "beta"], SIZE);
    lab.replicate_everywhere();
    let device = lab.device(0);
    lab.wait("alpha counts the open device", || {
        lab.hosts[1]
            .key("resource-data/actual-alpha/open-count")
            .expect("key")
            .as_deref()
            == Some("1")
    });
    lab.refused(1, &["--timeout=3", "primary", RES]);
    let mut writer = Writer::new(SIZE, 5);
    lab.runtime
        .block_on(writer.run(&device, |n| n < 50))
        .expect("the old side goes on");
}
