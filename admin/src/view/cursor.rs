//! State primitives about progress: amounts, rates, rest times, ages, lags.
//!
//! Amounts are bytes, rates bytes or requests per second, times seconds. A rest time of −1 means unknown.
//!
//! Manual: "The State of MARS", "Predefined Primitive Macros" (`sync-…`, `fetch-…`, `replay-…`, `work-…`).

use super::amount::{Cursor, ReplayValue, number, split_numbered};
use super::eval::{Eval, Stop};
use super::number::Num;
use super::state::{flag, host_arg};
use super::world::seconds_between;
use crate::snapshot::Time;

type Text = Result<String, Stop>;

/// What is asked about a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Where it has to get.
    Size,
    /// Where it is.
    Pos,
    /// What is missing.
    Rest,
    /// Is nothing missing?
    Reached,
    /// Is almost nothing missing, about one percent?
    AlmostReached,
    /// Is less than the threshold missing?
    ThresholdReached,
    /// Progress in percent.
    Percent,
    /// Progress in permille.
    Permille,
    /// `pos:size`.
    Vector,
    /// The log it stands in.
    LogNr,
    /// How many logs lie before (replay) or behind (others).
    LogCount,
}

impl Quantity {
    /// Those which all cursors have, with the end of their names and their meaning.
    pub const ALL: [(Quantity, &'static str, &'static str); 9] = [
        (Quantity::Size, "size", "bytes to reach"),
        (Quantity::Pos, "pos", "bytes done"),
        (Quantity::Rest, "rest", "bytes missing"),
        (Quantity::Reached, "reached", "is nothing missing?"),
        (
            Quantity::AlmostReached,
            "almost-reached",
            "is almost nothing missing?",
        ),
        (
            Quantity::ThresholdReached,
            "threshold-reached",
            "is less than the threshold missing?",
        ),
        (Quantity::Percent, "percent", "progress in percent"),
        (Quantity::Permille, "permille", "progress in permille"),
        (Quantity::Vector, "vector", "pos:size"),
    ];
}

/// Progress counts as a little more than it is, so that almost done reads as done.
const PERCENT_SCALE: f64 = 100.5;
const PERMILLE_SCALE: f64 = 1000.5;
/// `almost-reached` compares the position divided by this with the size divided by 1000.
const ALMOST_DIVISOR: i64 = 990;

/// One number about progress of the acting host.
pub fn amount(eval: &Eval<'_>, cursor: Cursor, what: Quantity, args: &[String]) -> String {
    let amounts = eval.res().amounts(eval.var("host"));
    let (pos, size) = (amounts.pos(cursor), amounts.size(cursor));
    match what {
        Quantity::Size => size.to_string(),
        Quantity::Pos => pos.to_string(),
        Quantity::Rest => amounts.rest(cursor).to_string(),
        Quantity::Reached => flag(pos >= size),
        Quantity::AlmostReached => {
            let given = args.first().map_or(0, |arg| Num::parse(arg).int());
            let divisor = if given > 0 { given } else { ALMOST_DIVISOR };
            flag(pos / divisor.unsigned_abs() >= size / 1000)
        }
        Quantity::ThresholdReached => {
            let threshold = Num::parse(eval.var("threshold"));
            let almost = Num::from_bytes(pos).add(threshold);
            flag(almost.order(Num::from_bytes(size)).is_ge())
        }
        Quantity::Percent => share(pos, size, PERCENT_SCALE, 100),
        Quantity::Permille => share(pos, size, PERMILLE_SCALE, 1000),
        Quantity::Vector => format!("{pos}:{size}"),
        Quantity::LogNr => log_nr(&amounts, cursor).to_string(),
        Quantity::LogCount => {
            let nr = log_nr(&amounts, cursor);
            let from = match cursor {
                Cursor::Replay => amounts.base_nr,
                Cursor::Sync | Cursor::Fetch | Cursor::Work => amounts.replay_nr,
            };
            nr.saturating_sub(from).to_string()
        }
    }
}

fn log_nr(amounts: &super::amount::Amounts, cursor: Cursor) -> u64 {
    match cursor {
        Cursor::Fetch => amounts.fetch_nr,
        Cursor::Work => amounts.work_nr,
        Cursor::Sync | Cursor::Replay => amounts.replay_nr,
    }
}

fn share(pos: u64, size: u64, scale: f64, max: i64) -> String {
    if size == 0 {
        return max.to_string();
    }
    let share = pos as f64 * scale / size as f64;
    Num::from_float(share.min(max as f64)).to_string()
}

/// What is asked about a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// Bytes per second.
    Amount,
    /// Requests per second.
    Ops,
    /// Seconds until nothing is missing.
    Remain,
}

impl Speed {
    /// With the end of their names and their meaning.
    pub const ALL: [(Speed, &'static str, &'static str); 4] = [
        (Speed::Amount, "rate", "bytes per second"),
        (Speed::Amount, "amount-rate", "bytes per second"),
        (Speed::Ops, "ops-rate", "requests per second"),
        (
            Speed::Remain,
            "remain",
            "seconds until nothing is missing, -1 when unknown",
        ),
    ];
}

