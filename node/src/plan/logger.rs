//! When does this host append to a log of its own, and to which one?
//!
//! Runs from the moment the role may begin until the device has lost its last client and the
//! operator no longer wants it here; then it drains and ends, with a seal if it hands over. Rotation is a job with the
//! next number. Never appends to a log that existed before.
//!
//! Manual: "The Transaction Logger"; main-loop reference 4.9, 4.11 (c), invariants 26, 29, 31.

use tree::LogName;

use super::cursor::Cursor;
use super::role::Role;
use super::{Ask, LoggerWant, Reason, Want, cursor, emergency};
use crate::job::LoggerProgress;

/// The logger this host should have, or why it should have none.
pub fn want(ask: &Ask<'_>, role: &Role, cursor: Option<&Cursor>) -> Want<LoggerWant> {
    emergency::logger(ask, role, cursor, || undisturbed(ask, role))
}

/// What it does as long as there is space.
fn undisturbed(ask: &Ask<'_>, role: &Role) -> Want<LoggerWant> {
    match role {
        Role::Secondary(reason) | Role::NotYetPrimary(reason) => Want::Rest(reason.clone()),
        Role::Leaving(reason) if ask.own.export.is_none() => Want::Rest(reason.clone()),
        Role::MayBegin(job) => begin(ask, job),
        Role::Primary | Role::Leaving(_) => go_on(ask, role),
    }
}

/// Does a logger that rests for this reason give its history away, so that it may seal its log? Only in the middle of a
/// planned handover, when nobody is designated. Where another host is designated, or the daemon stops, somebody may
/// have gone on from the last byte or is about to, and a seal behind it would look like a second history.
pub fn hands_over(want: &Want<LoggerWant>) -> bool {
    matches!(want.reason(), Some(Reason::NoPrimaryDesignated))
}

/// Before the first record, everybody else must have left the disk.
fn begin(ask: &Ask<'_>, job: &LoggerWant) -> Want<LoggerWant> {
    if ask.own.disk_bytes.is_none() {
        return Want::Rest(Reason::DiskNotOpen);
    }
    if ask.own.replayer.is_busy() {
        return Want::Rest(Reason::WaitsFor("replayer"));
    }
    if ask.own.syncer.is_busy() {
        return Want::Rest(Reason::WaitsFor("syncer"));
    }
    if ask.own.fetcher.is_busy() {
        return Want::Rest(Reason::WaitsFor("fetcher"));
    }
    Want::Run(job.clone())
}

/// A running logger goes on, in the next log when it is time to rotate.
fn go_on(ask: &Ask<'_>, role: &Role) -> Want<LoggerWant> {
    let Some(log) = ask.own.logger.log() else {
        return Want::Rest(Reason::OwnLog);
    };
    let rotate = matches!(role, Role::Primary)
        && ask.own.logger.progress().is_some_and(|progress| {
            progress.rotating.is_none()
                && progress.durable.log == *log
                && progress.durable.len > 0
                && rotation_is_due(ask, log, progress)
        });
    let seq = if rotate { log.seq + 1 } else { log.seq };
    let pred = cursor::pred_of(ask, log, None);
    Want::Run(LoggerWant {
        log: LogName::new(seq, ask.seen.here),
        pred,
        size: ask.seen.size().unwrap_or(0),
    })
}

/// The operator has asked for the next log by setting its key, or the log is large enough.
fn rotation_is_due(ask: &Ask<'_>, log: &LogName, progress: &LoggerProgress) -> bool {
    let next = LogName::new(log.seq + 1, ask.seen.here);
    let asked = ask.seen.log_len(&next).is_some();
    let limit = ask.config.rotate_bytes;
    asked || (limit > 0 && progress.durable.len >= limit)
}
