//! Digest, merge, summary and delta of the key tree: `cargo bench -p tree`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use tree::knowledge::Saved;
use tree::{Entry, Host, Issue, Knowledge, Path, Stamp, Tree, Value};

fn host(name: &str) -> Host {
    Host::new(name).expect("a good name")
}

fn pair(nr: u64, writer: &Host) -> (Path, Entry) {
    let path = Path::new(&format!("userspace/bench/key-{nr:07}")).expect("a good path");
    let entry = Entry {
        value: Value::text("some value of usual length").expect("a good value"),
        stamp: Stamp::new(1_000_000 + nr, writer),
        issue: Issue {
            nr: nr + 1,
            writer: writer.clone(),
        },
        lazy: false,
    };
    (path, entry)
}

fn tree_of(count: u64) -> Tree {
    let writer = host("alpha");
    let mut tree = Tree::new();
    for nr in 0..count {
        let (path, entry) = pair(nr, &writer);
        tree.merge(path, entry);
    }
    tree
}

fn knowledge_of(count: u64) -> Knowledge {
    let me = host("alpha");
    let mut known = Knowledge::new(&me);
    for nr in 0..count {
        let (path, entry) = pair(nr, &me);
        known.issue(path, entry);
    }
    known
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge one entry into");
    for count in [1_000, 100_000] {
        let (tree, writer) = (tree_of(count), host("beta"));
        group.bench_with_input(BenchmarkId::from_parameter(count), &tree, |b, tree| {
            b.iter_batched(
                || (tree.clone(), pair(count * 2, &writer)),
                |(mut tree, (path, entry))| black_box(tree.merge(path, entry)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn digest(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest of a tree of");
    for count in [1_000, 100_000] {
        let tree = tree_of(count);
        group.bench_with_input(BenchmarkId::from_parameter(count), &tree, |b, tree| {
            b.iter(|| black_box(tree.digest()));
        });
    }
    group.finish();
}

fn delta(c: &mut Criterion) {
    let mut group = c.benchmark_group("delta of one change in");
    for count in [1_000, 100_000] {
        let mut known = knowledge_of(count);
        let before = known.summary().clone();
        let (path, mut entry) = pair(count / 2, &host("alpha"));
        entry.stamp = Stamp::new(u64::MAX / 2, &host("alpha"));
        entry.issue.nr = count + 1;
        known.issue(path, entry);
        group.bench_with_input(BenchmarkId::from_parameter(count), &known, |b, known| {
            b.iter(|| black_box(known.delta_since(&before, 1000)));
        });
    }
    group.finish();
}

fn restore(c: &mut Criterion) {
    let mut group = c.benchmark_group("what a host knows after a start with");
    group.sample_size(10);
    let me = host("alpha");
    for count in [1_000, 100_000, 1_000_000] {
        let entries: Vec<(Path, Entry)> = (0..count).map(|nr| pair(nr, &host("alpha"))).collect();
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &entries,
            |b, entries| {
                b.iter_batched(
                    || entries.clone(),
                    |entries| black_box(Knowledge::restored(&me, entries, Saved::default(), 1)),
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(benches, merge, digest, delta, restore);
criterion_main!(benches);