/// How fast a cursor of the acting host moves.
pub fn rate(eval: &Eval<'_>, cursor: Cursor, what: Speed) -> String {
    let res = eval.res();
    let host = eval.var("host");
    let word = match cursor {
        Cursor::Sync => "sync",
        Cursor::Fetch => "file",
        Cursor::Replay | Cursor::Work => "replay",
    };
    let stored = |key: String| number(res.text(&format!("actual-{host}/{key}")));
    let kib = match stored(format!("amount-{word}_rate")) {
        0 => stored(format!("{word}_rate")),
        kib => kib,
    };
    match what {
        Speed::Amount => Num::from_bytes(kib).mul(Num::Int(1024)).to_string(),
        Speed::Ops => stored(format!("ops-{word}_rate")).to_string(),
        Speed::Remain => remain(res.amounts(host).rest(cursor), kib),
    }
}

fn remain(rest: u64, kib_per_second: u64) -> String {
    match (rest, kib_per_second) {
        (0, _) => "0".to_owned(),
        (_, 0) => "-1".to_owned(),
        _ => Num::from_float(rest as f64 / 1024.0 / kib_per_second as f64).to_string(),
    }
}

/// `replay-basenr`.
pub fn base_nr(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval.res().amounts(eval.var("host")).base_nr.to_string())
}

/// `writeback-rest`.
pub fn writeback_rest(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval
        .res()
        .amounts(eval.var("host"))
        .writeback_rest
        .to_string())
}

/// `summary-vector`.
pub fn summary_vector(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let amounts = eval.res().amounts(eval.var("host"));
    Ok(format!(
        "{}:{}:{}",
        amounts.replay_pos, amounts.fetch_pos, amounts.fetch_size
    ))
}

/// `syncpos-pos`: the replay position.
pub fn syncpos_pos(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval.res().amounts(eval.var("host")).replay_pos.to_string())
}

/// `syncpos-size`: where replay has to get until a synchronised disk is consistent, in the same counting.
pub fn syncpos_size(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let res = eval.res();
    let host = eval.var("host");
    let size = ReplayValue::parse(res.text(&format!("syncpos-{host}"))).map_or(0, |goal| {
        super::amount::bytes_up_to(res.logs(), host, &goal)
    });
    Ok(size.to_string())
}

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOf {
    /// The last sign of life of a host.
    Alive,
    /// Its newest version key.
    Fetch,
    /// Its replay position.
    Replay,
    /// The later of the two.
    Work,
}

/// What is asked about that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The time itself.
    Stamp,
    /// Seconds since then.
    Age,
    /// Seconds by which it is later than that of another host.
    Lag,
}

/// A time, an age or a lag; −1 when unknown.
pub fn moment(eval: &Eval<'_>, of: TimeOf, what: Moment, args: &[String]) -> String {
    let known = match what {
        Moment::Stamp => {
            time_of(eval, of, &subject(eval, of, args)).map(|time| stamp_text(of, time))
        }
        Moment::Age => time_of(eval, of, &subject(eval, of, args))
            .map(|time| Num::from_float(eval.world.age(time)).to_string()),
        Moment::Lag => lag(eval, of, args),
    };
    known.unwrap_or_else(|| "-1".to_owned())
}

/// Of whom: the argument, else the designated primary for signs of life and the acting host for the rest.
fn subject(eval: &Eval<'_>, of: TimeOf, args: &[String]) -> String {
    match args.first() {
        Some(host) if !host.is_empty() => host.clone(),
        _ if of == TimeOf::Alive => eval.res().designated_host().unwrap_or("").to_owned(),
        _ => eval.host(),
    }
}

fn stamp_text(of: TimeOf, time: Time) -> String {
    match of {
        TimeOf::Alive => time.to_string(),
        TimeOf::Fetch | TimeOf::Replay | TimeOf::Work => time.sec.to_string(),
    }
}

fn lag(eval: &Eval<'_>, of: TimeOf, args: &[String]) -> Option<String> {
    let other = match args.get(1) {
        Some(host) if !host.is_empty() => host.clone(),
        _ => eval.res().designated_host()?.to_owned(),
    };
    let own = time_of(eval, of, &host_arg(eval, args, 0))?;
    let other = time_of(eval, of, &other)?;
    Some(Num::from_float(seconds_between(other, own).max(0.0)).to_string())
}

fn time_of(eval: &Eval<'_>, of: TimeOf, host: &str) -> Option<Time> {
    let res = eval.res();
    let whole = |time: Time| Time::from_secs(time.sec);
    let replay = || res.stamp(&format!("replay-{host}")).map(whole);
    let fetch = || {
        let versions = res.live_with_prefix("version-").filter_map(|(rest, item)| {
            let (nr, owner) = split_numbered(rest)?;
            (owner == host).then_some((nr, item.time()))
        });
        versions
            .max_by_key(|(nr, _)| *nr)
            .map(|(_, time)| whole(time))
    };
    match of {
        TimeOf::Alive => eval.world.alive_time(host),
        TimeOf::Fetch => fetch(),
        TimeOf::Replay => replay(),
        TimeOf::Work => fetch().max(replay()),
    }
}
