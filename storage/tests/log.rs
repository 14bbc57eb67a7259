//! The transaction log: what is written is read, what is doubtful is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use storage::{
    AheadOptions, Body, Bound, Boundary, Damage, FetchedLog, Fs, HEADER_BYTES, HeaderFlaw, LogEnd,
    LogError, LogFile, LogWriter, NewRecord, RealFs, Recent, Record, recover,
};

fn open(fs: &MemFs, seq: u64) -> Arc<LogFile> {
    Arc::new(LogFile::open(fs, &log_path(seq), Some(&identity(seq))).unwrap())
}

/// All records up to the bound, and how it ended.
fn read(log: &Arc<LogFile>, bound: Bound) -> (Vec<Record>, Result<LogEnd, LogError>) {
    let mut reader = log.records(log.start(), bound);
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, Ok(reader.boundary().end().unwrap())),
            Err(e) => return (records, Err(e)),
        }
    }
}

fn bodies(records: &[Record]) -> Vec<Body> {
    records.iter().map(|record| record.body.clone()).collect()
}

/// A log with some records, all durable; their ends.
fn written(fs: &MemFs, records: &[NewRecord]) -> (LogWriter, Vec<u64>) {
    let mut writer = create(fs, 1);
    let ends = writer.append(records).unwrap();
    writer.flush().unwrap();
    (writer, ends)
}

fn five() -> Vec<NewRecord> {
    let mut chance = Chance(5);
    (0..5).map(|_| any_record(&mut chance)).collect()
}

