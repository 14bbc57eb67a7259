//! The file system of the state directory fills up under a writer: the application never notices, the replica is
//! given up and told so, `kill -9` in this state loses nothing that was flushed, and commands heal it
//! (acceptance 7 of the operations reference, invariant 39).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, RES, now};
use crate::writer::{Writer, read_all};

const SIZE: u64 = 8 << 20;
/// Of the file system with the state directory of alpha.
const ROOM_MIB: u64 = 320;
/// 17 MiB for each level.
const LIMITS: &str = "[limits]\nrequired_free_space_gb = [0.0167, 0.0167, 0.0167, 0.0167]\n";
/// Of the file that is given back for the key tree when nothing else is left: half of a level, in whole MiB.
const RESERVE_BYTES: u64 = 8 << 20;
const KILLS: usize = 6;

/// A small file system; it goes with the value.
pub struct SmallFs(PathBuf);

impl SmallFs {
    /// Mounts one. `None` where that is not permitted.
    pub fn mount(at: &Path, mib: u64) -> Option<SmallFs> {
        std::fs::create_dir_all(at).expect("directory");
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .status();
        match mounted {
            Ok(status) if status.success() => Some(SmallFs(at.to_owned())),
            _ => None,
        }
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        // Lazily: the daemon may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills the file system to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("file");
    let chunk = vec![0x55; 1 << 20];
    while file.write_all(&chunk).is_ok() {}
    while file.write_all(&chunk[..512]).is_ok() {}
}

/// Writes for so long; the application must not see an error.
fn write_for(lab: &Lab, writer: &mut Writer, time: Duration) {
    let device = lab.device(0);
    let until = now() + time;
    let wrote = lab.runtime.block_on(writer.run(&device, |_| now() < until));
    wrote.unwrap_or_else(|e| panic!("the application saw {e}\n{}", lab.logs()));
    let flushed = lab.runtime.block_on(writer.flush(&device));
    flushed.unwrap_or_else(|e| panic!("the application saw {e}\n{}", lab.logs()));
}

/// Kills alpha under the writer, starts it again after `meanwhile` and looks at the device.
fn kill(lab: &mut Lab, writer: &mut Writer, meanwhile: impl FnOnce()) {
    let device = lab.device(0);
    let moment = Duration::from_millis(20 + writer.chance() % 1_500);
    let until = now() + moment + Duration::from_millis(50);
    let runtime = lab.runtime.handle().clone();
    let host = &mut lab.hosts[0];
    std::thread::scope(|s| {
        let killer = s.spawn(move || {
            std::thread::sleep(moment);
            host.kill().expect("kill");
        });
        // It ends with the death of the daemon.
        let _ = runtime.block_on(writer.run(&device, |_| now() < until));
        killer.join().expect("killer");
    });
    drop(device);
    meanwhile();
    lab.hosts[0].start().expect("restart");
    let device = lab.device(0);
    let bytes = lab.runtime.block_on(read_all(&device)).expect("read");
    writer.must_be_a_prefix(&bytes);
}

fn lamp(lab: &Lab, host: usize, name: &str) -> Option<String> {
    let key = format!("resource-{RES}/actual-{}/{name}", lab.hosts[host].name());
    lab.hosts[1].key(&key).expect("read key")
}

fn is_emergency(lab: &Lab) -> bool {
    lamp(lab, 0, "is-emergency").as_deref() == Some("1")
}

#[test]
fn a_full_state_directory_never_reaches_the_application() {
    let Some(mut lab) = Lab::cramped(&["alpha", "beta"], SIZE, ROOM_MIB, LIMITS) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 0x7370_6163_6521);
    write_for(&lab, &mut writer, Duration::from_secs(1));
    lab.wait_replayed(0, 1);

    let foreign = lab.hosts[0].dir().join("foreign");
    std::thread::scope(|s| {
        s.spawn(|| fill(&foreign));
        write_for(&lab, &mut writer, Duration::from_secs(5));
    });
    lab.wait("the emergency is seen on beta", || is_emergency(&lab));
    shown_to_people(&lab);
    for _ in 0..KILLS {
        kill(&mut lab, &mut writer, || {});
    }
    lab.wait("it lasts over all restarts", || is_emergency(&lab));
    write_for(&lab, &mut writer, Duration::from_secs(1));

