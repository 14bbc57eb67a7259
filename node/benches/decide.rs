//! The decision of the main loop by number of resources and of keys: `cargo bench -p node`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use node::config::NodeConfig;
use node::facts::Facts;
use node::plan::decide;
use tree::{Entry, Host, Issue, Path, Resource, Stamp, Tree, Value};

const NOW_NS: u64 = 1_000_000 * 1_000_000_000;

fn host(name: &str) -> Host {
    Host::new(name).expect("a good name")
}

struct Planter {
    tree: Tree,
    nr: u64,
}

impl Planter {
    fn set(&mut self, path: &str, text: &str) {
        self.nr += 1;
        let writer = host("alpha");
        let entry = Entry {
            value: Value::text(text).expect("a good value"),
            stamp: Stamp::new(NOW_NS - 1_000_000_000 + self.nr, &writer),
            issue: Issue {
                nr: self.nr,
                writer,
            },
            lazy: false,
        };
        self.tree
            .merge(Path::new(path).expect("a good path"), entry);
    }

    /// A member with everything on, and nothing written yet.
    fn member(&mut self, res: &str, name: &str) {
        let size = (1u64 << 20).to_string();
        for (key, text) in [
            (format!("data-{name}"), "/dev/null"),
            (format!("device-{name}"), res),
            (format!("actsize-{name}"), &size),
            (format!("syncstatus-{name}"), &size),
            (format!("todo-{name}/attach"), "1"),
            (format!("todo-{name}/connect"), "1"),
            (format!("todo-{name}/sync"), "1"),
            (format!("todo-{name}/allow-replay"), "1"),
        ] {
            self.set(&format!("resource-{res}/{key}"), text);
        }
    }
}

fn cluster(resources: usize, keys: usize) -> (Tree, Vec<Resource>) {
    let mut planter = Planter {
        tree: Tree::new(),
        nr: 0,
    };
    let mut names = Vec::new();
    for nr in 0..resources {
        let res = format!("r{nr:05}");
        planter.set(&format!("resource-{res}/size"), &(1u64 << 20).to_string());
        planter.set(&format!("resource-{res}/primary"), "alpha");
        planter.member(&res, "alpha");
        planter.member(&res, "beta");
        names.push(Resource::new(&res).expect("a good name"));
    }
    for nr in 0..keys {
        planter.set(&format!("userspace/bench/key-{nr:07}"), "value");
    }
    (planter.tree, names)
}

fn facts() -> Facts {
    Facts {
        now_ns: NOW_NS,
        grace_over: true,
        ..Facts::default()
    }
}

fn all_resources(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide for all of so many resources");
    group.sample_size(10);
    let (facts, here, config) = (facts(), host("beta"), NodeConfig::default());
    for count in [10, 100, 1_000, 10_000] {
        let (tree, names) = cluster(count, 0);
        group.bench_with_input(BenchmarkId::from_parameter(count), &names, |b, names| {
            b.iter(|| black_box(decide(&tree, &facts, &here, &config, names)));
        });
    }
    group.finish();
}

fn one_resource(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide for one resource, with so many other keys");
    let (facts, here, config) = (facts(), host("beta"), NodeConfig::default());
    for keys in [0, 10_000, 1_000_000] {
        let (tree, names) = cluster(1, keys);
        group.bench_with_input(BenchmarkId::from_parameter(keys), &names, |b, names| {
            b.iter(|| black_box(decide(&tree, &facts, &here, &config, names)));
        });
    }
    group.finish();
}

criterion_group!(benches, all_resources, one_resource);
criterion_main!(benches);
