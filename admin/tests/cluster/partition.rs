//! Cuts, delays and losses between hosts; split brain and its healing.

use std::time::Duration;

use crate::lab::{Lab, RES};
use crate::writer::{Writer, read_all};

const SIZE: u64 = 8 << 20;

#[test]
fn writing_goes_on_through_cuts_and_delays_and_all_replicas_catch_up() {
    let mut lab = Lab::behind_proxies(&["alpha", "beta", "gamma"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 3);
    let device = lab.device(0);
    let mut write = |lab: &Lab, writes: usize| {
        let goal = writer.count() + writes;
        lab.runtime
            .block_on(writer.run(&device, |n| n < goal))
            .expect("the application goes on");
        lab.runtime.block_on(writer.flush(&device)).expect("flush");
        writer.picture(writer.count())
    };
    let proxies = lab.proxies.as_ref().expect("proxies");
    proxies.worsen(Duration::from_millis(40), 20);
    write(&lab, 300);
    proxies.cut(0, 1);
    write(&lab, 300);
    proxies.cut(0, 2);
    proxies.cut(1, 2);
    write(&lab, 300);
    proxies.heal();
    let want = write(&lab, 300);
    for i in [1, 2] {
        lab.wait_replayed(0, i);
        lab.wait_up_to_date(i);
    }
    lab.runtime.block_on(device.clone().close()).expect("close");
    lab.stop_and_compare(&want);
}

#[test]
fn writes_on_both_sides_of_a_cut_are_a_split_brain_that_all_see_and_invalidate_heals() {
    let mut lab = Lab::behind_proxies(&["alpha", "beta", "gamma"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 4);
    let device = lab.device(0);
    lab.runtime
        .block_on(writer.run(&device, |n| n < 200))
        .expect("write");
    lab.runtime.block_on(writer.flush(&device)).expect("flush");
    lab.wait_replayed(0, 1);
    lab.wait_replayed(0, 2);
    isolate(&lab, 0);
    lab.runtime
        .block_on(writer.run(&device, |n| n < 300))
        .expect("write at alpha");
    lab.runtime.block_on(device.close()).expect("close");
    // Beta does not know those hundred writes; its history forks off at 200.
    lab.refused(1, &["--timeout=5", "primary", RES]);
    lab.ok(1, &["pause-fetch", RES]);
    lab.ok(1, &["primary", "--force", RES]);
    let mut forked = Writer::new(SIZE, 4);
    let device = lab.device(1);
    let bytes = lab.runtime.block_on(read_all(&device)).expect("read");
    forked_history(&mut forked, &bytes);
    lab.runtime
        .block_on(forked.run(&device, |n| n < 350))
        .expect("write at beta");
    lab.runtime.block_on(forked.flush(&device)).expect("flush");
    lab.runtime.block_on(device.close()).expect("close");
    lab.proxies.as_ref().expect("proxies").heal();
    for i in 0..3 {
        lab.wait(
            &format!("{} sees the split brain", lab.hosts[i].name()),
            || {
                let ran = lab.hosts[i].marsadm(&["view", RES]).expect("view");
                (ran.stdout + &ran.stderr).to_lowercase().contains("split")
            },
        );
    }
    // Alpha steps down by itself; until then it may not be invalidated.
    lab.wait("alpha is no primary any more", || {
        let key = format!("resource-{RES}/actual-alpha/is-primary");
        lab.hosts[0].key(&key).expect("read key").as_deref() == Some("0")
    });
    lab.ok(0, &["invalidate", RES]);
    lab.wait_up_to_date(0);
    lab.wait_up_to_date(2);
    lab.wait_replayed(1, 0);
    lab.wait_replayed(1, 2);
    let want = forked.picture(forked.count());
    lab.stop_and_compare(&want);
}

/// Cuts host `i` off from all others.
fn isolate(lab: &Lab, i: usize) {
    let proxies = lab.proxies.as_ref().expect("proxies");
    for other in (0..lab.hosts.len()).filter(|o| *o != i) {
        proxies.cut(i, other);
    }
}

/// Brings `writer` (same seed as the one before the fork) to where the device `bytes` is: 200 writes.
fn forked_history(writer: &mut Writer, bytes: &[u8]) {
    writer.repeat(200);
    assert_eq!(writer.must_be_a_prefix(bytes), 200);
}
