//! The steps of all verbs, by subject. [`crate::verbs`] says which verb takes which steps in which order.

pub mod cluster;
pub mod leaving;
pub mod link;
pub mod logs;
pub mod lowlevel;
pub mod old;
pub mod purge;
pub mod repair;
pub mod resource;
pub mod role;
pub mod settings;
pub mod size;
pub mod switch;
pub mod systemd;
pub mod waits;
