//! Does everybody know the same in the end, whatever the network does on the way?

mod common;

use common::{Cluster, Node, host, path};
use proptest::prelude::*;
use tree::collect::FORGET_AFTER_NS;
use tree::knowledge::Saved;
use tree::repair::{NodeIs, answer};
use tree::trie::TrieNode;
use tree::*;

/// What may happen in a cluster.
#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        key: usize,
        value: Option<u8>,
        stamp_ns: Option<u64>,
    },
    Deliver {
        which: usize,
        again: bool,
    },
    Lose {
        which: usize,
    },
    Exchange {
        from: usize,
        to: usize,
        max: usize,
        rounds: usize,
    },
    Collect {
        at: usize,
    },
    Repair {
        asker: usize,
        other: usize,
    },
}

const HOSTS: usize = 3;

fn steps(with_collection: bool) -> impl Strategy<Value = Vec<Step>> {
    // A write stamped older than a deletion which only some have forgotten is a case for the trie.
    let stamp =
        prop::option::weighted(0.2, 0u64..3).prop_map(move |ns| ns.filter(|_| !with_collection));
    let write = (
        0..HOSTS,
        0usize..6,
        prop::option::weighted(0.7, any::<u8>()),
        stamp,
    )
        .prop_map(|(at, key, value, stamp_ns)| Step::Write {
            at,
            key,
            value,
            stamp_ns,
        });
    let deliver =
        (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Step::Deliver { which, again });
    let lose = any::<usize>().prop_map(|which| Step::Lose { which });
    let exchange =
        (0..HOSTS, 0..HOSTS, 1usize..4, 1usize..3).prop_map(|(from, to, max, rounds)| {
            Step::Exchange {
                from,
                to,
                max,
                rounds,
            }
        });
    let collect = (0..HOSTS).prop_map(|at| Step::Collect { at });
    let repair = (0..HOSTS, 0..HOSTS).prop_map(|(asker, other)| Step::Repair { asker, other });
    let weight = if with_collection { 2 } else { 0 };
    let any = prop_oneof![
        6 => write, 6 => deliver, 2 => lose, 3 => exchange, weight => collect, 1 => repair
    ];
    prop::collection::vec(any, 0..60)
}

fn run(cluster: &mut Cluster, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Write {
                at,
                key,
                value,
                stamp_ns,
            } => {
                let value = value.map(|v| v.to_string());
                cluster.write(at, &format!("userspace/{key}"), value.as_deref(), stamp_ns);
            }
            Step::Deliver { which, again } => cluster.deliver(which, again),
            Step::Lose { which } => cluster.lose(which),
            Step::Exchange {
                from,
                to,
                max,
                rounds,
            } if from != to => {
                cluster.exchange(from, to, max, rounds);
            }
            Step::Collect { at } => hear_all_and_collect(cluster, at),
            Step::Repair { asker, other } if asker != other => drop(cluster.repair(asker, other)),
            Step::Exchange { .. } | Step::Repair { .. } => {}
        }
    }
}

/// Host `at` talks with all others and then forgets what it may, while old pushes are still under way.
fn hear_all_and_collect(cluster: &mut Cluster, at: usize) {
    for other in (0..HOSTS).filter(|other| *other != at) {
        cluster.exchange(other, at, 3, usize::MAX);
        cluster.exchange(at, other, 3, usize::MAX);
    }
    cluster.wall_ns += FORGET_AFTER_NS + 1;
    cluster.collect(at, u64::MAX);
}

