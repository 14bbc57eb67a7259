//! A few hosts that know the tree and talk to each other in one thread, for the property tests.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

use tree::repair::{NodeIs, answer};
use tree::*;

/// One host: what it knows, its clock, and what lies ready to be pushed.
pub struct Node {
    pub knowledge: Knowledge,
    pub clock: LamportClock,
    pub reports: Reports,
}

/// Several hosts, the messages between them, and what everybody should agree on in the end.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Pushes under way: to whom, and what.
    pub wire: Vec<(usize, Push)>,
    /// The greatest entry ever written per key.
    pub expected: BTreeMap<Path, Entry>,
    pub wall_ns: u64,
}

pub fn host(nr: usize) -> Host {
    Host::new(&format!("h{nr}")).expect("valid name")
}

pub fn path(text: &str) -> Path {
    Path::new(text).expect("valid path")
}

impl Node {
    pub fn new(nr: usize) -> Node {
        let mut clock = LamportClock::restored(0);
        clock.lease_stored(u64::MAX);
        Node {
            knowledge: Knowledge::new(&host(nr)),
            clock,
            reports: Reports::default(),
        }
    }

    pub fn entry(&mut self, value: Option<&str>, stamp_ns: Option<u64>, wall_ns: u64) -> Entry {
        let me = self.knowledge.me().clone();
        let nr = self.clock.next(wall_ns).expect("endless lease");
        Entry {
            value: value.map_or(Value::Tombstone, |text| Value::text(text).expect("valid")),
            stamp: Stamp::new(stamp_ns.unwrap_or(nr), &me),
            issue: Issue { nr, writer: me },
            lazy: false,
        }
    }

    pub fn write(
        &mut self,
        key: &Path,
        value: Option<&str>,
        stamp_ns: Option<u64>,
        wall_ns: u64,
    ) -> Option<PushItem> {
        let entry = self.entry(value, stamp_ns, wall_ns);
        self.knowledge.issue(key.clone(), entry)
    }

    pub fn take(&mut self, sifted: Sifted) -> Applied {
        for (_, entry) in &sifted.entries {
            self.clock.observe(entry.stamp.ns);
            self.clock.observe(entry.issue.nr);
        }
        self.knowledge.apply(sifted)
    }

    pub fn take_push(&mut self, push: Push) -> Applied {
        let sifted = self.knowledge.sift_push(push, |_| Ok(()));
        self.take(sifted)
    }

    pub fn take_delta(&mut self, delta: Delta) -> Applied {
        let sifted = self.knowledge.sift_delta(delta, |_| Ok(()));
        self.take(sifted)
    }
}

fn weight(answer: &RepairAnswer) -> usize {
    match answer {
        RepairAnswer::Nodes(nodes) => nodes
            .iter()
            .map(|node| match node {
                NodeIs::Digests(digests) => 8 * digests.len(),
                NodeIs::Keys(keys) => 16 * keys.len(),
            })
            .sum(),
        RepairAnswer::Entries(entries) => 150 * entries.len(),
    }
}

impl Cluster {
    pub fn new(count: usize) -> Cluster {
        Cluster {
            nodes: (0..count).map(Node::new).collect(),
            wire: Vec::new(),
            expected: BTreeMap::new(),
            wall_ns: 1_000,
        }
    }

    pub fn members(&self) -> BTreeSet<Host> {
        (0..self.nodes.len()).map(host).collect()
    }

    /// A command at `at`: a value or a deletion, with an explicit stamp or the clock's.
    pub fn write(&mut self, at: usize, key: &str, value: Option<&str>, stamp_ns: Option<u64>) {
        self.wall_ns += 10;
        let key = path(key);
        let Some(item) = self.nodes[at].write(&key, value, stamp_ns, self.wall_ns) else {
            return;
        };
        let newest = self
            .expected
            .get(&key)
            .is_none_or(|held| item.entry.beats(held));
        if newest {
            self.expected.insert(key, item.entry.clone());
        }
        for to in (0..self.nodes.len()).filter(|to| *to != at) {
            let entries = vec![item.clone()];
            self.wire.push((to, Push { entries }));
        }
    }

