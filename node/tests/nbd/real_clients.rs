//! The clients people use, against the server on a unix socket and on TCP.
//!
//! A client that is not installed skips its test and says so; with `MARS_REQUIRE_CLIENTS=1` it
//! fails it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use node::export::{Exports, ListenError, Listening, NbdServer, TcpSafety};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{HandClock, MIB, soon};
use crate::memory_device::MemoryDevice;

const SIZE: usize = 8 * MIB;

/// A server with the exports `data` (8 MiB) and `rom` (1 MiB, read-only).
struct Lab {
    dir: TempDir,
    device: MemoryDevice,
    exports: Arc<Exports>,
    listening: Listening,
}

impl Lab {
    async fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let device = MemoryDevice::new(SIZE);
        let mut rom = MemoryDevice::new(MIB);
        rom.read_only = true;
        let exports = Exports::new();
        exports.add("data", Arc::new(device.clone())).unwrap();
        exports.add("rom", Arc::new(rom)).unwrap();
        let server = NbdServer::new(Arc::clone(&exports), HandClock::new());
        let listening = server
            .listen_unix(&dir.path().join("nbd.sock"))
            .await
            .unwrap();
        Lab {
            dir,
            device,
            exports,
            listening,
        }
    }

    fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.listening.address())
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// All clients have left and the socket can be closed.
    async fn end(self) {
        let mut changes = self.exports.changes();
        soon("clients leave", async {
            while self.exports.opens("data") + self.exports.opens("rom") > 0 {
                changes.changed().await.unwrap();
            }
        })
        .await;
        self.exports.cut_all();
        soon("server stops", self.listening.stop(Duration::MAX)).await;
    }
}

/// Is `program` here? `python3` stands for its NBD module.
pub fn have(program: &str) -> bool {
    let mut probe = std::process::Command::new(program);
    match program {
        "/usr/bin/python3" => probe.args(["-c", "import nbd"]),
        _ => probe.arg("--version"),
    };
    let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = probe.is_ok_and(|status| status.success());
    if !found {
        let required = std::env::var("MARS_REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "{program} (or its NBD part) is required but not installed"
        );
        println!("skipped: {program} (or its NBD part) is not installed");
    }
    found
}

/// Runs a client to its end, which must be a good one; returns what it printed.
pub async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = soon(program, command.output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {printed}{complained}"
    );
    printed
}

/// Bytes that differ from block to block.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at / 512 + at / 4096 * 7 + at) as u8)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_sees_all_exports_with_what_they_can_do() {
    if !have("nbdinfo") {
        return;
    }
    let lab = Lab::new().await;
    let list = run("nbdinfo", &["--list", "--json", &lab.uri("")]).await;
    assert!(
        list.contains("\"export-name\": \"data\"") && list.contains("\"export-name\": \"rom\""),
        "{list}"
    );
    let about = run("nbdinfo", &[&lab.uri("data")]).await;
    for line in [
        "protocol: newstyle-fixed without TLS",
        "export-size: 8388608",
        "can_cache: true",
        "can_df: true",
        "can_fast_zero: false",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "is_read_only: false",
        "block_size_minimum: 1",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
        "base:allocation",
    ] {
        assert!(about.contains(line), "{line} is missing in: {about}");
    }
    let about = run("nbdinfo", &[&lab.uri("rom")]).await;
    assert!(
        about.contains("is_read_only: true") && about.contains("can_trim: false"),
        "{about}"
    );
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_maps_holes_and_data() {
    if !have("nbdinfo") {
        return;
    }
    let lab = Lab::new().await;
    use node::export::Device;
    lab.device
        .write(8192, vec![1; 4096].into(), false)
        .wait()
        .await
        .unwrap();
    let map = run("nbdinfo", &["--map", &lab.uri("data")]).await;
    let map: Vec<Vec<&str>> = map
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        map,
        [
            ["0", "8192", "3", "hole,zero"],
            ["8192", "4096", "0", "data"],
            ["12288", "8376320", "3", "hole,zero"]
        ]
    );
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdcopy_fills_and_reads_through_several_connections() {
    if !have("nbdcopy") {
        return;
    }
    let lab = Lab::new().await;
    let (from, to) = (lab.file("from"), lab.file("to"));
    let mut bytes = pattern(SIZE);
    bytes[MIB..3 * MIB].fill(0);
    std::fs::write(&from, &bytes).unwrap();
    run(
        "nbdcopy",
        &[
            "--connections=4",
            "--requests=16",
            "--flush",
            &from,
            &lab.uri("data"),
        ],
    )
    .await;
    assert!(lab.device.content(0, SIZE) == bytes);
    assert!(lab.device.calls().contains(&"flush".to_owned()));
    run(
        "nbdcopy",
        &["--connections=4", "--requests=16", &lab.uri("data"), &to],
    )
    .await;
    assert!(std::fs::read(&to).unwrap() == bytes);
    lab.end().await;
}

