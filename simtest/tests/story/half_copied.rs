//! A replica is copied over a slow line. What is not there yet is never taken for complete: neither the part behind a gap, nor
//! a copy whose blocks are from different times while the logs between them are missing (invariants 33, 34 and 36).

use simtest::host::SimHost;
use simtest::net::Link;
use simtest::world::World;
use storage::io::{Fs, OpenHow, write_at};

use crate::story::{seconds, story};

fn slow(w: &World, link: Link) {
    let (alpha, beta) = (&w.host("alpha").name, &w.host("beta").name);
    w.net.set_link(alpha, beta, link);
    w.net.set_link(beta, alpha, link);
}

fn copied(w: &World, name: &str) -> u64 {
    let node = w.host(name).node().expect("runs");
    let tree = node.keys().read();
    let text = tree.text(&format!("resource-data/syncstatus-{name}"));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Several chunks of a copy.
const LARGE_BYTES: u64 = 12 << 20;

#[test]
fn a_copy_that_is_interrupted_goes_on_before_its_first_gap() {
    story(2740, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", LARGE_BYTES, &["alpha"]).await;
        let disk = SimHost::disk_path("data");
        let fs = w.host("beta").fs.clone();
        fs.make_disk(&disk, LARGE_BYTES);
        // Whatever was there before: the beginning differs, the rest is equal by chance.
        let file = fs.open(&disk, OpenHow::CreateOrOpen).expect("a disk");
        write_at(&*file, &vec![7; 1 << 20], 0).expect("written");
        file.flush().expect("flushed");
        drop(file);
        slow(
            w,
            Link {
                bandwidth: 64 << 10,
                ..Link::default()
            },
        );
        let join = format!("marsadm join-resource data {} --timeout=60", disk.display());
        w.must("beta", &join).await;
        w.run_for(seconds(8)).await;
        assert_eq!(copied(w, "beta"), 0, "the first part is still on its way");
        w.type_at("beta", "marsadm pause-sync data").await;
        w.run_for(seconds(5)).await;
        w.net.heal();
        w.must("beta", "marsadm resume-sync data").await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