fn check_all_agree(cluster: &Cluster) -> Result<(), TestCaseError> {
    for at in 0..cluster.nodes.len() {
        let knowledge = &cluster.nodes[at].knowledge;
        prop_assert_eq!(cluster.live(at), cluster.expected_live(), "host {}", at);
        prop_assert_eq!(
            knowledge.tree().digest(),
            cluster.nodes[0].knowledge.tree().digest()
        );
        prop_assert_eq!(knowledge.summary(), cluster.nodes[0].knowledge.summary());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn after_any_loss_duplication_and_reordering_an_exchange_makes_all_equal(steps in steps(false)) {
        let mut cluster = Cluster::new(HOSTS);
        run(&mut cluster, steps);
        cluster.settle();
        check_all_agree(&cluster)?;
    }

    #[test]
    fn forgetting_deletions_at_any_time_brings_nothing_back(steps in steps(true)) {
        let mut cluster = Cluster::new(HOSTS);
        run(&mut cluster, steps);
        cluster.settle();
        while !cluster.wire.is_empty() {
            cluster.deliver(0, false);
        }
        cluster.settle();
        check_all_agree(&cluster)?;
        cluster.wall_ns += FORGET_AFTER_NS + 1;
        for at in 0..HOSTS {
            cluster.collect(at, u64::MAX);
            prop_assert_eq!(cluster.nodes[at].knowledge.tombstones().count(), 0);
        }
        check_all_agree(&cluster)?;
    }

    #[test]
    fn the_trie_alone_makes_two_trees_equal(
        writes in prop::collection::vec((0usize..2, 0usize..200, any::<bool>(), any::<bool>()), 0..300)
    ) {
        let mut cluster = Cluster::new(2);
        for (at, key, live, lost) in writes {
            cluster.write(at, &format!("userspace/{key}"), live.then_some("x"), None);
            if lost {
                cluster.wire.clear();
            }
            while !cluster.wire.is_empty() {
                cluster.deliver(0, false);
            }
        }
        cluster.repair(0, 1);
        prop_assert_eq!(cluster.live(0), cluster.expected_live());
        prop_assert_eq!(cluster.live(1), cluster.expected_live());
        prop_assert_eq!(cluster.repair(0, 1), 1, "one question shows that nothing differs");
    }
}

fn any_node() -> impl Strategy<Value = TrieNode> {
    (0u8..20, any::<u64>(), any::<bool>()).prop_map(|(depth, prefix, small)| TrieNode {
        depth,
        prefix: if small { prefix & 0xf } else { prefix },
    })
}

fn any_answer() -> impl Strategy<Value = RepairAnswer> {
    let digests = prop_oneof![Just(256usize), Just(16), 0usize..300];
    let digests = digests.prop_flat_map(|count| prop::collection::vec(any::<u64>(), count));
    let keys = prop::collection::vec((any::<u64>(), any::<u64>()), 0..20);
    let node = prop_oneof![
        digests.prop_map(NodeIs::Digests),
        keys.prop_map(NodeIs::Keys)
    ];
    prop_oneof![
        3 => prop::collection::vec(node, 0..4).prop_map(RepairAnswer::Nodes),
        1 => Just(RepairAnswer::Entries(Vec::new())),
    ]
}

proptest! {
    #[test]
    fn whatever_a_peer_says_in_a_repair_is_an_answer_or_an_error(
        nodes in prop::collection::vec(any_node(), 0..70),
        want in prop::collection::vec(any::<u64>(), 0..70),
        answers in prop::collection::vec(any_answer(), 0..6),
    ) {
        let mut cluster = Cluster::new(1);
        for key in 0..100 {
            cluster.write(0, &format!("userspace/{key}"), Some("x"), None);
        }
        let here = &cluster.nodes[0].knowledge;
        if let Ok((RepairAnswer::Nodes(are), _)) = answer(here, RepairAsk::Nodes(nodes.clone())) {
            prop_assert_eq!(are.len(), nodes.len());
        }
        let give = Vec::new();
        let refused = answer(here, RepairAsk::Entries { want: want.clone(), give }).is_err();
        prop_assert_eq!(refused, want.len() > 64);
        let mut repair = Repair::new();
        for answer in answers {
            if repair.ask(here).is_none() || repair.answered(here, answer).is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_push_after_a_lost_one_is_taken_but_leaves_a_gap_until_the_exchange() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "userspace/a", Some("1"), None);
    cluster.lose(0);
    cluster.write(0, "userspace/b", Some("2"), None);
    let (to, push) = cluster.wire.remove(0);
    let applied = cluster.nodes[to].take_push(push);
    assert!(applied.gap);
    assert_eq!(
        cluster.nodes[1].knowledge.tree().text("userspace/b"),
        Some("2")
    );
    assert_eq!(cluster.nodes[1].knowledge.summary().horizon(&host(0)), 0);
    assert_eq!(cluster.exchange(0, 1, 100, 1), Some(2));
    cluster.write(0, "userspace/c", Some("3"), None);
    let (to, push) = cluster.wire.remove(0);
    assert!(!cluster.nodes[to].take_push(push).gap);
}

#[test]
fn an_entry_with_an_old_stamp_still_reaches_everybody() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, "resource-x/primary", Some("h0"), None);
    cluster.settle();
    let old = cluster.expected[&path("resource-x/primary")].stamp.ns;
    cluster.write(1, "resource-x/primary", Some("(none)"), Some(old + 1));
    cluster.write(1, "ips/ip-h9", Some("10.0.0.9"), Some(1_000_000_000));
    cluster.settle();
    for at in 0..3 {
        let tree = cluster.nodes[at].knowledge.tree();
        assert_eq!(tree.text("resource-x/primary"), Some("(none)"));
        assert_eq!(tree.text("ips/ip-h9"), Some("10.0.0.9"));
    }
}

