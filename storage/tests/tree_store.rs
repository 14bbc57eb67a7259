//! The tree store: what was confirmed is there again, whatever happened to the files in between.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::fs;
use std::path::Path as FilePath;
use storage::{MemMedium, Opened, SledOptions, SledStore, StoreError, TreeStore};
use tree::{Entry, Host, Issue, Path, Stamp, Value};

const OPTIONS: SledOptions = SledOptions {
    cache_bytes: 4 << 20,
    lock_tries: 0,
};

fn path(nr: u64) -> Path {
    Path::new(&format!("resource-data/replay-host{nr}")).unwrap()
}

fn entry(nr: u64, text: Option<&str>) -> Entry {
    let (alpha, beta) = (Host::new("alpha").unwrap(), Host::new("beta").unwrap());
    Entry {
        value: text.map_or(Value::Tombstone, |text| Value::text(text).unwrap()),
        stamp: Stamp::new(1000 + nr, &alpha),
        issue: Issue { writer: beta, nr },
        lazy: nr.is_multiple_of(2),
    }
}

/// `n` entries, every third a tombstone.
fn entries(n: u64) -> Vec<(Path, Option<Entry>)> {
    let value = |nr: u64| format!("log-000000001-alpha,{nr},0");
    let text = |nr: u64| (!nr.is_multiple_of(3)).then(|| value(nr));
    (0..n)
        .map(|nr| (path(nr), Some(entry(nr, text(nr).as_deref()))))
        .collect()
}

