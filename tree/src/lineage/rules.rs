//! What follows from the lineage: which log comes next, may a member go on to it, which logs nobody needs.
//!
//! The original compares the version links of the old log's creator; here the link of the *next* log's creator decides,
//! because its predecessor part says exactly what the next log continues from, digest of the contents included. A
//! successor of a dead primary is thus followed even where the dead one had published more or less.
//!
//! Manual: "Switchover check"; names of messages as the original publishes them ([`MoveRefused::message_key`]).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::digest::Digest128;
use crate::lineage::Lineage;
use crate::log_name::{LogName, LogPos};
use crate::name::Host;
use crate::value::{ReplayPos, VersionLink};

/// The log behind another one, for a certain member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextLog {
    /// This one.
    Log(LogName),
    /// There is none yet.
    None,
    /// Several hosts wrote one, and none of them is this member: nobody follows a fork.
    Double {
        /// The number they share.
        seq: u64,
    },
    /// Numbers are missing before the next one.
    Hole(Hole),
}

/// Numbers missing in the chain of logs. A primary without space for logs leaves one on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The missing numbers.
    pub missing: RangeInclusive<u64>,
    /// The first log behind them.
    pub next: LogName,
}

/// Why a member may not go on from one log to another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefused {
    /// The member's own position is missing or garbled.
    #[error("replay position of {host} cannot be read, expected it in replay-{host}")]
    NoReplay {
        /// The member.
        host: Host,
    },
    /// The logs are not neighbours, and no skip-check permits it.
    #[error("{to} does not follow {from}, expected number {}", from.seq + 1)]
    NotContiguous {
        /// The current log.
        from: LogName,
        /// Where it wants to go.
        to: LogName,
    },
    /// Several hosts wrote a log with that number.
    #[error("{to} is not the only log with number {}: split brain, an operator must choose", to.seq)]
    Double {
        /// Where it wants to go.
        to: LogName,
    },
    /// A designated primary never continues its own log with somebody else's.
    #[error("{to} was written by another host, but {from} is the designated primary's own log")]
    Foreign {
        /// The current log.
        from: LogName,
        /// Where it wants to go.
        to: LogName,
    },
    /// The member has not said yet how it has the current log.
    #[error("version link of {host} for {log} cannot be read")]
    NoOwnLink {
        /// The member.
        host: Host,
        /// The current log.
        log: LogName,
    },
    /// The creator of the next log has not said yet what it continues.
    #[error("version link of {} for {to} is not here yet", to.creator)]
    NotYetKnown {
        /// Where it wants to go.
        to: LogName,
    },
    /// The local copy of the current log is not complete.
    #[error(
        "have {have}, but {to} continues from offset {expected}: bytes are missing or not checked yet"
    )]
    NotYetComplete {
        /// How far the member has the current log.
        have: LogPos,
        /// Where it wants to go.
        to: LogName,
        /// Where the current log ends for the creator of the next one.
        expected: u64,
    },
    /// The disk has not come to the end of the current log.
    #[error("disk has come to {have}, expected {expected} and nothing dirty")]
    NotYetReplayed {
        /// How far the disk has come.
        have: ReplayPos,
        /// The end of the current log.
        expected: u64,
    },
    /// The next log continues another history.
    #[error("{to} continues {theirs}, but here it is {ours}: split brain, an operator must choose")]
    OtherHistory {
        /// Where it wants to go.
        to: LogName,
        /// The end of the current log, as the member has it: log, length and digest.
        ours: String,
        /// The same as the next log has it.
        theirs: String,
    },
}

impl MoveRefused {
    /// Can it be different later without a human?
    pub fn waiting_helps(&self) -> bool {
        use MoveRefused as R;
        match self {
            R::NoReplay { .. }
            | R::NotContiguous { .. }
            | R::Double { .. }
            | R::Foreign { .. }
            | R::OtherHistory { .. } => false,
            R::NoOwnLink { .. }
            | R::NotYetKnown { .. }
            | R::NotYetComplete { .. }
            | R::NotYetReplayed { .. } => true,
        }
    }

