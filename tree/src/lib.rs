//! What the cluster knows: a replicated tree of keys, and how to read it.
//!
//! This crate is pure: no I/O, no clock, no randomness. Time comes in as an argument, and the same calls give the
//! same answers. It promises:
//!
//! - merging is commutative, associative and idempotent; hosts that have seen the same entries hold the same tree;
//! - whatever comes from outside is checked before it becomes a [`Path`], [`Value`], [`Host`] or typed value, and
//!   garbage is an error, never a panic;
//! - a clone of a [`Tree`] costs O(1) and never changes.

pub mod clock;
pub mod collect;
pub mod digest;
pub mod disk_state;
pub mod future;
pub mod key;
pub mod keys;
pub mod knowledge;
pub mod lease;
pub mod lineage;
pub mod log_name;
pub mod name;
pub mod path;
pub mod repair;
pub mod replacement;
pub mod stamp;
pub mod summary;
mod tree;
pub mod trie;
pub mod value;
pub mod view;

pub use clock::{LamportClock, LeaseNeeded, TooFarAhead};
pub use collect::{Collection, KEEP_NS_DEFAULT, Reports};
pub use digest::Digest128;
pub use disk_state::{Amounts, DiskFacts, DiskState};
pub use key::Switch;
pub use keys::Key;
pub use knowledge::{Applied, HeldBack, Knowledge, MustReplace, Saved, Sifted};
pub use lease::{Lease, LeaseTextError};
pub use lineage::{Fork, Held, Lineage, Next, Relation, SplitBrain};
pub use log_name::{LogName, LogPos};
pub use name::{Host, NameError, Resource};
pub use path::{Path, PathError};
pub use repair::{Repair, RepairAnswer, RepairAsk, RepairError};
pub use replacement::Replacement;
pub use stamp::{Issue, Stamp, ns_from_text, ns_to_text};
pub use summary::{Delta, Push, PushItem, Summary};
pub use tree::{Entry, Merged, Tree, VALUE_BYTES_MAX, Value, ValueTextError};
pub use value::{ReplayPos, ValueError, VersionLink};
pub use view::{ClusterView, MemberView, ResourceView};
