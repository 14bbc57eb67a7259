//! Four hosts, each as late as its operator wants it, or as the network makes it. Nobody's delay concerns anybody else, and
//! the logs are kept for the slowest (requirements L-C6 and L-C7; lessons C-T9, C-T11; invariants 16 and 25).

use simtest::app::App;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, seconds, story};

const ALL: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

async fn four(w: &mut World) -> App {
    w.configure(|config| {
        config.rotate_bytes = 64 << 10;
        config.keep_logs = seconds(5);
    });
    w.cluster(&ALL).await.expect("cluster");
    w.resource("data", DEVICE_BYTES, &ALL).await;
    let app = w.app("data", DEVICE_BYTES);
    app.work();
    for name in &ALL[1..] {
        w.up_to_date(name, "data", minutes(5))
            .await
            .expect("up to date");
    }
    app
}

#[test]
fn three_secondaries_with_three_delays_are_three_past_states() {
    story(2650, async |w| {
        let app = four(w).await;
        w.must("gamma", "marsadm pause-replay data").await;
        w.run_for(seconds(20)).await;
        w.must("delta", "marsadm pause-fetch data").await;
        w.must("delta", "marsadm pause-replay data").await;
        w.run_for(minutes(1)).await;
        app.rest();
        assert!(w.run_until(minutes(1), |_| app.is_closed()).await);
        w.run_for(seconds(20)).await;
        let states = ["beta", "gamma", "delta"].map(|name| {
            let state = app.recognize(&w.host(name).disk("data"));
            state.unwrap_or_else(|why| panic!("{name} is no past state: {why}"))
        });
        assert!(states[0] > states[2] && states[2] > states[1], "{states:?}");
        for name in ["gamma", "delta"] {
            w.must(name, "marsadm up data").await;
        }
        w.must_be_equal("data", &ALL).await;
    });
}

#[test]
fn with_each_link_cut_in_turn_everybody_follows_by_another_way() {
    story(2651, async |w| {
        let app = four(w).await;
        for (a, b) in [
            ("alpha", "beta"),
            ("alpha", "gamma"),
            ("alpha", "delta"),
            ("beta", "delta"),
        ] {
            w.cut(a, b);
            w.run_for(seconds(30)).await;
            app.rest();
            assert!(w.run_until(minutes(1), |_| app.is_closed()).await);
            w.run_for(minutes(1)).await;
            let newest = w.host("beta").disk("data");
            for name in &ALL[1..] {
                assert!(w.host(name).disk("data") == newest, "{name}, cut {a} {b}");
            }
            w.net.heal();
            app.work();
        }
        w.must_be_equal("data", &ALL).await;
    });
}