    /// Does it show a split brain?
    pub fn is_split_brain(&self) -> bool {
        matches!(
            self,
            MoveRefused::Double { .. } | MoveRefused::OtherHistory { .. }
        )
    }

    /// Name of the message key under which operators know it (`actual-<host>/msg-<name>`).
    pub fn message_key(&self) -> &'static str {
        match self {
            MoveRefused::NoReplay { .. } => "err-replaylink-not-readable",
            MoveRefused::NotContiguous { .. } => "err-log-not-contiguous",
            MoveRefused::Double { .. } | MoveRefused::OtherHistory { .. } => {
                "err-splitbrain-detected"
            }
            MoveRefused::Foreign { .. } => "inf-log-foreign-denied",
            MoveRefused::NoOwnLink { .. } => "err-versionlink-not-readable",
            MoveRefused::NotYetKnown { .. } => "inf-versionlink-not-yet-exist",
            MoveRefused::NotYetComplete { .. } => "inf-versionlink-not-equal",
            MoveRefused::NotYetReplayed { .. } => "inf-replay-not-yet-finished",
        }
    }
}

impl Lineage {
    /// The log which `host` finds behind `after`: that of the next number, or of the number its skip-check
    /// permits. Its own log is preferred to others with the same number.
    pub fn next_log(&self, host: &Host, after: &LogName) -> NextLog {
        let behind = self.logs.keys().filter(|log| log.seq > after.seq);
        let Some(next) = behind.min_by_key(|log| log.seq) else {
            return NextLog::None;
        };
        let seq = next.seq;
        if seq != after.seq + 1 && self.skips.get(host) != Some(&seq) {
            return NextLog::Hole(Hole {
                missing: after.seq + 1..=seq - 1,
                next: next.clone(),
            });
        }
        let same: Vec<&LogName> = self.logs.keys().filter(|log| log.seq == seq).collect();
        match same.as_slice() {
            [only] => NextLog::Log((*only).clone()),
            several => match several.iter().find(|log| log.creator == *host) {
                Some(own) => NextLog::Log((*own).clone()),
                None => NextLog::Double { seq },
            },
        }
    }

    /// The logs which `host` has to go through from its replay position on, the current one first, as far as one
    /// follows the other; and what comes behind them. Empty when its position is unknown.
    pub fn chain(&self, host: &Host) -> (Vec<LogName>, NextLog) {
        let Some(Some(replay)) = self.replays.get(host) else {
            return (Vec::new(), NextLog::None);
        };
        let mut chain = vec![replay.log.clone()];
        let mut last = replay.log.clone();
        loop {
            match self.next_log(host, &last) {
                NextLog::Log(next) => {
                    chain.push(next.clone());
                    last = next;
                }
                end => return (chain, end),
            }
        }
    }

    /// The first hole which `host` will meet.
    pub fn hole(&self, host: &Host) -> Option<Hole> {
        match self.chain(host) {
            (_, NextLog::Hole(hole)) => Some(hole),
            _ => None,
        }
    }

    /// May `host` go on from the log of its replay position to `to`? `designated` tells whether it is the
    /// designated primary.
    ///
    /// # Errors
    /// [`MoveRefused`] with the first rule that is broken, and whether waiting helps.
    pub fn may_move(&self, host: &Host, to: &LogName, designated: bool) -> Result<(), MoveRefused> {
        let Some(Some(replay)) = self.replays.get(host) else {
            return Err(MoveRefused::NoReplay { host: host.clone() });
        };
        let from = &replay.log;
        let skips = self.is_the_next(host, from, to)?;
        let mine = to.creator == *host;
        if designated && from.creator == *host && !mine {
            let (from, to) = (from.clone(), to.clone());
            return Err(MoveRefused::Foreign { from, to });
        }
        let own = self.link(from.seq, host).filter(|link| link.log == *from);
        let Some(own) = own else {
            let (host, log) = (host.clone(), from.clone());
            return Err(MoveRefused::NoOwnLink { host, log });
        };
        match self
            .link(to.seq, &to.creator)
            .filter(|link| link.log == *to)
        {
            Some(_) if skips => {}
            Some(next) => continues(next, own, to)?,
            None if mine || skips => {}
            None => return Err(MoveRefused::NotYetKnown { to: to.clone() }),
        }
        if replay.offset != own.len || replay.dirty != 0 {
            return Err(MoveRefused::NotYetReplayed {
                have: replay.clone(),
                expected: own.len,
            });
        }
        Ok(())
    }