    std::fs::remove_file(&foreign).expect("room again");
    lab.wait("logging has begun again", || !is_emergency(&lab));
    write_for(&lab, &mut writer, Duration::from_secs(1));
    lab.wait_view(1, "diskstate", |state| state == "Orphan");
    lab.ok(1, &["invalidate", RES]);
    lab.wait_replayed(0, 1);
    lab.wait_up_to_date(1);
    write_for(&lab, &mut writer, Duration::from_millis(300));
    lab.wait_replayed(0, 1);
    lab.ok(0, &["cron"]);
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}

/// What operators see while it lasts.
fn shown_to_people(lab: &Lab) {
    lab.wait_view(0, "replstate", |state| state == "EmergencyMode");
    lab.wait_view(0, "is-emergency", |text| text == "1");
    let status = lab.hosts[0].mars(&["status"]).expect("mars-status");
    let text = status.stdout + &status.stderr;
    assert!(text.contains("Replication not running"), "{text}");
    let message = lamp(lab, 0, "msg-err-emergency").unwrap_or_default();
    assert!(message.contains("logging has ceased"), "{message}");
}

/// Waits until the reserve for the key tree has its full size again.
fn wait_reserve(lab: &Lab) {
    let reserve = lab.hosts[0].dir().join("ballast");
    lab.wait("the reserve for the key tree is there again", || {
        std::fs::metadata(&reserve).is_ok_and(|file| file.len() == RESERVE_BYTES)
    });
}

#[test]
fn a_start_on_a_full_file_system_uses_the_reserve_and_without_one_never_hangs() {
    let Some(mut lab) = Lab::cramped(&["alpha"], SIZE, ROOM_MIB, LIMITS) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    wait_reserve(&lab);
    lab.hosts[0].kill().expect("kill");
    let dir = lab.hosts[0].dir().to_owned();
    let foreign = dir.join("foreign");
    fill(&foreign);
    lab.hosts[0]
        .start()
        .expect("a start in the space of the reserve");
    let left = std::fs::metadata(dir.join("ballast"))
        .expect("reserve")
        .len();
    assert!(left < RESERVE_BYTES, "the reserve was used");
    lab.hosts[0].kill().expect("kill");

    // Somebody takes that, too.
    std::fs::remove_file(dir.join("ballast")).expect("reserve");
    fill(&dir.join("more"));
    // What the database needs depends on where it was interrupted: it opens all the same, or it is refused at once.
    if let Err(error) = lab.hosts[0].start() {
        let text = format!("{error:#}");
        assert!(
            text.contains("ended before it was ready: exit status: 2"),
            "{text}"
        );
    }
    lab.hosts[0].kill().expect("kill");

    std::fs::remove_file(&foreign).expect("room again");
    lab.hosts[0].start().expect("nothing was given up");
    let uuid = lab.hosts[0].key("uuid").expect("the daemon answers");
    assert!(uuid.is_some(), "the key tree is still there");
}

#[test]
fn kills_while_the_directory_fills_up_lose_nothing_that_was_flushed() {
    let mut writer = Writer::new(SIZE, 0x6b69_6c6c_2121);
    let Some(mut lab) = Lab::cramped(&["alpha"], SIZE, ROOM_MIB, LIMITS) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    lab.create_resource();
    for round in 0..KILLS {
        let foreign = lab.hosts[0].dir().join("foreign");
        wait_reserve(&lab);
        write_for(&lab, &mut writer, Duration::from_millis(100));
        let filling = std::thread::spawn({
            let foreign = foreign.clone();
            move || fill(&foreign)
        });
        // The file system is full before the restart: no daemon starts without a free byte.
        kill(&mut lab, &mut writer, || filling.join().expect("full"));
        std::fs::remove_file(&foreign).expect("room again");
        if round % 2 == 0 {
            // Some rounds begin in the emergency, some when logging has begun again.
            std::thread::sleep(Duration::from_secs(6));
        }
    }
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}
