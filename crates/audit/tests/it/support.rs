use std::path::{Path, PathBuf};

use zen_audit::verify::{Lenience, Report, files};
use zen_audit::{Action, Entry, Head, Log, Options, Record, Writer};

pub fn writer() -> Writer {
    "zenlock-webhook/pod-1".parse().expect("valid")
}

pub fn options(folder: &Path) -> Options {
    Options::new(folder, writer())
}

pub fn open(folder: &Path) -> Log {
    Log::open(options(folder)).expect("opens")
}

pub fn access(n: u64) -> Record {
    let object = format!("ZenLock/team-a/lock-{n}");
    Record::new(Action::AccessSecret, "Pod/team-a/web-1", &object).allowed().correlation(&format!("r-{n}"))
}

pub fn verify(folder: &Path, anchors: &[Head]) -> Report {
    let files = files::expand(&[folder.to_owned()]).expect("readable");
    files::verify(&files, anchors, Lenience::default()).expect("readable")
}

/// Every entry below a folder, in order.
pub fn entries(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in files::expand(&[folder.to_owned()]).expect("readable") {
        files::lines(&file, |_, line, _| entries.push(Entry::parse(line).expect("an entry"))).expect("readable");
    }
    entries
}

/// The files below a folder.
pub fn segments(folder: &Path) -> Vec<PathBuf> {
    files::expand(&[folder.to_owned()]).expect("readable")
}

pub fn labels(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.action.as_str()).collect()
}