#[test]
fn a_designation_made_during_a_cut_beats_a_withdrawal_stamped_right_behind_the_old_one() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "resource-x/primary", Some("h0"), None);
    cluster.settle();
    let old = cluster.expected[&path("resource-x/primary")].stamp.ns;
    cluster.write(1, "resource-x/primary", Some("h1"), None);
    cluster.write(0, "resource-x/primary", Some("(none)"), Some(old + 1));
    cluster.settle();
    for at in 0..2 {
        assert_eq!(
            cluster.nodes[at]
                .knowledge
                .tree()
                .text("resource-x/primary"),
            Some("h1")
        );
    }
}

#[test]
fn an_exchange_costs_what_has_changed_not_what_there_is() {
    let mut cluster = Cluster::new(2);
    for key in 0..2_000 {
        cluster.write(0, &format!("userspace/{key}"), Some("x"), None);
    }
    assert_eq!(cluster.exchange(0, 1, 100, usize::MAX), Some(2_000));
    assert_eq!(cluster.exchange(0, 1, 100, usize::MAX), Some(0));
    cluster.write(0, "userspace/7", Some("y"), None);
    assert_eq!(cluster.exchange(0, 1, 100, usize::MAX), Some(1));
}

#[test]
fn a_repair_of_ten_keys_among_twenty_thousand_takes_few_questions_and_few_bytes() {
    let mut cluster = Cluster::new(2);
    for key in 0..20_000 {
        cluster.write(0, &format!("userspace/{key}"), Some("x"), None);
    }
    cluster.exchange(0, 1, 1_000, usize::MAX);
    for key in 0..10 {
        cluster.write(
            key % 2,
            &format!("userspace/{}", key * 1_999),
            Some("y"),
            None,
        );
    }
    let (asked, bytes) = cluster.repair_weighed(0, 1);
    assert_eq!(cluster.live(0), cluster.live(1));
    assert!(asked <= 6, "{asked} questions");
    assert!(bytes <= 10 * 1024, "{bytes} bytes");
}

#[test]
fn an_entry_from_the_future_waits_and_comes_again_when_its_time_is_near() {
    let hour = 3600 * 1_000_000_000u64;
    let (mut fast, mut right) = (Node::new(0), Node::new(1));
    let mut wall = 1_000 * hour;
    let item = fast
        .write(&path("userspace/a"), Some("1"), None, wall + 3 * hour)
        .expect("new");
    let entries = vec![item];
    let sifted = {
        let admit = |ns| right.clock.admits(ns, wall);
        right.knowledge.sift_push(Push { entries }, admit)
    };
    assert_eq!(sifted.entries, []);
    assert_eq!(sifted.held_back[0].writer, host(0));
    right.take(sifted);
    // Else nothing its writer says with the right time later would ever be asked for.
    assert_eq!(right.knowledge.summary().horizon(&host(0)), 0);

    for expected in [None, Some("1")] {
        let delta = fast.knowledge.delta_since(right.knowledge.summary(), 10);
        assert_eq!(delta.entries.len(), 1, "it is still offered");
        let sifted = {
            let admit = |ns| right.clock.admits(ns, wall);
            right.knowledge.sift_delta(delta, admit)
        };
        right.take(sifted);
        assert_eq!(right.knowledge.tree().text("userspace/a"), expected);
        wall += 2 * hour;
    }
    assert!(right.knowledge.summary().covers(fast.knowledge.summary()));
}

