//! Somebody has deleted or changed by hand what a host says about its own logs. It knows better from the logs themselves,
//! and says it again when it starts (lessons A-T5, A-T6).

use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

/// The newest version link of alpha, as beta knows it: key and value.
fn newest_link(w: &World) -> (String, String) {
    let tree = w.host("beta").node().expect("it runs").keys().read();
    let links = tree.texts("resource-data/version-");
    let own = links.filter(|(path, _)| path.as_str().ends_with("-alpha"));
    let (path, text) = own.last().expect("a link");
    (path.to_string(), text.to_owned())
}

fn corrected(command: impl Fn(&str, &str) -> String) {
    for seed in 2630..2633 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.stop("alpha").await;
            w.run_for(seconds(5)).await;
            let (path, text) = newest_link(w);
            w.must("beta", &command(&path, &text)).await;
            w.start("alpha").await.expect("starts again");
            let again = |w: &World| {
                let tree = w.host("beta").node().expect("it runs").keys().read();
                tree.text(&path) == Some(text.as_str())
            };
            assert!(
                w.run_until(minutes(1), again).await,
                "{}",
                w.explain("data")
            );
            w.run_for(seconds(20)).await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

#[test]
fn an_own_link_that_was_deleted_is_made_again_from_the_log() {
    corrected(|path, _| format!("mars tree del {path}"));
}

#[test]
fn an_own_link_that_was_changed_is_not_believed() {
    corrected(|path, text| {
        let digest = if text.starts_with('0') { "1" } else { "0" };
        format!("mars tree set {path} {digest}{}", &text[1..])
    });
}
