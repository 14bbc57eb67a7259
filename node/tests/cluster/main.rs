//! Two and three real daemons in one process: keys in, replicated bytes out.

mod lab;

use lab::Lab;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_at_the_primary_reaches_the_secondary() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    let mut lab = Lab::cluster(&["alpha", "beta"]).await;
    lab.create(0, "data", 16 * MIB).await;
    lab.until("the device is there", |lab| {
        lab.daemon(0).node().exports().look("data").is_ok()
    })
    .await;
    lab.write(0, "data", 4096, vec![7; 8192]).await;
    lab.join_resource(1, 0, "data", 16 * MIB).await;
    lab.until("synced", |lab| {
        lab.get(0, "resource-data/syncstatus-beta").as_deref() == Some("16777216")
    })
    .await;
    lab.until("the first write is there", |lab| {
        lab.disk_has(1, 4096, &[7; 8192])
    })
    .await;
    lab.write(0, "data", MIB, vec![9; 65536]).await;
    lab.until("the second write is there", |lab| {
        lab.disk_has(1, MIB, &[9; 65536])
    })
    .await;
    lab.stop(1).await;
    lab.stop(0).await;
    assert!(lab.disk_has(0, MIB, &[9; 65536]));
}