#[test]
fn what_was_appended_is_read_in_order_with_its_numbers_and_ends() {
    let fs = MemFs::default();
    let records = five();
    let (writer, ends) = written(&fs, &records);
    let (read, end) = read(&open(&fs, 1), Bound::Durable(writer.durable().len));
    assert_eq!(
        bodies(&read),
        records.iter().map(|r| r.body.clone()).collect::<Vec<_>>()
    );
    assert_eq!(read.iter().map(|r| r.end).collect::<Vec<_>>(), ends);
    assert_eq!(
        read.iter().map(|r| r.nr).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(read[2].stamp_ns, records[2].stamp_ns);
    assert_eq!(end.unwrap(), writer.durable());
}

#[test]
fn nothing_counts_as_durable_before_a_flush() {
    let fs = MemFs::default();
    let mut writer = create(&fs, 1);
    let empty = writer.durable();
    writer.append(&[data(0, *b"abc")]).unwrap();
    assert_eq!(writer.durable(), empty);
    assert!(writer.appended_len() > 0);
    assert_eq!(writer.flush().unwrap().len, writer.appended_len());
}

#[test]
fn a_reader_at_the_tail_of_a_growing_log_is_short_and_goes_on_when_more_is_durable() {
    let fs = MemFs::default();
    let (mut writer, ends) = written(&fs, &five());
    let log = open(&fs, 1);
    let mut reader = log.records(log.start(), Bound::Durable(ends[1] + 10));
    assert_eq!(reader.next_record().unwrap().unwrap().nr, 1);
    assert_eq!(reader.next_record().unwrap().unwrap().nr, 2);
    let short = reader.next_record().unwrap_err();
    assert!(
        short.waiting_helps() && short.offset() == Some(ends[1]),
        "{short}"
    );
    writer.append(&[data(1, *b"more")]).unwrap();
    reader.extend(writer.flush().unwrap().len);
    let rest: Vec<_> = std::iter::from_fn(|| reader.next_record().unwrap())
        .map(|r| r.nr)
        .collect();
    assert_eq!(rest, [3, 4, 5, 6]);
}

#[test]
fn reading_goes_on_in_the_middle_with_or_without_the_digest() {
    let fs = MemFs::default();
    let (writer, ends) = written(&fs, &five());
    let log = open(&fs, 1);
    let digest = log.digest_at(ends[2]).unwrap();
    let from_end = Boundary::at_end(LogEnd {
        len: ends[2],
        digest,
    });
    for (from, knows) in [(from_end, true), (Boundary::at_offset(ends[2]), false)] {
        let mut reader = log.records(from, Bound::Durable(writer.durable().len));
        let nrs: Vec<_> = std::iter::from_fn(|| reader.next_record().unwrap())
            .map(|r| r.nr)
            .collect();
        assert_eq!(nrs, [4, 5]);
        assert_eq!(reader.boundary().end(), knows.then(|| writer.durable()));
    }
}

#[test]
fn a_sealed_log_ends_at_its_seal_and_takes_no_more() {
    let fs = MemFs::default();
    let (mut writer, ends) = written(&fs, &five());
    let before = writer.durable();
    let end = writer.seal(9).unwrap();
    let (records, at) = read(&open(&fs, 1), Bound::Tail { at_least: end.len });
    assert_eq!(at.unwrap(), end);
    let seal = Body::Seal {
        len: ends[4],
        digest: before.digest,
    };
    assert_eq!(records.last().unwrap().body, seal);
    assert!(matches!(
        writer.append(&five()),
        Err(LogError::Sealed { .. })
    ));
    let (_, beyond) = read(&open(&fs, 1), Bound::Durable(end.len + 64));
    assert!(
        matches!(beyond, Err(LogError::Sealed { .. })),
        "bytes were promised behind the seal"
    );
}

#[test]
fn zeros_are_the_clean_end_of_a_tail_but_damage_below_a_promised_length() {
    let fs = MemFs::default();
    let (_, ends) = written(&fs, &five());
    let mut bytes = fs.bytes(&log_path(1));
    bytes.resize(bytes.len() + 4096, 0);
    fs.set_bytes(&log_path(1), &bytes);
    let (records, end) = read(&open(&fs, 1), Bound::Tail { at_least: ends[4] });
    assert_eq!((records.len(), end.unwrap().len), (5, ends[4]));
    for bound in [
        Bound::Durable(ends[4] + 72),
        Bound::Tail {
            at_least: ends[4] + 72,
        },
    ] {
        let (records, end) = read(&open(&fs, 1), bound);
        assert_eq!(records.len(), 5);
        let e = end.unwrap_err();
        assert!(
            matches!(
                e,
                LogError::Damaged {
                    what: Damage::Zeros,
                    ..
                }
            ),
            "{e}"
        );
        assert_eq!(
            (e.offset(), e.scan_code(), e.waiting_helps()),
            (Some(ends[4]), 10002, false)
        );
    }
}

#[test]
fn a_log_of_another_cluster_resource_or_name_is_refused_with_what_differs() {
    let fs = MemFs::default();
    written(&fs, &five());
    let refused = |change: fn(&mut storage::LogIdentity)| {
        let mut wanted = identity(1);
        change(&mut wanted);
        let e = LogFile::open(&fs, &log_path(1), Some(&wanted))
            .err()
            .unwrap();
        assert!(matches!(e, LogError::Foreign { .. }));
        e.to_string()
    };
    let cluster = refused(|wanted| wanted.cluster = "other".to_owned());
    assert!(
        cluster.contains("its cluster is 2f6c7d7e") && cluster.contains("not other"),
        "{cluster}"
    );
    assert!(
        refused(|wanted| wanted.resource = "x".parse().unwrap()).contains("its resource is data")
    );
    assert!(refused(|wanted| wanted.log = log_name(2)).contains("its name is log-000000001-alpha"));
}

#[test]
fn a_record_of_another_log_or_another_place_is_not_taken_for_the_next_one() {
    let fs = MemFs::default();
    let (_, ends) = written(&fs, &five());
    let mut other = create(&fs, 2);
    other.append(&five()).unwrap();
    let (mut mixed, foreign) = (fs.bytes(&log_path(1)), fs.bytes(&log_path(2)));
    let second = (HEADER_BYTES + ends[0]) as usize..(HEADER_BYTES + ends[1]) as usize;
    mixed[second.clone()].copy_from_slice(&foreign[second]);
    fs.set_bytes(&log_path(1), &mixed);
    let (records, end) = read(&open(&fs, 1), Bound::Durable(ends[4]));
    assert_eq!(records.len(), 1);
    assert!(matches!(
        end,
        Err(LogError::Damaged {
            what: Damage::Checksum { .. },
            ..
        })
    ));

    let fs = MemFs::default();
    let same: Vec<_> = (0..3).map(|_| data(0, [1; 64])).collect();
    let (_, ends) = written(&fs, &same);
    let mut moved = fs.bytes(&log_path(1));
    let at = |end: u64| (HEADER_BYTES + end) as usize;
    moved.copy_within(at(ends[1])..at(ends[2]), at(ends[0]));
    fs.set_bytes(&log_path(1), &moved);
    let (records, end) = read(&open(&fs, 1), Bound::Durable(ends[2]));
    assert_eq!(records.len(), 1);
    assert!(matches!(
        end,
        Err(LogError::Damaged {
            what: Damage::Offset(_),
            ..
        })
    ));
}

/// The first `at` bytes of one log, then those of another with the very same header.
fn spliced(first: &[NewRecord], at: u64, second: &[NewRecord]) -> (MemFs, u64) {
    let fs = MemFs::default();
    let mut writer = create(&fs, 1);
    writer.append(first).unwrap();
    let head = fs.bytes(writer.path());
    let fs = MemFs::default();
    let mut writer = create(&fs, 1);
    writer.append(second).unwrap();
    let end = writer.seal(1).unwrap().len;
    let mut bytes = fs.bytes(writer.path());
    let at = (HEADER_BYTES + at) as usize;
    bytes[..at].copy_from_slice(&head[..at]);
    fs.set_bytes(writer.path(), &bytes);
    (fs, end)
}

#[test]
fn a_missing_number_is_found_even_where_offsets_fit() {
    let mark = NewRecord {
        stamp_ns: 1,
        body: Body::Mark,
    };
    let (fs, end) = spliced(
        &[data(0, [1; 64])],
        128,
        &[mark.clone(), mark.clone(), mark],
    );
    let (records, at) = read(&open(&fs, 1), Bound::Durable(end));
    assert_eq!(records.len(), 1);
    let e = at.unwrap_err();
    let gap = matches!(
        e,
        LogError::Gap {
            expected: 2,
            found: 3,
            ..
        }
    );
    assert!(gap && e.scan_code() == 10010 && e.is_damage(), "{e}");
}

#[test]
fn a_seal_over_other_contents_is_refused() {
    let (fs, end) = spliced(&[data(0, [1; 64])], 128, &[data(0, [2; 64])]);
    let (records, at) = read(&open(&fs, 1), Bound::Durable(end));
    assert_eq!(records.len(), 1);
    let e = at.unwrap_err();
    let seal = matches!(
        e,
        LogError::Damaged {
            what: Damage::Seal,
            ..
        }
    );
    assert!(seal && e.offset() == Some(128), "{e}");
}

#[test]
fn an_append_that_fails_leaves_no_trace_and_closes_the_log() {
    let fs = MemFs::default();
    let (mut writer, ends) = written(&fs, &five());
    writer.append(&[data(0, *b"kept")]).unwrap();
    // The write fails, cutting the file and the flush work again.
    fs.fail_after(0, io::ErrorKind::StorageFull);
    let e = writer.append(&[data(0, [9; 5000])]).unwrap_err();
    assert!(e.is_no_space(), "{e}");
    fs.heal();
    assert!(matches!(
        writer.append(&five()),
        Err(LogError::Unusable { .. })
    ));
    drop(writer);
    let recovered = recover(&fs, &log_path(1), &identity(1), None, ends[4]).unwrap();
    assert_eq!(
        recovered.end.len,
        ends[4] + 72,
        "the torn write is not there"
    );
}

#[test]
fn a_failed_append_that_could_be_taken_back_leaves_the_rest_flushable() {
    let fs = MemFs::default();
    let (mut writer, _) = written(&fs, &five());
    writer.append(&[data(0, *b"kept")]).unwrap();
    let kept = writer.appended_len();
    fs.fail_next(io::ErrorKind::StorageFull);
    writer.append(&[data(0, [9; 5000])]).unwrap_err();
    assert_eq!(writer.flush().unwrap().len, kept);
    assert_eq!(fs.bytes(&log_path(1)).len() as u64, HEADER_BYTES + kept);
}

#[test]
fn a_failed_flush_is_final() {
    let fs = MemFs::default();
    let (mut writer, _) = written(&fs, &five());
    let durable = writer.durable();
    writer.append(&[data(0, *b"lost")]).unwrap();
    fs.fail_next(io::ErrorKind::Other);
    assert!(matches!(writer.flush(), Err(LogError::Io { .. })));
    assert!(
        matches!(writer.flush(), Err(LogError::Unusable { .. })),
        "no second try"
    );
    assert!(matches!(
        writer.append(&five()),
        Err(LogError::Unusable { .. })
    ));
    assert_eq!(writer.durable(), durable);
}

#[test]
fn an_interrupted_creation_is_repeated_but_a_log_with_records_is_never_replaced() {
    let fs = MemFs::default();
    let ops = {
        create(&fs, 1);
        fs.ops()
    };
    for cut in 0..=ops {
        for seed in 0..8 {
            let fs = MemFs::default();
            fs.fail_after(cut, io::ErrorKind::Other);
            let created = LogWriter::create(&fs, Path::new(DIR), &header(1), PLAIN).is_ok();
            fs.power_cut(seed);
            if created {
                open(&fs, 1);
            }
            create(&fs, 1).append(&five()).unwrap();
            let again = LogWriter::create(&fs, Path::new(DIR), &header(1), PLAIN)
                .err()
                .unwrap();
            assert!(
                matches!(again, LogError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
            );
        }
    }
}

#[test]
fn zeros_written_ahead_never_meet_the_records_and_are_cut_off_by_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = AheadOptions {
        ahead_bytes: 256 << 10,
        step_bytes: 16 << 10,
        until_bytes: 1 << 20,
    };
    let mut writer = LogWriter::create(&RealFs, dir.path(), &header(1), ahead).unwrap();
    let zeros = writer.ahead();
    assert!(zeros.is_due());
    let thread = std::thread::spawn(move || {
        let mut steps = 0;
        for _ in 0..2000 {
            steps += u32::from(zeros.step().unwrap());
            std::thread::yield_now();
        }
        steps
    });
    let mut chance = Chance(1);
    let records: Vec<_> = (0..1000).map(|_| any_record(&mut chance)).collect();
    for batch in records.chunks(7) {
        writer.append(batch).unwrap();
        writer.flush().unwrap();
    }
    assert!(thread.join().unwrap() > 1);
    let path = writer.path().to_owned();
    let end = writer.seal(1).unwrap();
    assert_eq!(RealFs.len_of(&path).unwrap(), Some(HEADER_BYTES + end.len));
    assert!(!writer.ahead().step().unwrap());
    let log = Arc::new(LogFile::open(&RealFs, &path, Some(&identity(1))).unwrap());
    let (read, at) = read(&log, Bound::Durable(end.len));
    assert_eq!(at.unwrap(), end);
    let wanted: Vec<_> = records.into_iter().map(|record| record.body).collect();
    assert_eq!(bodies(&read)[..1000], wanted);
}

#[test]
fn a_failed_flush_of_zeros_ahead_makes_the_log_unusable() {
    let fs = MemFs::default();
    let ahead = AheadOptions {
        ahead_bytes: 8192,
        step_bytes: 4096,
        until_bytes: u64::MAX,
    };
    let mut writer = LogWriter::create(&fs, Path::new(DIR), &header(1), ahead).unwrap();
    writer.append(&five()).unwrap();
    fs.fail_after(1, io::ErrorKind::Other);
    writer.ahead().step().unwrap_err();
    fs.heal();
    assert!(matches!(writer.flush(), Err(LogError::Unusable { .. })));
}

#[test]
fn a_copy_refuses_bytes_for_another_place_and_headers_of_other_logs() {
    let fs = MemFs::default();
    let (writer, _) = written(&fs, &five());
    let bytes = fs.bytes(writer.path());
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let copies = Path::new("/copies");
    let foreign = FetchedLog::create(&fs, copies, head, &identity(2))
        .err()
        .unwrap();
    assert!(matches!(foreign, LogError::Foreign { .. }));
    assert_eq!(
        fs.len_of(&copies.join(log_name(2).to_string())).unwrap(),
        None
    );
    let short = FetchedLog::create(&fs, copies, &head[..100], &identity(1))
        .err()
        .unwrap();
    assert!(matches!(
        short,
        LogError::Header {
            flaw: HeaderFlaw::Short(100),
            ..
        }
    ));
    let mut copy = FetchedLog::create(&fs, copies, head, &identity(1)).unwrap();
    copy.append(0, &body[..10]).unwrap();
    let e = copy.append(0, body).unwrap_err();
    assert!(
        matches!(e, LogError::Misplaced { found: 0, .. }) && e.offset() == Some(10),
        "{e}"
    );
    copy.append(10, &body[10..]).unwrap();
    assert_eq!(copy.flush().unwrap(), writer.durable());
}

#[test]
fn a_copy_keeps_what_was_intact_before_the_damage_and_names_the_place() {
    let fs = MemFs::default();
    let (writer, ends) = written(&fs, &five());
    let mut bytes = fs.bytes(writer.path());
    bytes[(HEADER_BYTES + ends[2]) as usize + 20] ^= 1;
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let mut copy = FetchedLog::create(&fs, Path::new("/copies"), head, &identity(1)).unwrap();
    let e = copy.append(0, body).unwrap_err();
    assert!(e.is_damage() && e.offset() == Some(ends[2]), "{e}");
    assert!(
        e.to_string()
            .starts_with("/copies/log-000000001-alpha offset "),
        "{e}"
    );
    assert_eq!(copy.flush().unwrap().len, ends[2]);
    assert_eq!(
        copy.received(),
        ends[2],
        "the sound bytes may be asked for again"
    );
}

#[test]
fn a_flush_covers_what_was_written_when_it_was_prepared_and_no_more() {
    let fs = MemFs::default();
    let (writer, ends) = written(&fs, &five());
    let bytes = fs.bytes(writer.path());
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let mut copy = FetchedLog::create(&fs, Path::new("/copies"), head, &identity(1)).unwrap();
    assert!(copy.unflushed().is_none());
    copy.append(0, &body[..ends[1] as usize + 5]).unwrap();
    let first = copy.unflushed().expect("two records");
    copy.append(ends[1] + 5, &body[ends[1] as usize + 5..])
        .unwrap();
    let flushed = first.flush().unwrap();
    assert_eq!(flushed.len, ends[1]);
    copy.note_flushed(flushed);
    assert_eq!(copy.durable(), flushed);
    let rest = copy.unflushed().expect("three more").flush().unwrap();
    assert_eq!(rest, writer.durable());
    copy.note_flushed(rest);
    copy.note_flushed(flushed);
    assert_eq!(copy.durable(), rest, "an older one takes nothing back");
}

/// A log of 6 MiB in records of odd sizes; its bytes.
fn large() -> Vec<u8> {
    let fs = MemFs::default();
    let sizes = (1..).map(|nr| 1 + nr * 90_011 % (1 << 20));
    let records: Vec<_> = sizes
        .take(12)
        .map(|size| data(0, vec![size as u8; size]))
        .collect();
    let (writer, _) = written(&fs, &records);
    fs.bytes(writer.path())
}

/// Pieces of `body` from `from` on, as a peer sends them.
fn pieces(body: &[u8], from: usize, sizes: &[usize]) -> Vec<(u64, Bytes)> {
    let mut at = from;
    let cut = sizes.iter().map(|size| {
        let piece = &body[at..body.len().min(at + size)];
        let cut = (at as u64, Bytes::copy_from_slice(piece));
        at += piece.len();
        cut
    });
    cut.collect()
}

#[test]
fn large_batches_reach_the_real_file_byte_by_byte_whatever_their_edges() {
    let bytes = large();
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let dir = tempfile::tempdir().unwrap();
    let mut copy = FetchedLog::create(&RealFs, dir.path(), head, &identity(1)).unwrap();
    let batches: [&[usize]; 5] = [
        &[1 << 20, 1 << 20],
        &[333],
        &[700_001, 3],
        &[1 << 20],
        &[8 << 20],
    ];
    for sizes in batches {
        let batch = pieces(body, copy.received() as usize, sizes);
        copy.append_all(&batch).unwrap();
        copy.flush().unwrap();
    }
    assert_eq!(copy.durable().len, body.len() as u64);
    let file = std::fs::read(dir.path().join(log_name(1).to_string())).unwrap();
    assert!(file == bytes, "the copy differs");
}

#[test]
fn a_reader_behind_the_fetcher_gets_the_recent_bytes_and_not_the_file() {
    let (fs, bytes) = (MemFs::default(), large());
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let (dir, recent) = (Path::new("/"), Arc::new(Recent::default()));
    let mut copy = FetchedLog::create(&fs, dir, head, &identity(1)).unwrap();
    copy.keep_recent(recent.clone());
    for _ in 0..2 {
        let batch = pieces(body, copy.received() as usize, &[1 << 20; 3]);
        copy.append_all(&batch).unwrap();
    }
    let (end, path) = (copy.flush().unwrap(), log_path(1));
    let path = dir.join(path.file_name().unwrap());
    let mut damaged = fs.bytes(&path);
    damaged[HEADER_BYTES as usize..].fill(0xee);
    fs.set_bytes(&path, &damaged);
    let open = || LogFile::open(&fs, &path, Some(&identity(1))).unwrap();
    let bound = Bound::Durable(end.len);
    let (all, ended) = read(&Arc::new(open().with_recent(recent.clone())), bound);
    assert_eq!((ended.unwrap(), all.len()), (end, 12));
    let (none, ended) = read(&Arc::new(open()), bound);
    assert!(
        none.is_empty() && ended.unwrap_err().is_damage(),
        "the file is not read without reason"
    );
}

#[test]
fn bytes_that_are_not_verified_are_never_recent() {
    let (fs, mut bytes) = (MemFs::default(), large());
    let at = HEADER_BYTES as usize + (3 << 20);
    bytes[at] ^= 1;
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let (dir, recent) = (Path::new("/"), Arc::new(Recent::default()));
    let mut copy = FetchedLog::create(&fs, dir, head, &identity(1)).unwrap();
    copy.keep_recent(recent.clone());
    copy.append_all(&pieces(body, 0, &[1 << 20, 1 << 20]))
        .unwrap();
    let end = copy.flush().unwrap();
    let flaw = copy.append_all(&pieces(body, 2 << 20, &[1 << 20, 1 << 20]));
    assert!(flaw.unwrap_err().is_damage());
    let path = dir.join(log_name(1).to_string());
    let log = LogFile::open(&fs, &path, Some(&identity(1))).unwrap();
    let log = Arc::new(log.with_recent(recent));
    let (records, ended) = read(&log, Bound::Durable(4 << 20));
    let e = ended.unwrap_err();
    assert!(e.waiting_helps() && !records.is_empty(), "{e}");
    assert!(records.last().unwrap().end >= end.len);
}

#[test]
fn a_copy_goes_on_after_a_restart_from_its_published_end() {
    let fs = MemFs::default();
    let (mut writer, ends) = written(&fs, &five());
    let end = writer.seal(3).unwrap();
    let bytes = fs.bytes(writer.path());
    let (head, body) = bytes.split_at(HEADER_BYTES as usize);
    let mut copy = FetchedLog::create(&fs, Path::new("/copies"), head, &identity(1)).unwrap();
    copy.append(0, &body[..ends[2] as usize + 9]).unwrap();
    let published = copy.flush().unwrap();
    assert_eq!(published.len, ends[2]);
    for known in [Some(published), None] {
        let (mut copy, recovered) =
            FetchedLog::open(&fs, Path::new("/copies"), &identity(1), known).unwrap();
        assert_eq!(
            (copy.durable(), recovered.torn.is_none()),
            (published, true)
        );
        copy.append(ends[2], &body[ends[2] as usize..]).unwrap();
        assert!(copy.sealed());
        assert_eq!(copy.flush().unwrap(), end);
        let e = copy.append(end.len, &[0; 64]).unwrap_err();
        assert!(matches!(e, LogError::Sealed { .. }));
        // Once more from the middle.
        let path = Path::new("/copies").join(log_name(1).to_string());
        fs.set_bytes(&path, &bytes[..(HEADER_BYTES + ends[2]) as usize]);
    }
    let lost = LogEnd {
        len: ends[4],
        ..published
    };
    let e = FetchedLog::open(&fs, Path::new("/copies"), &identity(1), Some(lost))
        .err()
        .unwrap();
    assert!(
        matches!(e, LogError::Short { .. }),
        "a published end that is not there: {e}"
    );
}

/// Written by the first release. Whoever changes the format must still read it.
#[test]
fn the_golden_log_is_still_readable_and_still_written() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1.bin");
    let fs = MemFs::default();
    let mut writer = create(&fs, 1);
    let zeroes = NewRecord {
        stamp_ns: 2,
        body: Body::Zeroes {
            at: 1 << 20,
            len: 1 << 30,
        },
    };
    let discard = NewRecord {
        stamp_ns: 3,
        body: Body::Discard { at: 0, len: 4096 },
    };
    let mark = NewRecord {
        stamp_ns: 4,
        body: Body::Mark,
    };
    let records = [
        data(4096, *b"golden bytes"),
        zeroes,
        discard,
        mark,
        data(0, [0xaa; 512]),
    ];
    writer.append(&records).unwrap();
    let end = writer.seal(5).unwrap();
    assert_eq!(end.digest.to_string(), "f48f25a1a739d7cd4f5229614201416f");
    let mut stored = Vec::new();
    std::fs::File::open(&golden)
        .unwrap()
        .read_to_end(&mut stored)
        .unwrap();
    assert!(
        stored == fs.bytes(writer.path()),
        "the bytes of format version 1 have changed"
    );
    let log = Arc::new(LogFile::open(&RealFs, &golden, Some(&identity(1))).unwrap());
    let (read, at) = read(&log, Bound::Tail { at_least: 0 });
    assert_eq!(at.unwrap(), end);
    assert_eq!(bodies(&read)[..5], records.map(|record| record.body));
}

