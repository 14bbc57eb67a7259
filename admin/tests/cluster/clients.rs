//! Third-party NBD clients against a running primary with a live secondary; what each of them wrote
//! is compared on the disk of the secondary.
//!
//! A missing client skips its test and says so; with `MARS_REQUIRE_CLIENTS=1` it fails it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::lab::{Lab, RES};
use crate::writer::read_all;

const SIZE: u64 = 64 << 20;

struct Clients {
    lab: Lab,
    uri: String,
}

impl Clients {
    fn new() -> Clients {
        let lab = Lab::new(&["alpha", "beta"], SIZE);
        lab.replicate_everywhere();
        let uri = format!(
            "nbd+unix:///{RES}?socket={}",
            lab.hosts[0].nbd_socket().display()
        );
        Clients { lab, uri }
    }

    /// The whole device as our own client reads it, once the secondary has it too; then both disks
    /// must hold exactly that.
    fn compare(mut self) -> Vec<u8> {
        let device = self.lab.device(0);
        let bytes = self.lab.runtime.block_on(async {
            device.flush().await.expect("flush");
            let bytes = read_all(&device).await.expect("read");
            device.clone().close().await.expect("close");
            bytes
        });
        self.lab.wait_replayed(0, 1);
        self.lab.stop_and_compare(&bytes);
        bytes
    }
}

/// Is `program` installed? Missing ones fail when clients are required.
pub(crate) fn have(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .chain([
            Path::new("/usr/sbin").to_path_buf(),
            Path::new("/sbin").to_path_buf(),
        ])
        .any(|dir| dir.join(program).exists());
    if !found {
        let required = std::env::var("MARS_REQUIRE_CLIENTS").is_ok_and(|v| v == "1");
        assert!(!required, "{program} is required but not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect(program);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{program} {args:?}: {}\n{text}\n{errors}",
        out.status
    );
    text
}

#[test]
fn nbdinfo_shows_the_device_and_nbdcopy_fills_and_reads_it() {
    if !have("nbdinfo") || !have("nbdcopy") {
        return;
    }
    let c = Clients::new();
    let info = run("nbdinfo", &[&c.uri]);
    assert!(info.contains(&format!("export-size: {SIZE}")), "{info}");
    for flag in [
        "can_multi_conn: true",
        "can_flush: true",
        "can_fua: true",
        "can_trim: true",
        "can_zero: true",
    ] {
        assert!(info.contains(flag), "no {flag} in\n{info}");
    }
    let map = run("nbdinfo", &["--map", &c.uri]);
    assert!(!map.trim().is_empty());
    let dir = tempfile::tempdir().expect("temporary directory");
    let source = dir.path().join("source");
    let bytes: Vec<u8> = (0..SIZE).map(|i| ((i * 31) >> 7) as u8).collect();
    std::fs::write(&source, &bytes).expect("write");
    run(
        "nbdcopy",
        &[
            "--flush",
            "--connections=4",
            &source.display().to_string(),
            &c.uri,
        ],
    );
    let copy = dir.path().join("copy");
    run(
        "nbdcopy",
        &["--connections=4", &c.uri, &copy.display().to_string()],
    );
    assert!(
        std::fs::read(&copy).expect("read") == bytes,
        "nbdcopy reads something else"
    );
    assert!(c.compare() == bytes, "the device holds something else");
}

#[test]
fn nbdsh_writes_zeroes_and_trims_through_two_connections() {
    if !have("nbdsh") {
        return;
    }
    let c = Clients::new();
    let script = "\
h.pwrite(b'a' * 65536, 0)\n\
h2 = nbd.NBD()\n\
h2.connect_uri(uri)\n\
h2.flush()\n\
assert h2.pread(65536, 0) == b'a' * 65536\n\
h2.pwrite(b'b' * 4096, 4096, nbd.CMD_FLAG_FUA)\n\
h.zero(4096, 16384)\n\
h.trim(8192, 32768)\n\
assert h.pread(4096, 16384) == b'\\0' * 4096\n\
try:\n    h.pread(4096, h.get_size())\n    assert False\nexcept nbd.Error as e:\n    pass\n\
assert h.pread(4096, 4096) == b'b' * 4096\n\
h2.shutdown()\n";
    let uri = format!("uri = '{}'", c.uri);
    // The bindings belong to the system's Python, which need not be the first one in PATH.
    let program =
        format!("import nbd\n{uri}\nh = nbd.NBD()\nh.connect_uri(uri)\n{script}h.shutdown()\n");
    run("/usr/bin/python3", &["-c", &program]);
    let bytes = c.compare();
    assert!(bytes[..4096].iter().all(|b| *b == b'a'));
    assert!(bytes[4096..8192].iter().all(|b| *b == b'b'));
    assert!(bytes[16384..20480].iter().all(|b| *b == 0));
}

#[test]
fn qemu_img_and_qemu_io_convert_write_and_verify() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let c = Clients::new();
    run(
        "qemu-io",
        &[
            "-f",
            "raw",
            "-c",
            "write -P 7 0 64k",
            "-c",
            "write -f -P 9 1M 128k",
            "-c",
            "write -z 32k 16k",
            "-c",
            "discard 2M 1M",
            "-c",
            "flush",
            &c.uri,
        ],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "raw",
            "-c",
            "read -P 7 0 32k",
            "-c",
            "read -P 0 32k 16k",
            "-c",
            "read -P 9 1M 128k",
            &c.uri,
        ],
    );
    let dir = tempfile::tempdir().expect("temporary directory");
    let image = dir.path().join("image.raw").display().to_string();
    run(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "raw", &c.uri, &image],
    );
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", &c.uri, &image],
    );
    let bytes = c.compare();
    assert!(bytes[..32768].iter().all(|b| *b == 7));
    assert!(bytes[1 << 20..(1 << 20) + 131_072].iter().all(|b| *b == 9));
}