fn sorted(changes: &[(Path, Option<Entry>)]) -> Vec<(Path, Entry)> {
    let mut all: Vec<_> = changes
        .iter()
        .filter_map(|(p, e)| Some((p.clone(), e.clone()?)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn open(dir: &FilePath) -> (SledStore, Opened) {
    // Threads of a database that was just dropped may hold its lock for a moment.
    let patient = SledOptions {
        lock_tries: 100,
        ..OPTIONS
    };
    SledStore::open(dir, patient).unwrap()
}

fn in_a_store(test: impl FnOnce(&FilePath)) {
    let dir = tempfile::tempdir().unwrap();
    test(&dir.path().join("tree"));
}

fn check_store(store: &mut dyn TreeStore, reopened: impl FnOnce() -> Box<dyn TreeStore>) {
    let mut changes = entries(50);
    store.commit(&changes).unwrap();
    store
        .commit(&[(path(7), None), (path(8), Some(entry(99, Some("new"))))])
        .unwrap();
    changes[7].1 = None;
    changes[8].1 = Some(entry(99, Some("new")));
    assert_eq!(store.load().unwrap(), sorted(&changes));
    assert_eq!(reopened().load().unwrap(), sorted(&changes));
}

#[test]
fn committed_entries_are_there_after_a_restart() {
    let medium = MemMedium::default();
    check_store(&mut medium.store(), || Box::new(medium.store()));
    in_a_store(|dir| {
        let mut store = open(dir).0;
        store.load().unwrap();
        // The copy is what the files would be after a kill.
        let copy = dir.with_extension("copy");
        check_store(&mut store, || {
            copy_dir(dir, &copy);
            let (store, opened) = open(&copy);
            assert_eq!(opened, Opened::Good);
            Box::new(store)
        });
    });
}

/// Two readers come from both ends, and may pass each other.
#[test]
fn every_entry_of_a_large_store_is_read_once_and_in_order() {
    in_a_store(|dir| {
        let mut wanted = Vec::new();
        let all = entries(5000);
        for until in [0, 1, 1023, 1024, 2048, 2049, 5000] {
            let mut store = open(dir).0;
            store.commit(&all[wanted.len()..until]).unwrap();
            drop(store);
            wanted = sorted(&all[..until]);
            assert!(open(dir).0.load().unwrap() == wanted, "of {until} entries");
        }
    });
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    in_a_store(|dir| {
        let _first = open(dir);
        let second = SledStore::open(dir, OPTIONS).err().unwrap();
        assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    });
}

#[test]
fn an_entry_whose_bytes_were_changed_is_left_out_and_the_node_must_resync() {
    in_a_store(|dir| {
        open(dir).0.commit(&entries(5)).unwrap();
        {
            // Sled checks its own pages; this is what a bit error in memory would leave.
            let db = sled::open(dir).unwrap();
            let mut bytes = db.get(path(1).as_str()).unwrap().unwrap().to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            db.insert(path(1).as_str(), bytes).unwrap();
            // An intact value under another key is damage, too.
            let other = db.get(path(2).as_str()).unwrap().unwrap();
            db.insert(path(4).as_str(), other).unwrap();
        }
        let (mut store, opened) = open(dir);
        let Opened::Incomplete { reason } = opened else {
            panic!("{opened:?}")
        };
        assert_eq!(reason, "2 damaged entries left out");
        let left: Vec<_> = store
            .load()
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(left, [path(0), path(2), path(3)]);
        drop(store);
        let (mut store, opened) = open(dir);
        assert_eq!(opened, Opened::Good);
        assert_eq!(
            store.must_resync(),
            Some(&*reason),
            "remembered until it is done"
        );
        store.resynced().unwrap();
        drop(store);
        assert_eq!(open(dir).0.must_resync(), None);
    });
}

#[test]
fn a_ruined_snapshot_costs_nothing() {
    in_a_store(|dir| {
        open(dir).0.commit(&entries(20)).unwrap();
        drop(open(dir));
        let mut ruined = 0;
        for file in fs::read_dir(dir).unwrap() {
            let file = file.unwrap().path();
            if file
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("snap.")
            {
                fs::write(&file, b"ruined, and long enough to be looked at").unwrap();
                ruined += 1;
            }
        }
        assert!(ruined > 0, "sled keeps snapshots");
        let (mut store, _) = open(dir);
        assert_eq!(store.load().unwrap(), sorted(&entries(20)));
        assert_eq!(store.must_resync(), None);
    });
}

#[test]
fn a_database_that_cannot_be_read_is_moved_aside_and_the_node_must_resync() {
    in_a_store(|dir| {
        open(dir).0.commit(&entries(20)).unwrap();
        fs::write(dir.join("conf"), [0xff; 64]).unwrap();
        fs::remove_file(dir.join("db")).unwrap();
        fs::create_dir(dir.join("db")).unwrap();
        let (mut store, opened) = open(dir);
        assert!(matches!(opened, Opened::Incomplete { .. }), "{opened:?}");
        assert!(store.must_resync().unwrap().ends_with("begun anew"));
        assert_eq!(store.load().unwrap(), []);
        assert!(
            dir.with_extension("bad-1").join("conf").exists(),
            "kept for whoever wants to look"
        );
        store.commit(&entries(3)).unwrap();
        drop(store);
        let (mut store, opened) = open(dir);
        assert_eq!(
            (opened, store.load().unwrap()),
            (Opened::Good, sorted(&entries(3)))
        );
        assert!(store.must_resync().is_some());
    });
}

#[test]
fn a_full_medium_closes_the_store_and_nothing_of_the_failed_commit_is_seen() {
    let medium = MemMedium::default();
    let mut store = medium.store();
    medium.set_full(true);
    assert!(matches!(
        store.commit(&entries(3)),
        Err(StoreError::Full { .. })
    ));
    medium.set_full(false);
    assert!(matches!(
        store.commit(&entries(3)),
        Err(StoreError::Closed { .. })
    ));
    assert_eq!(medium.entries(), []);
    medium.store().commit(&entries(3)).unwrap();
}

fn copy_dir(from: &FilePath, to: &FilePath) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy_dir(&file.path(), &target),
            false => drop(fs::copy(file.path(), target).unwrap()),
        }
    }
}