proptest! {
    /// Torn tails: whatever a power cut leaves, recovery ends between two records, at or behind
    /// what was durable.
    #[test]
    fn after_a_power_cut_recovery_finds_a_prefix_that_holds_everything_durable(seed: u64) {
        let fs = MemFs::default();
        let mut chance = Chance(seed);
        let mut writer = create(&fs, 1);
        let mut all = Vec::new();
        for _ in 0..chance.below(12) {
            let batch: Vec<_> = (0..1 + chance.below(4)).map(|_| any_record(&mut chance)).collect();
            writer.append(&batch).unwrap();
            all.extend(batch.into_iter().map(|record| record.body));
            if chance.yes() {
                writer.flush().unwrap();
            }
        }
        let durable = writer.durable();
        drop(writer);
        // Either the power went, or only the process, and the power later.
        if chance.yes() {
            fs.power_cut(seed);
        }
        let known = chance.yes().then_some(durable);
        let found = recover(&fs, &log_path(1), &identity(1), known, durable.len).unwrap();
        prop_assert!(found.end.len >= durable.len);
        let (records, end) = read(&open(&fs, 1), Bound::Tail { at_least: found.end.len });
        prop_assert_eq!(end.unwrap(), found.end, "what was found is there, and cut off behind it");
        prop_assert_eq!(&bodies(&records)[..], &all[..records.len()]);
        fs.power_cut(seed ^ 1);
        let again = recover(&fs, &log_path(1), &identity(1), None, found.end.len).unwrap();
        prop_assert_eq!(again.end, found.end, "recovery made it durable");
    }

    /// Every byte counts: no change of any byte is ever read as something else.
    #[test]
    fn a_changed_byte_ends_the_log_in_front_of_its_record(seed: u64, flip in 1u8..) {
        let fs = MemFs::default();
        let mut chance = Chance(seed);
        let records: Vec<_> = (0..6).map(|_| any_record(&mut chance)).collect();
        let (_, ends) = written(&fs, &records);
        let mut bytes = fs.bytes(&log_path(1));
        let at = chance.below(ends[5]);
        bytes[(HEADER_BYTES + at) as usize] ^= flip;
        fs.set_bytes(&log_path(1), &bytes);
        let whole = ends.iter().filter(|end| **end <= at).count();
        let (read, end) = read(&open(&fs, 1), Bound::Durable(ends[5]));
        prop_assert_eq!(read.len(), whole);
        prop_assert_eq!(end.unwrap_err().offset(), Some(if whole == 0 { 0 } else { ends[whole - 1] }));
        prop_assert!(recover(&fs, &log_path(1), &identity(1), None, ends[5]).is_err());
        prop_assert_eq!(fs.bytes(&log_path(1)), bytes, "a damaged log is left as it is");
    }

    #[test]
    fn a_changed_byte_of_the_header_is_found(at in 0..HEADER_BYTES as usize, flip in 1u8..) {
        let fs = MemFs::default();
        written(&fs, &five());
        let mut bytes = fs.bytes(&log_path(1));
        bytes[at] ^= flip;
        fs.set_bytes(&log_path(1), &bytes);
        let e = LogFile::open(&fs, &log_path(1), None).err().unwrap();
        prop_assert!(matches!(e, LogError::Header { .. }), "{}", e);
    }

    /// Garbage never panics, whatever it looks like.
    #[test]
    fn arbitrary_bytes_behind_a_header_are_refused(
        mut garbage in prop::collection::vec(any::<u8>(), 0..400),
        with_magic: bool,
    ) {
        let fs = MemFs::default();
        let writer = create(&fs, 1);
        let mut bytes = fs.bytes(writer.path());
        if with_magic && garbage.len() >= 12 {
            garbage[..4].copy_from_slice(b"MREC");
            garbage[10..12].fill(0);
        }
        bytes.extend(&garbage);
        fs.set_bytes(writer.path(), &bytes);
        let (records, end) = read(&open(&fs, 1), Bound::Durable(u64::MAX));
        prop_assert!(records.is_empty() && end.is_err());
        let mut copy = FetchedLog::create(&fs, Path::new("/copies"), &bytes, &identity(1)).unwrap();
        // Refused at once, or still waiting for the rest of what claims to be a record.
        let _ = copy.append(0, &garbage);
        prop_assert_eq!(copy.flush().unwrap().len, 0);
    }

    /// Any cutting of the stream, any restarts: the copy is a prefix of the original, byte by byte.
    #[test]
    fn a_copy_is_always_a_prefix_of_the_original(seed: u64) {
        let fs = MemFs::default();
        let mut chance = Chance(seed);
        let records: Vec<_> = (0..20).map(|_| any_record(&mut chance)).collect();
        let (mut writer, _) = written(&fs, &records);
        let end = writer.seal(1).unwrap();
        let original = fs.bytes(writer.path());
        let (head, body) = original.split_at(HEADER_BYTES as usize);
        let (dir, path) = (Path::new("/copies"), Path::new("/copies").join(log_name(1).to_string()));
        let mut copy = FetchedLog::create(&fs, dir, head, &identity(1)).unwrap();
        let mut published = copy.durable();
        while copy.durable() != end {
            let at = copy.received() as usize;
            let n = (1 + chance.below(4000) as usize).min(body.len() - at);
            let cut = at + chance.below(1 + n as u64) as usize;
            let piece = |from: usize, to: usize| (from as u64, Bytes::copy_from_slice(&body[from..to]));
            match chance.yes() {
                true => copy.append(at as u64, &body[at..at + n]).unwrap(),
                false => copy.append_all(&[piece(at, cut), piece(cut, at + n)]).unwrap(),
            }
            if chance.yes() || at + n == body.len() {
                published = copy.flush().unwrap();
            }
            if chance.below(8) == 0 && copy.durable() != end {
                drop(copy);
                fs.power_cut(chance.0);
                let known = chance.yes().then_some(published);
                let opened = FetchedLog::open(&fs, dir, &identity(1), known).unwrap();
                copy = opened.0;
                prop_assert!(copy.durable().len >= published.len);
                let bytes = fs.bytes(&path);
                prop_assert!(original.starts_with(&bytes));
            }
        }
        prop_assert_eq!(fs.bytes(&path), original);
    }
}
