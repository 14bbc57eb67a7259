//! Stories told in operators' words, checked against promises.

mod story;
