//! `kill -9` at random moments under a writer that knows its promises.

use std::time::Duration;

use crate::lab::{Lab, now};
use crate::writer::{Writer, read_all};

const SIZE: u64 = 8 << 20;

/// How many rounds; `MARS_KILL_ROUNDS` changes it.
fn rounds() -> usize {
    std::env::var("MARS_KILL_ROUNDS")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(100)
}

#[test]
fn a_hundred_kills_of_primary_and_secondaries_lose_nothing_that_was_durable() {
    let mut lab = Lab::new(&["alpha", "beta", "gamma"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 0x006d_6172_735f_6b69);
    let mut lost = 0;
    for round in 0..rounds() {
        let victim = [0, 0, 1, 2][writer.chance() as usize % 4];
        let moment = Duration::from_millis(20 + writer.chance() % 300);
        lost += kill_round(&mut lab, &mut writer, victim, moment);
        if round % 20 == 19 {
            check_replicas(&lab, &mut writer);
        }
    }
    println!("{} writes, {lost} not durable ones lost", writer.count());
    check_replicas(&lab, &mut writer);
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}

/// Writes until the victim is killed, restarts it, and looks at the device. Returns how many writes
/// (none of them durable) were lost.
fn kill_round(lab: &mut Lab, writer: &mut Writer, victim: usize, moment: Duration) -> usize {
    let device = lab.device(0);
    let deadline = now() + moment;
    let runtime = lab.runtime.handle().clone();
    let host = &mut lab.hosts[victim];
    std::thread::scope(|s| {
        let killer = s.spawn(move || {
            std::thread::sleep(moment);
            host.kill().expect("kill");
        });
        let until = deadline + Duration::from_millis(50);
        let ended = runtime.block_on(writer.run(&device, |_| now() < until));
        killer.join().expect("killer");
        assert!(
            victim == 0 || ended.is_ok(),
            "the death of a secondary reached the application: {ended:?}"
        );
    });
    drop(device);
    lab.hosts[victim].start().expect("restart");
    let device = lab.device(0);
    let before = writer.count();
    let bytes = lab
        .runtime
        .block_on(read_all(&device))
        .expect("read the device");
    let survived = writer.must_be_a_prefix(&bytes);
    assert!(
        victim == 0 || survived == before,
        "the death of a secondary lost writes"
    );
    before - survived
}

/// All replicas catch up without any command.
fn check_replicas(lab: &Lab, writer: &mut Writer) {
    let device = lab.device(0);
    lab.runtime.block_on(writer.flush(&device)).expect("flush");
    for i in 1..lab.hosts.len() {
        lab.wait_replayed(0, i);
        lab.wait_up_to_date(i);
    }
}