#[test]
fn a_host_that_was_away_too_long_is_replaced_and_brings_no_deleted_key_back() {
    let mut cluster = Cluster::new(3);
    cluster.write(2, "userspace/old", Some("x"), None);
    cluster.write(0, "userspace/kept", Some("y"), None);
    cluster.settle();
    // Host 2 is away; the others delete, and forget the deletion after the keep time.
    cluster.write(0, "userspace/old", None, None);
    cluster.exchange(0, 1, 10, 9);
    cluster.exchange(1, 0, 10, 9);
    assert_eq!(
        cluster.collect(0, u64::MAX),
        [],
        "not silent for long enough"
    );
    assert_eq!(cluster.nodes[0].knowledge.tombstones().count(), 1);
    cluster.wall_ns += 1_000;
    cluster.exchange(1, 0, 10, 9);
    cluster.exchange(0, 1, 10, 9);
    assert_eq!(cluster.collect(0, 500), [host(2)]);
    assert_eq!(cluster.nodes[0].knowledge.tombstones().count(), 0);

    assert_eq!(cluster.exchange(0, 2, 10, 9), None, "merging is refused");
    let summary = cluster.nodes[2].knowledge.summary().clone();
    let error = cluster.nodes[0]
        .knowledge
        .may_merge_with(&host(2), &summary)
        .expect_err("refused");
    assert!(error.to_string().contains("must be replaced"), "{error}");
    cluster.replace(0, 2);
    cluster.write(2, "userspace/new", Some("z"), None);
    cluster.settle();
    for at in 0..3 {
        assert_eq!(
            cluster.live(at).into_keys().collect::<Vec<_>>(),
            ["userspace/kept", "userspace/new"]
        );
    }
}

#[test]
fn a_clock_that_jumps_ahead_by_centuries_makes_nobody_silent() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, "userspace/old", Some("x"), None);
    cluster.settle();
    // Host 2 does not hear of the deletion for a moment; then the clock of host 0 jumps.
    cluster.write(0, "userspace/old", None, None);
    cluster.exchange(0, 1, 10, 9);
    cluster.exchange(1, 0, 10, 9);
    let mono = cluster.wall_ns;
    cluster.nodes[0]
        .reports
        .members_are(&[host(0), host(1), host(2)].into(), mono);
    let here = &cluster.nodes[0];
    let jumped = cluster.wall_ns + 100 * 365 * 86_400_000_000_000;
    let found = here.reports.collect(&here.knowledge, jumped, mono, 500);
    assert_eq!(found, tree::Collection::default());
}

#[test]
fn who_took_a_tree_without_the_forgotten_deletions_refuses_hosts_that_missed_them() {
    let mut cluster = Cluster::new(4);
    cluster.write(2, "userspace/old", Some("x"), None);
    cluster.settle();
    cluster.nodes[3] = Node::new(3);
    // Host 2 is away while the deletion comes and goes; host 3 joins afterwards and never saw it.
    cluster.write(0, "userspace/old", None, None);
    cluster.wall_ns += FORGET_AFTER_NS + 1;
    for _ in 0..2 {
        cluster.exchange(0, 1, 10, 9);
        cluster.exchange(1, 0, 10, 9);
    }
    cluster.nodes[0]
        .reports
        .members_are(&[host(0), host(1)].into(), cluster.wall_ns);
    let here = &cluster.nodes[0];
    let found = here
        .reports
        .collect(&here.knowledge, cluster.wall_ns, 0, u64::MAX);
    assert_eq!(cluster.nodes[0].knowledge.forget(&found.forget).len(), 1);
    cluster.exchange(0, 3, 10, 9).expect("host 3 is new");
    let away = cluster.nodes[2].knowledge.summary().clone();
    assert!(
        cluster.nodes[3]
            .knowledge
            .may_merge_with(&host(2), &away)
            .is_err()
    );
}