#[test]
fn fio_writes_and_verifies_over_its_nbd_engine() {
    if !have("fio") {
        return;
    }
    let c = Clients::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let uri = format!("--uri={}", c.uri);
    let aux = format!("--aux-path={}", dir.path().display());
    let common = [
        "--name=job",
        "--ioengine=nbd",
        &uri,
        "--size=32M",
        "--bs=4k",
        "--iodepth=16",
        &aux,
    ];
    let mut args = common.to_vec();
    args.extend([
        "--rw=randwrite",
        "--fsync=32",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
    ]);
    run("fio", &args);
    c.compare();
}

/// Ends the process it holds by its id.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_system_lives_on_the_device_and_arrives_on_the_secondary() {
    if !have("nbdfuse")
        || !have("mkfs.ext4")
        || !have("losetup")
        || !Path::new("/dev/fuse").exists()
    {
        return;
    }
    let c = Clients::new();
    let dir = tempfile::tempdir().expect("temporary directory");
    let (fuse, mount) = (dir.path().join("fuse"), dir.path().join("mount"));
    std::fs::create_dir_all(&fuse).expect("directory");
    std::fs::create_dir_all(&mount).expect("directory");
    let nbdfuse = Command::new("nbdfuse")
        .arg(&fuse)
        .arg(&c.uri)
        .spawn()
        .expect("nbdfuse");
    let nbdfuse = Ended(nbdfuse);
    let file = fuse.join("nbd");
    c.lab.wait("nbdfuse shows the device", || file.exists());
    let loop_device = run(
        "losetup",
        &["--find", "--show", &file.display().to_string()],
    );
    let loop_device = loop_device.trim();
    let mount_text = mount.display().to_string();
    run("mkfs.ext4", &["-q", loop_device]);
    run("mount", &[loop_device, &mount_text]);
    std::fs::write(mount.join("letter"), b"written through a file system").expect("write");
    run("sync", &[]);
    run("umount", &[&mount_text]);
    run("losetup", &["--detach", loop_device]);
    run("umount", &[&fuse.display().to_string()]);
    drop(nbdfuse);
    let image = dir.path().join("image");
    std::fs::write(&image, c.compare()).expect("write");
    run("e2fsck", &["-fn", &image.display().to_string()]);
    let letter = run(
        "debugfs",
        &["-R", "cat letter", &image.display().to_string()],
    );
    assert_eq!(letter, "written through a file system");
}