/// Everything libnbd lets a script do, with its own checks switched off where ours are wanted.
const SCRIPT: &str = r#"
import nbd, sys, errno
def connect():
    h = nbd.NBD(); h.add_meta_context("base:allocation"); h.connect_uri(sys.argv[1]); return h
a, b = connect(), connect()
assert a.get_structured_replies_negotiated() and a.can_multi_conn()
a.pwrite(b"hello", 3); b.flush()
assert b.pread(5, 3) == b"hello"
a.pwrite(b"x" * 70000, 100001, nbd.CMD_FLAG_FUA)
assert b.pread(70002, 100000) == b"\0" + b"x" * 70000 + b"\0"
buf = bytearray(8)
a.pread_structured(8, 2, lambda data, off, status, err: None, nbd.CMD_FLAG_DF)
a.zero(4096, 100001 + 4096, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert a.pread(4096, 100001 + 4096) == b"\0" * 4096
a.trim(1 << 20, 0); a.cache(1 << 20, 0)
seen = []
a.block_status(1 << 20, 0, lambda name, off, entries, err: seen.append((name, off, entries)) or 0)
assert seen == [("base:allocation", 0, [1 << 20, 3])], seen
a.set_strict_mode(0)
def refused(number, what):
    try: what()
    except nbd.Error as e: assert e.errnum == number, (e.errnum, e.string)
    else: assert False, "was not refused"
end = a.get_size()
refused(errno.EINVAL, lambda: a.pread(2, end - 1))
refused(errno.ENOSPC, lambda: a.pwrite(b"ab", end - 1))
refused(errno.EINVAL, lambda: a.trim(2, end - 1))
refused(errno.ENOTSUP, lambda: a.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))
refused(errno.EINVAL, lambda: a.pread(512, 0, 1 << 9))
rom = nbd.NBD(); rom.connect_uri(sys.argv[2]); rom.set_strict_mode(0)
refused(errno.EPERM, lambda: rom.pwrite(b"a", 0))
buffers = [nbd.Buffer.from_bytearray(bytearray([i]) * 4096) for i in range(64)]
cookies = [a.aio_pwrite(buffer, i * 4096) for i, buffer in enumerate(buffers)]
while a.aio_in_flight() > 0: a.poll(-1)
assert all(a.aio_command_completed(cookie) for cookie in cookies)
for i in range(64): assert b.pread(4096, i * 4096) == bytes([i]) * 4096
for h in (a, b, rom): h.shutdown()
o = nbd.NBD(); o.set_opt_mode(True); o.connect_uri(sys.argv[1])
names = []; o.opt_list(lambda name, description: names.append(name) or 0)
assert names == ["data", "rom"], names
contexts = []; o.opt_list_meta_context(lambda name: contexts.append(name) or 0)
assert contexts == ["base:allocation"], contexts
o.set_export_name("nix")
try: o.opt_info()
except nbd.Error as e: assert e.errnum == errno.ENOENT, e.errnum
else: assert False, "unknown export"
o.set_export_name("rom"); o.opt_go(); assert o.is_read_only(); o.shutdown()
n = nbd.NBD(); n.set_opt_mode(True); n.connect_uri(sys.argv[1]); n.opt_abort()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_over_libnbd_gets_every_answer_it_expects() {
    if !have("/usr/bin/python3") {
        return;
    }
    let lab = Lab::new().await;
    run(
        "/usr/bin/python3",
        &["-c", SCRIPT, &lab.uri("data"), &lab.uri("rom")],
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdsh_reads_what_it_wrote() {
    if !have("/usr/bin/python3") {
        return;
    }
    let lab = Lab::new().await;
    let script = "h.pwrite(b'abc', 1000); h.flush(); print(h.pread(5, 999))";
    // This is what the program of that name does; it takes the first Python there is, which may
    // be one without the module.
    let arguments = ["-m", "nbd", "-u", &lab.uri("data"), "-c", script];
    let printed = run("/usr/bin/python3", &arguments).await;
    assert!(printed.contains(r"\x00abc\x00"), "{printed}");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_img_converts_in_both_directions_and_finds_both_equal() {
    if !have("qemu-img") {
        return;
    }
    let lab = Lab::new().await;
    let (from, to) = (lab.file("from"), lab.file("to.qcow2"));
    let mut bytes = pattern(SIZE);
    bytes[2 * MIB..5 * MIB].fill(0);
    std::fs::write(&from, &bytes).unwrap();
    let uri = lab.uri("data");
    run(
        "qemu-img",
        &["convert", "-n", "-f", "raw", "-O", "raw", &from, &uri],
    )
    .await;
    assert!(lab.device.content(0, SIZE) == bytes);
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", &from, &uri],
    )
    .await;
    run(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "qcow2", &uri, &to],
    )
    .await;
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", &uri, &to],
    )
    .await;
    let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &uri]).await;
    assert!(
        map.contains("\"start\": 2097152, \"length\": 3145728"),
        "{map}"
    );
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_io_writes_zeroes_discards_and_verifies() {
    if !have("qemu-io") {
        return;
    }
    let lab = Lab::new().await;
    let printed = run(
        "qemu-io",
        &[
            "-t",
            "writeback",
            "-f",
            "raw",
            "-c",
            "write -P 7 0 64k",
            "-c",
            "write -f -P 8 64k 1",
            "-c",
            "write -z 4k 4k",
            "-c",
            "write -z -u 8k 8k",
            "-c",
            "discard 32k 4k",
            "-c",
            "aio_write -P 9 1M 1M",
            "-c",
            "aio_write -P 10 3M 100k",
            "-c",
            "aio_flush",
            "-c",
            "flush",
            "-c",
            "read -P 7 0 4k",
            "-c",
            "read -P 0 4k 12k",
            "-c",
            "read -P 7 16k 16k",
            "-c",
            "read -P 9 1M 1M",
            "-c",
            "read -P 10 3M 100k",
            &lab.uri("data"),
        ],
    )
    .await;
    assert!(
        !printed.contains("verification failed") && !printed.contains("error"),
        "{printed}"
    );
    let calls = lab.device.calls();
    for call in [
        "write 65536+1 fua",
        "zero 4096+4096",
        "zero 8192+8192 may trim",
        "trim 32768+4096",
    ] {
        assert!(
            calls.iter().any(|made| made == call),
            "{call} is missing in {calls:?}"
        );
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fio_writes_in_any_order_and_verifies() {
    if !have("fio") {
        return;
    }
    let lab = Lab::new().await;
    let uri = format!("--uri={}", lab.uri("data"));
    for depth in ["--iodepth=1", "--iodepth=32"] {
        let arguments = [
            "--name=verify",
            "--ioengine=nbd",
            &uri,
            "--size=8M",
            "--rw=randwrite",
            "--bsrange=512-64k",
            "--verify=crc32c",
            "--fsync=16",
            "--do_verify=1",
            depth,
        ];
        run("fio", &arguments).await;
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_comes_in_over_tcp_too_but_only_from_this_host() {
    let lab = Lab::new().await;
    let server = NbdServer::new(Arc::clone(&lab.exports), HandClock::new());
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refused = server
        .listen_tcp(everywhere, TcpSafety::Loopback)
        .await
        .err();
    assert!(
        matches!(refused, Some(ListenError::NotSafe(_))),
        "{refused:?}"
    );
    let open = server
        .listen_tcp(everywhere, TcpSafety::OperatorsWord)
        .await
        .unwrap();
    open.stop(Duration::MAX).await;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let tcp = server
        .listen_tcp(loopback, TcpSafety::Loopback)
        .await
        .unwrap();
    if have("nbdinfo") {
        let uri = format!("nbd://{}/data", tcp.address());
        assert_eq!(run("nbdinfo", &["--size", &uri]).await, "8388608\n");
    }
    tcp.stop(Duration::MAX).await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_private_a_stale_one_is_replaced_a_living_one_is_not() {
    let lab = Lab::new().await;
    let path = Path::new(lab.listening.address()).to_owned();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let server = NbdServer::new(Arc::clone(&lab.exports), HandClock::new());
    let refused = server.listen_unix(&path).await.err();
    assert!(
        matches!(refused, Some(ListenError::InUse(_))),
        "{refused:?}"
    );
    lab.listening.stop(Duration::MAX).await;
    assert!(!path.exists(), "a clean stop leaves no socket behind");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let again = server.listen_unix(&path).await.unwrap();
    again.stop(Duration::MAX).await;
}