#[test]
fn a_host_whose_store_was_lost_gets_everything_back_from_one_peer_its_own_entries_included() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, "userspace/mine", Some("1"), None);
    cluster.write(1, "userspace/yours", Some("2"), None);
    cluster.settle();
    let lease = cluster.nodes[0].clock.last() + 100;
    cluster.nodes[0].knowledge = Knowledge::after_loss(&host(0), [], lease);
    cluster.nodes[0].clock = LamportClock::restored(lease);
    cluster.nodes[0].clock.lease_stored(u64::MAX);
    cluster.write(0, "userspace/new", Some("3"), None);
    assert_eq!(
        cluster.exchange(0, 1, 1, 9),
        Some(0),
        "it tells nothing yet"
    );
    cluster.exchange(1, 0, 1, 1);
    assert!(cluster.nodes[0].knowledge.is_incomplete(), "there is more");
    cluster.exchange(1, 0, 1, 9);
    assert!(!cluster.nodes[0].knowledge.is_incomplete());
    cluster.settle();
    check_all_agree(&cluster).expect("all agree");
}

#[test]
fn a_replacement_changes_nothing_before_it_is_complete_and_says_what_to_store() {
    let mut cluster = Cluster::new(2);
    for key in ["a", "b", "c"] {
        cluster.write(0, &format!("userspace/{key}"), Some("new"), None);
    }
    cluster.write(1, "userspace/mine", Some("unheard of"), None);
    cluster.write(1, "userspace/a", Some("older"), Some(1));
    let old = cluster.nodes[1].knowledge.clone();
    let mut replacement = Replacement::of(&old);
    let mut answers = 0;
    loop {
        let delta = cluster.nodes[0].knowledge.delta_since(replacement.ask(), 1);
        answers += 1;
        if replacement.take(delta, |_| Ok(())).expect("admitted") {
            break;
        }
    }
    assert_eq!(answers, 3);
    let changes = replacement.changes(&old);
    let told: Vec<_> = changes
        .iter()
        .map(|(path, entry)| (path.as_str(), entry.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            ("userspace/mine", false),
            ("userspace/a", true),
            ("userspace/b", true),
            ("userspace/c", true)
        ]
    );
    let new = replacement.finish(&old);
    assert_eq!(
        new.tree().digest(),
        cluster.nodes[0].knowledge.tree().digest()
    );
    assert_eq!(
        new.summary().horizon(&host(1)),
        old.summary().horizon(&host(1))
    );
}

#[test]
fn what_only_the_host_itself_can_know_and_nobody_has_heard_is_said_again() {
    let mut cluster = Cluster::new(2);
    for res in ["kept", "left"] {
        let replay = format!("resource-{res}/replay-{}", host(1));
        cluster.write(1, &replay, Some("log-000000001-alpha,5,0"), None);
    }
    cluster.settle();
    let kept = |what: &str| format!("resource-kept/{what}-{}", host(1));
    cluster.write(0, &format!("resource-left/replay-{}", host(1)), None, None);
    cluster.write(1, &kept("replay"), Some("log-000000002-alpha,7,0"), None);
    cluster.write(1, &kept("log-000000003"), Some("9"), None);
    cluster.write(1, &kept("syncpos"), None, None);
    // Not its own, not of a member, not of a resource.
    cluster.write(1, "resource-kept/primary", Some("(none)"), None);
    cluster.write(
        1,
        &format!("resource-left/actsize-{}", host(1)),
        Some("1"),
        None,
    );
    cluster.write(1, "userspace/mine", Some("unheard of"), None);
    let old = cluster.nodes[1].knowledge.clone();
    let mut replacement = Replacement::of(&old);
    loop {
        let delta = cluster.nodes[0]
            .knowledge
            .delta_since(replacement.ask(), 10);
        if replacement.take(delta, |_| Ok(())).expect("admitted") {
            break;
        }
    }
    let said = replacement.unheard(&old);
    let said: Vec<_> = said
        .iter()
        .map(|(path, value)| (path.as_str(), value.as_text()))
        .collect();
    assert_eq!(
        said,
        [
            (&*kept("replay"), Some("log-000000002-alpha,7,0")),
            (&*kept("log-000000003"), Some("9")),
            (&*kept("syncpos"), None),
        ]
    );
}

