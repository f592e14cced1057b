//! `zen-ingester`: arguments, composition, run.

fn main() {}
