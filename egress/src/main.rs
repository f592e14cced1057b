//! `zen-egress`: arguments, composition, run.

fn main() {}
