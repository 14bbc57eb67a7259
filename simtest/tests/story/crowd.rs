//! Forty hosts: one of them was away while many keys were set, and is not told all of them by everybody.

use node::ports::Keys;
use simtest::many;
use simtest::world::World;
use tree::Path;

use crate::story::{minutes, seconds, story};

const HOSTS: usize = 40;
const KEYS: usize = 2000;

fn has_exchanged(w: &World, name: &str) -> usize {
    let node = w.host(name).node();
    node.map_or(0, |node| {
        node.hub().gossip().facts().borrow().exchanged.len()
    })
}

fn knows(w: &World, name: &str, key: &str) -> bool {
    let node = w.host(name).node();
    node.is_some_and(|node| node.keys().read().text(key).is_some())
}

#[test]
fn a_host_that_was_away_is_not_told_the_same_by_all_of_many_peers() {
    story(4100, async |w| {
        w.crowd(HOSTS).await.expect("a cluster");
        let names = (0..HOSTS).map(|nr| many::name(nr).expect("a name").to_string());
        let names: Vec<String> = names.collect();
        let away = names[HOSTS - 1].as_str();
        let all_met = |w: &World| names.iter().all(|name| has_exchanged(w, name) == HOSTS - 1);
        assert!(w.run_until(minutes(1), all_met).await, "not all have met");
        w.stop(away).await;
        let path = |nr: usize| Path::new(&format!("userspace/crowd/key-{nr:04}")).expect("a path");
        let changes = (0..KEYS).map(|nr| (path(nr), Some("some value of usual length".to_owned())));
        let keys = w.host(&names[0]).node().expect("runs").keys().clone();
        keys.commit(changes.collect()).await.expect("stored");
        let last = path(KEYS - 1).to_string();
        let others = &names[..HOSTS - 1];
        let all_know = |w: &World| others.iter().all(|name| knows(w, name, &last));
        assert!(w.run_until(minutes(1), all_know).await, "not all know");
        w.run_for(seconds(10)).await;

        let before = w.net.counts().bytes;
        w.start(away).await.expect("starts again");
        let met = |w: &World| has_exchanged(w, away) == HOSTS - 1;
        assert!(w.run_until(minutes(1), met).await, "it has not met all");
        assert!(knows(w, away, &last), "it does not know the keys");
        let each = (w.net.counts().bytes - before) / KEYS as u64;
        // 7,078 when 16 peers are asked at once, 16,586 when all 39 are.
        assert!(each < 10_000, "{each} bytes for each key");
    });
}
