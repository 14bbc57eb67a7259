//! A host that others can call, but that reaches nobody itself: the other one calls it then.

use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

fn hears_of_beta(w: &World) -> bool {
    let node = w.host("alpha").node().expect("runs");
    let facts = node.hub().gossip().facts();
    facts.borrow().connected.contains("beta")
}

#[test]
fn who_cannot_call_is_called_again_when_a_session_has_ended() {
    story(4200, async |w| {
        let _app = pair(w, DEVICE_BYTES).await;
        assert!(w.run_until(minutes(1), hears_of_beta).await);
        let [alpha, beta] = ["alpha", "beta"].map(|name| w.host(name).name.clone());
        w.net.forbid_calls(&alpha);
        w.net.reset(&alpha, &beta);
        assert!(w.run_until(seconds(5), |w| !hears_of_beta(w)).await);
        assert!(
            w.run_until(seconds(10), hears_of_beta).await,
            "beta does not call"
        );
    });
}
