//! `zen-operator`: arguments, composition, run.

fn main() {}
