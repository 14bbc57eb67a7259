//! mars
fn main() {}
