//! Records of a log and the write buffer: `cargo bench -p storage`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use storage::{
    AheadOptions, Body, Bound, LogFile, LogHeader, LogIdentity, LogWriter, NewRecord, RealFs,
    WriteBuffer,
};
use tree::{Digest128, LogName, Resource};

const BLOCK: usize = 4096;

fn log() -> LogName {
    "log-000000001-alpha".parse().expect("name of a log")
}

fn record(nr: u64, at: u64) -> NewRecord {
    NewRecord {
        stamp_ns: nr,
        body: Body::Data {
            at,
            bytes: vec![nr as u8; BLOCK].into(),
        },
    }
}

/// Places all over a device of 1 GiB, each different.
fn scattered(nr: u64) -> u64 {
    (nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 46) * BLOCK as u64
}

fn writer(dir: &Path) -> LogWriter {
    let header = LogHeader {
        identity: LogIdentity {
            cluster: "bench".into(),
            resource: Resource::new("bench").expect("a good name"),
            log: log(),
        },
        predecessor: Digest128::ZERO,
    };
    let ahead = AheadOptions {
        ahead_bytes: 0,
        ..AheadOptions::default()
    };
    LogWriter::create(&RealFs, dir, &header, ahead).expect("a log")
}

fn encode(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = c.benchmark_group("encode and append 4 KiB records, batches of");
    for count in [1u64, 64] {
        let records: Vec<_> = (0..count).map(|nr| record(nr, scattered(nr))).collect();
        let mut writer = writer(dir.path());
        group.throughput(Throughput::Bytes(count * BLOCK as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &records,
            |b, records| {
                b.iter(|| {
                    // The file shall not fill the disk while we measure.
                    if writer.appended_len() > 1 << 30 {
                        std::fs::remove_file(writer.path()).expect("removed");
                        writer = self::writer(dir.path());
                    }
                    writer.append(records).expect("appended")
                });
            },
        );
        std::fs::remove_file(dir.path().join(log().to_string())).expect("removed");
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = writer(dir.path());
    let records: Vec<_> = (0..1024).map(|nr| record(nr, scattered(nr))).collect();
    writer.append(&records).expect("appended");
    let end = writer.flush().expect("flushed");
    let file = Arc::new(LogFile::open(&RealFs, writer.path(), None).expect("opened"));
    let mut group = c.benchmark_group("read and check");
    group.throughput(Throughput::Bytes(end.len));
    group.bench_function("1024 records of 4 KiB", |b| {
        b.iter(|| {
            let mut reader = file.records(file.start(), Bound::Durable(end.len));
            let mut count = 0;
            while let Some(record) = reader.next_record().expect("intact") {
                black_box(record);
                count += 1;
            }
            assert_eq!(count, 1024);
        });
    });
    group.finish();
}

fn filled(count: u64) -> WriteBuffer {
    let mut buffer = WriteBuffer::new(log().at(0));
    for nr in 0..count {
        buffer.insert(&record(nr, scattered(nr)).body, log().at((nr + 1) * 4160));
    }
    buffer
}

fn overlay(c: &mut Criterion) {
    let mut group = c.benchmark_group("write buffer, filled with");
    for count in [1_000u64, 100_000] {
        let mut buffer = filled(count);
        let mut nr = 0;
        group.bench_with_input(BenchmarkId::new("look up", count), &(), |b, ()| {
            b.iter(|| {
                nr += 1;
                let at = scattered(nr % count);
                black_box(buffer.lookup(at..at + BLOCK as u64))
            });
        });
        let mut end = count * 4160;
        group.bench_with_input(BenchmarkId::new("insert", count), &(), |b, ()| {
            b.iter_batched(
                || {
                    nr += 1;
                    end += 4160;
                    (record(nr, scattered(nr % count)).body, log().at(end))
                },
                |(body, end)| buffer.insert(&body, end),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, encode, decode, overlay);
criterion_main!(benches);