#[test]
fn a_tree_with_an_entry_too_far_ahead_is_not_taken_in_part() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "userspace/a", Some("1"), None);
    cluster.write(0, "userspace/b", Some("2"), None);
    let mut replacement = Replacement::of(&cluster.nodes[1].knowledge);
    let delta = cluster.nodes[0]
        .knowledge
        .delta_since(replacement.ask(), 10);
    let newest = delta.entries.iter().map(|(_, entry)| entry.stamp.ns).max();
    let refuse = |ns| match Some(ns) < newest {
        true => Ok(()),
        false => Err(tree::TooFarAhead {
            ahead_ns: 1,
            max_ns: 0,
        }),
    };
    let held_back = replacement.take(delta, refuse).expect_err("not in part");
    assert_eq!(held_back.path.as_str(), "userspace/b");
}

#[test]
fn an_answer_to_an_outdated_question_does_not_raise_what_was_set_back_meanwhile() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "userspace/a", Some("1"), None);
    cluster.settle();
    cluster.write(0, "userspace/b", Some("2"), None);
    let summary = cluster.nodes[1].knowledge.summary().clone();
    let delta = cluster.nodes[0].knowledge.delta_since(&summary, 10);
    cluster.nodes[1] = Node::new(1);
    assert!(cluster.nodes[1].take_delta(delta).gap);
    assert_eq!(cluster.nodes[1].knowledge.summary().horizon(&host(0)), 0);
    cluster.settle();
    assert_eq!(cluster.live(1), cluster.expected_live());
}

#[test]
fn a_key_written_again_is_not_forgotten_with_its_deletion() {
    let mut cluster = Cluster::new(1);
    cluster.write(0, "userspace/a", None, None);
    cluster.write(0, "userspace/a", Some("again"), None);
    let forgotten = cluster.nodes[0]
        .knowledge
        .forget(&[path("userspace/a"), path("userspace/b")]);
    assert_eq!(forgotten, []);
    assert_eq!(
        cluster.nodes[0].knowledge.tree().text("userspace/a"),
        Some("again")
    );
}

#[test]
fn a_deletion_stays_long_enough_for_everybody_to_have_stored_that_it_was_seen() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "userspace/a", None, None);
    cluster.settle();
    cluster.collect(0, u64::MAX);
    assert_eq!(cluster.nodes[0].knowledge.tombstones().count(), 1);
    cluster.wall_ns += FORGET_AFTER_NS + 1;
    cluster.collect(0, u64::MAX);
    assert_eq!(cluster.nodes[0].knowledge.tombstones().count(), 0);
}

#[test]
fn a_host_that_has_just_joined_is_not_taken_for_one_that_was_away() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, "userspace/old", Some("x"), None);
    cluster.write(0, "userspace/old", None, None);
    cluster.exchange(0, 1, 10, 9);
    cluster.wall_ns += 1_000;
    cluster.exchange(0, 1, 10, 9);
    cluster.nodes[0]
        .reports
        .members_are(&[host(0), host(1)].into(), cluster.wall_ns);
    let here = &cluster.nodes[0];
    let now = cluster.wall_ns;
    let found = here.reports.collect(&here.knowledge, now, now, 500);
    assert_eq!(found.forget, [path("userspace/old")]);
    let forgotten = cluster.nodes[0].knowledge.forget(&found.forget);
    assert_eq!(forgotten, found.forget);
    cluster.write(2, "ips/ip-h2", Some("10.0.0.2"), Some(1_000_000_000));
    assert_eq!(cluster.exchange(0, 2, 10, 9), Some(0));
    assert_eq!(cluster.exchange(2, 0, 10, 9), Some(1));
}

#[test]
fn after_a_restart_with_old_horizons_nothing_is_missing_and_no_number_is_used_twice() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, "userspace/a", Some("1"), None);
    cluster.settle();
    let saved = cluster.nodes[1].knowledge.saved();
    cluster.write(0, "userspace/b", Some("2"), None);
    cluster.write(1, "userspace/c", Some("3"), None);
    cluster.settle();
    let before = &cluster.nodes[1].knowledge;
    let stored: Vec<_> = before
        .tree()
        .iter()
        .map(|(p, e)| (p.clone(), e.clone()))
        .collect();
    let lease = cluster.nodes[1].clock.last() + 50;
    cluster.nodes[1].knowledge = Knowledge::restored(&host(1), stored, saved, lease);
    cluster.nodes[1].clock = LamportClock::restored(lease);
    cluster.nodes[1].clock.lease_stored(u64::MAX);
    cluster.write(1, "userspace/c", Some("4"), None);
    assert!(cluster.expected[&path("userspace/c")].issue.nr > lease);
    cluster.settle();
    check_all_agree(&cluster).expect("all agree");
}

