//! Every input that was ever interesting, on every run.

use std::fs;
use std::path::Path;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 11] = [
    ("adopt", zen_fuzz::adopt),
    ("age", zen_fuzz::age),
    ("audit", zen_fuzz::audit),
    ("csr", zen_fuzz::csr),
    ("enroll", zen_fuzz::enroll),
    ("frame", zen_fuzz::frame),
    ("manifest", zen_fuzz::manifest),
    ("record", zen_fuzz::record),
    ("request", zen_fuzz::request),
    ("review", zen_fuzz::review),
    ("signature", zen_fuzz::signature),
];

#[test]
fn every_corpus_runs_through_its_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, target) in TARGETS {
        let inputs = fs::read_dir(root.join("corpus").join(name)).expect("a corpus");
        let mut count = 0;
        for input in inputs {
            target(&fs::read(input.expect("an entry").path()).expect("a file"));
            count += 1;
        }
        assert!(count >= 5, "{name} has only {count} inputs");
        target(b"");
    }
}

#[test]
fn every_target_has_a_corpus_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("targets")).expect("targets");
    let mut found: Vec<_> =
        files.filter_map(|file| file.ok()?.path().file_stem()?.to_str().map(str::to_owned)).collect();
    found.sort();
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