    /// Is `to` the neighbour of `from`, or permitted by a skip-check, and the only one with its number? Says whether
    /// it is the skip-check: then the chain is broken on purpose and proves nothing.
    fn is_the_next(&self, host: &Host, from: &LogName, to: &LogName) -> Result<bool, MoveRefused> {
        let neighbours = from.seq.checked_add(1) == Some(to.seq);
        let skip = to.seq > from.seq && self.skips.get(host) == Some(&to.seq);
        if !neighbours && !skip {
            let (from, to) = (from.clone(), to.clone());
            return Err(MoveRefused::NotContiguous { from, to });
        }
        let rival = |log: &&LogName| log.seq == to.seq && *log != to;
        if to.creator != *host && self.logs.keys().any(|log| rival(&log)) {
            return Err(MoveRefused::Double { to: to.clone() });
        }
        Ok(skip)
    }

    /// Logs that no member needs any more: all disks have come past them, and they are not the newest. Empty while
    /// the position of any member is unknown. How long a log must be untouched is up to the caller.
    pub fn unneeded_logs(&self) -> Vec<LogName> {
        let newest = self.logs.keys().map(|log| log.seq).max();
        let (Some(limit), Some(newest)) = (self.min_replay_seq(), newest) else {
            return Vec::new();
        };
        let unneeded = self
            .logs
            .keys()
            .filter(|log| log.seq < limit && log.seq < newest);
        unneeded.cloned().collect()
    }

    /// Version links that no member needs any more, as number and host: one more is kept than of the logs,
    /// because each link is proven by the one before.
    pub fn unneeded_versions(&self) -> BTreeSet<(u64, Host)> {
        let limit = self.min_replay_seq().unwrap_or(0).saturating_sub(1);
        let below = self.versions.keys().filter(|(seq, _)| *seq < limit);
        below.cloned().collect()
    }

    /// The log number that all disks have reached; `None` while one is unknown or there are no members.
    pub fn min_replay_seq(&self) -> Option<u64> {
        let seqs = self.replays.values().map(|pos| Some(pos.as_ref()?.log.seq));
        seqs.collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    fn link(&self, seq: u64, host: &Host) -> Option<&VersionLink> {
        self.versions.get(&(seq, host.clone()))
    }
}

/// Does the next log, whose link is `next`, continue exactly what `own` says about the current one?
fn continues(next: &VersionLink, own: &VersionLink, to: &LogName) -> Result<(), MoveRefused> {
    let show = |(digest, log, len): &(Digest128, LogName, u64)| format!("{log}@{len} {digest}");
    let ours = own.as_pred();
    let other_history = |theirs: String| MoveRefused::OtherHistory {
        to: to.clone(),
        ours: show(&ours),
        theirs,
    };
    let Some(pred) = &next.pred else {
        return Err(other_history("nothing".to_owned()));
    };
    if pred.1 != own.log || pred.2 < own.len {
        return Err(other_history(show(pred)));
    }
    if pred.2 > own.len || own.digest.is_zero() {
        // Either bytes are missing, or nobody has looked at them yet.
        return Err(MoveRefused::NotYetComplete {
            have: own.end(),
            to: to.clone(),
            expected: pred.2,
        });
    }
    if pred.0 != own.digest {
        return Err(other_history(show(pred)));
    }
    Ok(())
}
