//! Two and three real daemons in one process: keys in, replicated bytes out.

#![expect(clippy::panic, reason = "a failed check ends the test and says why")]

mod lab;

use lab::Lab;

const MIB: u64 = 1 << 20;

fn trace() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .try_init();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_at_the_primary_reaches_the_secondary() {
    trace();
    let mut lab = Lab::resource(&["alpha", "beta"], "data", 16 * MIB).await;
    lab.write(0, "data", MIB, vec![9; 65536]).await;
    lab.until_equal(1, "data", MIB, &[9; 65536]).await;
    lab.stop(1).await;
    lab.stop(0).await;
    assert!(lab.disk_has(0, MIB, &[9; 65536]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_goes_there_and_back_and_nothing_is_lost() {
    trace();
    let lab = Lab::resource(&["alpha", "beta"], "data", 16 * MIB).await;
    for round in 1..4u8 {
        let offset = u64::from(round) * MIB;
        lab.write(0, "data", offset, vec![round; 4096]).await;
        lab.hand_over(0, 1, "data").await;
        assert!(lab.disk_has(1, offset, &vec![round; 4096]));
        lab.write(1, "data", offset + 8192, vec![round + 100; 4096])
            .await;
        lab.hand_over(1, 0, "data").await;
        assert!(lab.disk_has(0, offset + 8192, &vec![round + 100; 4096]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_gives_every_host_its_role_back() {
    trace();
    let mut lab = Lab::resource(&["alpha", "beta"], "data", 16 * MIB).await;
    lab.write(0, "data", MIB, vec![2; 4096]).await;
    lab.crash(0);
    lab.start(0).await;
    lab.until_primary(0, "data").await;
    lab.write(0, "data", 2 * MIB, vec![3; 4096]).await;
    lab.until_equal(1, "data", 2 * MIB, &[3; 4096]).await;
    lab.crash(1);
    lab.write(0, "data", 3 * MIB, vec![4; 4096]).await;
    lab.start(1).await;
    lab.until_equal(1, "data", 3 * MIB, &[4; 4096]).await;
    assert!(lab.disk_has(1, MIB, &[2; 4096]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_of_a_cut_cluster_are_seen_by_all_and_invalidate_heals() {
    trace();
    let mut lab = Lab::resource(&["alpha", "beta", "gamma"], "data", 16 * MIB).await;
    lab.crash(1);
    lab.crash(2);
    lab.write(0, "data", MIB, vec![2; 4096]).await;
    lab.crash(0);
    lab.start(1).await;
    lab.start(2).await;
    lab.force(1, "data").await;
    lab.write(1, "data", 2 * MIB, vec![3; 4096]).await;
    lab.until_equal(2, "data", 2 * MIB, &[3; 4096]).await;
    lab.start(0).await;
    for nr in 0..3 {
        lab.until(&format!("{nr} sees that alpha is in split brain"), |lab| {
            lab.sees_split_brain(nr, 0, "data")
        })
        .await;
    }
    assert!(
        !lab.disk_has(0, 2 * MIB, &[3; 4096]),
        "nobody follows a fork"
    );
    lab.invalidate(0, 1, "data").await;
    lab.until_equal(0, "data", 2 * MIB, &[3; 4096]).await;
    assert!(lab.disk_has(0, MIB, &[0; 4096]), "the dead branch is gone");
    lab.write(1, "data", 3 * MIB, vec![5; 4096]).await;
    lab.until_equal(0, "data", 3 * MIB, &[5; 4096]).await;
    lab.until_equal(2, "data", 3 * MIB, &[5; 4096]).await;
    lab.until("alpha is well", |lab| !lab.sees_split_brain(2, 0, "data"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_on_one_host_is_seen_on_all_others() {
    trace();
    let lab = Lab::cluster(&["alpha", "beta", "gamma"]).await;
    for nr in 0..3 {
        lab.until("all are connected", |lab| {
            lab.daemon(nr).node().hub().facts().connected.len() == 2
        })
        .await;
    }
    let mut times = Vec::new();
    for round in 0..100 {
        let value = round.to_string();
        let begin = tokio::time::Instant::now();
        lab.set(0, &[("userspace/test", &value)]).await;
        while lab.get(2, "userspace/test").as_ref() != Some(&value) {
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
        times.push(begin.elapsed());
    }
    times.sort();
    eprintln!(
        "seen on another host: p50 {:?}, p99 {:?}",
        times[50], times[98]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_space_the_application_goes_on_and_the_replicas_know_it() {
    trace();
    let mut lab = Lab::resource(&["alpha", "beta"], "data", 16 * MIB).await;
    lab.write(0, "data", MIB, vec![2; 4096]).await;
    lab.until_equal(1, "data", MIB, &[2; 4096]).await;
    // The application keeps the device open all the time.
    let device = lab.daemon(0).node().exports().look("data").expect("device");
    let write = |offset: u64, byte: u8| {
        let device = device.clone();
        async move {
            let data = bytes::Bytes::from(vec![byte; 4096]);
            device
                .write(offset, data, false)
                .wait()
                .await
                .expect("written");
            device.flush().wait().await.expect("flushed");
            let found = device.read(offset, 4096).wait().await.expect("read");
            assert_eq!(found[0], byte);
        }
    };
    let limit = "resource-data/todo-alpha/emergency-limit";
    lab.set(0, &[(limit, "100")]).await;
    write(2 * MIB, 3).await;
    let emergency = "resource-data/actual-alpha/is-emergency";
    lab.until("logging has ceased", |lab| {
        lab.get(1, emergency).as_deref() == Some("1")
    })
    .await;
    write(3 * MIB, 4).await;
    lab.until("it is on the disk", |lab| {
        lab.disk_has(0, 3 * MIB, &[4; 4096])
    })
    .await;
    // A crash in this state must not hide that writes went past the log.
    drop(device);
    lab.crash(0);
    lab.start(0).await;
    lab.set(0, &[(limit, "0")]).await;
    lab.until_primary(0, "data").await;
    lab.until("logging has begun again", |lab| {
        lab.get(1, emergency).as_deref() == Some("0")
    })
    .await;
    lab.write(0, "data", 4 * MIB, vec![5; 4096]).await;
    lab.until("beta sees the hole", |lab| {
        lab.get(0, "resource-data/actual-beta/msg-err-log-not-contiguous")
            .is_some_and(|text| text != "OK")
    })
    .await;
    assert!(
        !lab.disk_has(1, 3 * MIB, &[4; 4096]),
        "a hole is never crossed"
    );
    lab.invalidate(1, 0, "data").await;
    lab.until_equal(1, "data", 3 * MIB, &[4; 4096]).await;
    lab.until_equal(1, "data", 4 * MIB, &[5; 4096]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_has_left_gets_nothing_until_it_joins_again() {
    trace();
    let mut lab = Lab::cluster(&["alpha", "beta", "gamma"]).await;
    lab.set(0, &[("userspace/word", "before")]).await;
    let word = |lab: &Lab, nr: usize| lab.get(nr, "userspace/word");
    lab.until("all know it", |lab| {
        (0..3).all(|nr| word(lab, nr).as_deref() == Some("before"))
    })
    .await;
    lab.leave(2).await;
    lab.until("the others note it", |lab| {
        (0..2).all(|nr| lab.get(nr, "ips/left-gamma").is_some())
    })
    .await;
    // Its certificate still holds; it even remembers where the others are.
    lab.crash(2);
    lab.start(2).await;
    lab.set(0, &[("userspace/word", "after")]).await;
    lab.until("beta knows it", |lab| {
        word(lab, 1).as_deref() == Some("after")
    })
    .await;
    lab.set(2, &[("userspace/intruder", "gamma")]).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(word(&lab, 2).as_deref(), Some("before"), "it gets nothing");
    assert_eq!(lab.get(0, "userspace/intruder"), None, "and brings nothing");
    lab.crash(2);
    lab.join_again(2).await;
    lab.until("it is one of them", |lab| {
        word(lab, 2).as_deref() == Some("after") && lab.get(1, "ips/left-gamma").is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_for_logs_is_set_and_lifted_while_the_daemons_run() {
    trace();
    let lab = Lab::resource(&["alpha", "beta"], "data", 16 * MIB).await;
    // The first bytes go at once and are paid for later: at 1 KiB/s that takes minutes.
    lab.set(0, &[("defaults/log-ratelimit-kb", "1")]).await;
    lab.write(0, "data", MIB, vec![7; 512 << 10]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    lab.write(0, "data", 8 * MIB, vec![8; 4096]).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!lab.disk_has(1, 8 * MIB, &[8; 4096]), "not limited");
    let stats = lab.daemon(0).node().hub().network();
    let sent = |class: &str| {
        let (_, peer) = stats.first_key_value().expect("it knows beta");
        peer.classes[class].sent_bytes
    };
    assert!(sent("log") > 0 && sent("state") > 0, "{stats:?}");
    lab.set(0, &[("defaults/log-ratelimit-kb", "0")]).await;
    lab.until_equal(1, "data", 8 * MIB, &[8; 4096]).await;
}