/// What a host knows that has merged these entries one by one.
fn told(entries: &[(Path, Entry)]) -> Knowledge {
    let mut known = Knowledge::new(&host(0));
    let entries = entries.to_vec();
    let sifted = known.sift_repair(entries, |_| Ok(()));
    known.apply(sifted);
    known
}

fn check_restored(entries: &[(Path, Entry)]) {
    let told = told(entries);
    let saved = Saved {
        seen: Summary([(host(1), u64::MAX)].into()),
        ..Saved::default()
    };
    let restored = Knowledge::restored(&host(0), entries.to_vec(), saved, 0);
    assert_eq!(restored.tree().digest(), told.tree().digest());
    assert_eq!(restored.tree().live_len(), told.tree().live_len());
    assert!(restored.tree().iter().eq(told.tree().iter()), "other keys");
    assert!(
        restored.tombstones().eq(told.tombstones()),
        "other deletions"
    );
    let mut all: Vec<_> = told.tree().iter().collect();
    all.sort_by_key(|(_, entry)| entry.issue.nr);
    let delta = restored.delta_since(&Summary::default(), usize::MAX);
    let given = delta.entries.iter().map(|(path, entry)| (path, entry));
    assert!(delta.entries.len() > 100, "others are told too little");
    let first = all.into_iter().take(delta.entries.len());
    assert!(given.eq(first), "others are told other things");
}

#[test]
fn a_start_knows_what_was_stored_however_much_and_in_whatever_order() {
    let entry = |nr: u64| {
        let value = match nr % 7 {
            0 => Value::Tombstone,
            _ => Value::text(&nr.to_string()).expect("a good value"),
        };
        let issue = Issue {
            nr: nr + 1,
            writer: host(1),
        };
        let stamp = Stamp::new(nr + 1, &host(1));
        let lazy = nr.is_multiple_of(5);
        Entry {
            value,
            stamp,
            issue,
            lazy,
        }
    };
    let key = |nr: u64| path(&format!("userspace/key-{:04}", nr * 7919 % 6_000));
    let mut entries: Vec<_> = (0..6_000).map(|nr| (key(nr), entry(nr))).collect();
    check_restored(&entries[..1000]);
    check_restored(&entries);
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    check_restored(&entries);
    // Twice, an older one behind the newer one.
    entries.extend_from_within(..10);
    entries[3].1 = entry(7_000);
    check_restored(&entries);
}

#[test]
fn a_deletion_that_came_after_a_members_last_word_waits_for_its_next_one() {
    let mut here = Knowledge::new(&host(0));
    let mut reports = Reports::default();
    reports.members_are(&[host(0), host(1)].into(), 0);
    let seen = Summary([(host(2), 100)].into());
    reports.heard(&here, &host(1), &seen, 0);
    let issue = Issue {
        nr: 50,
        writer: host(2),
    };
    let deletion = PushItem {
        path: path("userspace/gone"),
        entry: Entry {
            value: Value::Tombstone,
            stamp: Stamp::new(50, &host(2)),
            issue,
            lazy: false,
        },
        prev_issue_of_writer: 0,
    };
    let push = Push {
        entries: vec![deletion],
    };
    let sifted = here.sift_push(push, |_| Ok(()));
    here.apply(sifted);
    let ripe = |reports: &Reports| {
        let later = 50 + 2 * FORGET_AFTER_NS;
        reports.collect(&here, later, 0, KEEP_NS_DEFAULT).forget
    };
    assert_eq!(ripe(&reports), [], "what it said then is not kept");
    reports.heard(&here, &host(1), &seen, 0);
    assert_eq!(ripe(&reports), [path("userspace/gone")]);
    let less = Summary([(host(2), 49)].into());
    reports.heard(&here, &host(1), &less, 0);
    assert_eq!(ripe(&reports), [], "it has not seen the deletion");
}
