//! The underlying disk and the small files, on the real file system and on one that loses what was
//! not flushed.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod common;

use bytes::Bytes;
use common::MemFs;
use std::io;
use std::path::Path;
use storage::{
    Disk, DiskError, DiskOp, ExtentKind, Fs, Layout, OpenHow, RealFs, read_small, remove_small,
    write_small,
};

const MIB: u64 = 1 << 20;

/// A disk of 1 MiB on the real file system.
fn with_disk(test: impl FnOnce(&Disk, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    RealFs
        .open(&path, OpenHow::CreateNew)
        .unwrap()
        .set_size(MIB)
        .unwrap();
    test(&Disk::open(&RealFs, &path, Some(MIB)).unwrap(), &path);
}

fn read(disk: &Disk, at: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xee; len];
    disk.read(&mut buf, at).unwrap();
    buf
}

#[test]
fn a_unit_is_applied_in_order_and_reads_back() {
    with_disk(|disk, _| {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        disk.write(&[bytes("................................")], 0)
            .unwrap();
        disk.apply(&[
            DiskOp::Write {
                at: 2,
                bytes: vec![bytes("ab"), bytes("cd")],
            },
            DiskOp::Zero { at: 8, len: 2 },
            DiskOp::Trim { at: 12, len: 3 },
        ])
        .unwrap();
        disk.flush().unwrap();
        assert_eq!(read(disk, 0, 18), b"..abcd..\0\0..\0\0\0...");
    });
}

#[test]
fn ranges_beyond_the_resource_are_refused_even_if_the_disk_is_larger() {
    with_disk(|disk, path| {
        let e = disk.read(&mut [0; 2], MIB - 1).unwrap_err();
        assert!(matches!(e, DiskError::Beyond { size: MIB, .. }), "{e}");
        let e = disk.zero(u64::MAX, 2).unwrap_err();
        assert!(matches!(e, DiskError::Beyond { .. }), "{e}");
        let busy = Disk::open(&RealFs, path, None).err().unwrap();
        assert!(matches!(busy, DiskError::Busy { .. }), "{busy}");
    });
}

#[test]
fn a_disk_smaller_than_the_resource_or_absent_is_refused_and_growing_is_possible() {
    let fs = MemFs::default();
    let path = Path::new("/disk");
    let absent = Disk::open(&fs, path, None).err().unwrap();
    assert!(matches!(absent, DiskError::Absent { .. }), "{absent}");
    fs.set_bytes(path, &[1; 4096]);
    let small = Disk::open(&fs, path, Some(8192)).err().unwrap();
    assert!(
        matches!(
            small,
            DiskError::TooSmall {
                have: 4096,
                need: 8192,
                ..
            }
        ),
        "{small}"
    );
    let mut disk = Disk::open(&fs, path, Some(1024)).unwrap();
    assert_eq!((disk.size(), disk.real_size().unwrap()), (1024, 4096));
    disk.grow(2048).unwrap();
    disk.grow(512).unwrap();
    assert_eq!(disk.size(), 2048);
    assert!(matches!(disk.grow(8192), Err(DiskError::TooSmall { .. })));
}

#[test]
fn after_a_failed_flush_nothing_is_read_nor_called_flushed_until_the_disk_is_opened_again() {
    let fs = MemFs::default();
    fs.set_bytes(Path::new("/disk"), &[1; 4096]);
    let disk = Disk::open(&fs, Path::new("/disk"), None).unwrap();
    disk.write(&[Bytes::from_static(b"x")], 0).unwrap();
    fs.fail_next(io::ErrorKind::Other);
    assert!(matches!(
        disk.flush(),
        Err(DiskError::Io {
            doing: "flushing",
            ..
        })
    ));
    assert!(matches!(disk.flush(), Err(DiskError::FlushLost { .. })));
    assert!(disk.is_lost());
    let mut buf = [0; 2];
    assert!(matches!(
        disk.read(&mut buf, 0),
        Err(DiskError::FlushLost { .. })
    ));
    assert!(!disk.read_cached(&mut buf, 0));
    drop(disk);
    let disk = Disk::open(&fs, Path::new("/disk"), None).unwrap();
    assert!(!disk.is_lost());
    read(&disk, 0, 2);
    disk.flush().unwrap();
}

#[test]
fn the_map_of_a_sparse_disk_shows_what_was_never_written() {
    with_disk(|disk, _| {
        disk.write(&[Bytes::from(vec![1; 65536])], 65536).unwrap();
        let map = disk.map(0, MIB).unwrap();
        let kinds: Vec<_> = map.iter().map(|e| (e.at, e.len, e.kind)).collect();
        let (data, hole) = (ExtentKind::Data, ExtentKind::Hole);
        assert_eq!(
            kinds,
            [
                (0, 65536, hole),
                (65536, 65536, data),
                (131072, MIB - 131072, hole)
            ]
        );
        disk.trim(65536, 65536).unwrap();
        assert_eq!(disk.map(0, MIB).unwrap().len(), 1);
    });
}

#[test]
fn a_small_file_is_the_old_or_the_new_one_after_a_power_cut_at_any_moment() {
    let path = Path::new("/mars/host");
    for cut in 0..8 {
        for seed in 0..16 {
            let fs = MemFs::default();
            write_small(&fs, path, b"old").unwrap();
            fs.fail_after(cut, io::ErrorKind::Other);
            let written = write_small(&fs, path, &[b'n'; 2000]).is_ok();
            fs.power_cut(seed);
            let left = read_small(&fs, path).unwrap().unwrap();
            let new = left == vec![b'n'; 2000];
            assert!(
                new || (!written && left == b"old"),
                "cut {cut}, seed {seed}: {left:?}"
            );
        }
    }
}

#[test]
fn a_removed_small_file_stays_removed_and_an_absent_one_is_no_error() {
    let fs = MemFs::default();
    let path = Path::new("/mars/host");
    write_small(&fs, path, b"old").unwrap();
    remove_small(&fs, path).unwrap();
    remove_small(&fs, path).unwrap();
    fs.power_cut(3);
    assert_eq!(read_small(&fs, path).unwrap(), None);
}

#[test]
fn the_logs_of_a_resource_are_listed_by_number_and_other_files_ignored() {
    let fs = MemFs::default();
    let layout = Layout::new("/mars");
    let res = "data".parse().unwrap();
    for name in [
        "log-000000010-beta",
        "log-000000002-alpha",
        "log-000000002-alpha.new",
        "core",
    ] {
        fs.set_bytes(&layout.resource(&res).join(name), b"");
    }
    let logs = layout.logs(&fs, &res).unwrap();
    let names: Vec<_> = logs.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["log-000000002-alpha", "log-000000010-beta"]);
    assert_eq!(
        layout.log(&res, &logs[0]),
        Path::new("/mars/resource-data/log-000000002-alpha")
    );
    let none = layout.logs(&RealFs, &"no-such".parse().unwrap());
    assert_eq!(none.unwrap(), []);
}