    /// Delivers one push, keeps a copy under way if `again`.
    pub fn deliver(&mut self, which: usize, again: bool) {
        if self.wire.is_empty() {
            return;
        }
        let which = which % self.wire.len();
        let (to, push) = if again {
            self.wire[which].clone()
        } else {
            self.wire.swap_remove(which)
        };
        self.nodes[to].take_push(push);
    }

    pub fn lose(&mut self, which: usize) {
        if !self.wire.is_empty() {
            let which = which % self.wire.len();
            self.wire.swap_remove(which);
        }
    }

    /// `to` asks `from` for what it lacks, at most `rounds` messages of `max` entries; `None` when refused.
    pub fn exchange(&mut self, from: usize, to: usize, max: usize, rounds: usize) -> Option<usize> {
        let mut entries = 0;
        for _ in 0..rounds {
            let summary = self.nodes[to].knowledge.summary().clone();
            self.nodes[from]
                .knowledge
                .may_merge_with(&host(to), &summary)
                .ok()?;
            let delta = self.nodes[from].knowledge.delta_since(&summary, max);
            entries += delta.entries.len();
            let more = delta.more;
            self.nodes[to].take_delta(delta);
            let summary = self.nodes[to].knowledge.summary().clone();
            let Node {
                knowledge, reports, ..
            } = &mut self.nodes[from];
            reports.heard(knowledge, &host(to), &summary, self.wall_ns);
            if !more {
                break;
            }
        }
        Some(entries)
    }

    /// Everybody with everybody until nothing is left to say.
    pub fn settle(&mut self) {
        for _ in 0..2 {
            for from in 0..self.nodes.len() {
                for to in (0..self.nodes.len()).filter(|to| *to != from) {
                    self.exchange(from, to, 3, usize::MAX);
                }
            }
        }
    }

    pub fn collect(&mut self, at: usize, keep_ns: u64) -> Vec<Host> {
        let members = self.members();
        let node = &mut self.nodes[at];
        node.reports.members_are(&members, self.wall_ns);
        let now = self.wall_ns;
        let found = node.reports.collect(&node.knowledge, now, now, keep_ns);
        drop(node.knowledge.forget(&found.forget));
        found.marked
    }

    /// The tree of `away` becomes that of `peer`.
    pub fn replace(&mut self, peer: usize, away: usize) {
        let old = &self.nodes[away].knowledge;
        let mut replacement = Replacement::of(old);
        loop {
            let delta = self.nodes[peer].knowledge.delta_since(replacement.ask(), 1);
            if replacement.take(delta, |_| Ok(())).expect("admitted") {
                break;
            }
        }
        self.nodes[away].knowledge = replacement.finish(old);
    }

    /// Repair between two hosts by the digest trie; returns questions asked.
    pub fn repair(&mut self, asker: usize, other: usize) -> usize {
        self.repair_weighed(asker, other).0
    }

    /// The same with the bytes of digests, hashes and entries that travel.
    pub fn repair_weighed(&mut self, asker: usize, other: usize) -> (usize, usize) {
        let mut repair = Repair::new();
        let mut asked = 0;
        let mut bytes = 0;
        while let Some(ask) = repair.ask(&self.nodes[asker].knowledge) {
            asked += 1;
            assert!(asked < 10_000, "repair does not end");
            let (answer, given) =
                answer(&self.nodes[other].knowledge, ask).expect("honest question");
            let sifted = self.nodes[other].knowledge.sift_repair(given, |_| Ok(()));
            self.nodes[other].take(sifted);
            bytes += weight(&answer);
            let back = repair
                .answered(&self.nodes[asker].knowledge, answer)
                .expect("honest answer");
            let sifted = self.nodes[asker].knowledge.sift_repair(back, |_| Ok(()));
            self.nodes[asker].take(sifted);
        }
        (asked, bytes)
    }

    pub fn live(&self, at: usize) -> BTreeMap<String, String> {
        let tree = self.nodes[at].knowledge.tree();
        tree.texts("")
            .map(|(path, text)| (path.to_string(), text.to_owned()))
            .collect()
    }

    pub fn expected_live(&self) -> BTreeMap<String, String> {
        let live =
            |(path, entry): (&Path, &Entry)| Some((path.to_string(), entry.text()?.to_owned()));
        self.expected.iter().filter_map(live).collect()
    }
}
