//! whatever is done to a chain is found, and the first bad entry is named.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zen_audit::verify::{Lenience, Report, files};
use zen_audit::{Entry, Head};

use crate::support::{access, entries, open, segments, verify};

/// A chain of real entries, made once: lines with their ends.
fn chain() -> &'static [Vec<u8>] {
    static LINES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    LINES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let log = open(folder.path());
            for n in 0..30 {
                log.note(access(n));
            }
            log.close().await;
        });
        let text = fs::read(&segments(folder.path())[0]).expect("read");
        text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    })
}

fn parsed(line: &[u8]) -> Entry {
    Entry::parse(line.strip_suffix(b"\n").expect("whole")).expect("an entry")
}

fn head() -> Head {
    parsed(chain().last().expect("not empty")).head()
}

fn check(lines: &[Vec<u8>], anchors: &[Head]) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chain.jsonl");
    fs::write(&file, lines.concat()).expect("written");
    files::verify(&[file], anchors, Lenience::default()).expect("readable")
}

fn first_bad(lines: &[Vec<u8>], anchors: &[Head]) -> (u64, &'static str) {
    let report = check(lines, anchors);
    let first = report.findings.first().expect("found");
    assert_eq!(report.findings.len(), 1, "one chain has one first bad entry: {:?}", report.findings);
    (first.line, first.fault)
}

fn line_of(index: usize) -> u64 {
    index as u64 + 1
}

/// Seals the entries from `from` on anew, as an attacker with the file can.
fn reseal(lines: &mut [Vec<u8>], from: usize) {
    for index in from..lines.len() {
        let mut entry = parsed(&lines[index]);
        entry.previous = parsed(&lines[index - 1]).hash;
        entry.seq = index as u64 + 1;
        entry.seal();
        lines[index] = [entry.to_line(), b"\n".to_vec()].concat();
    }
}

#[test]
fn an_intact_chain_has_no_finding() {
    let report = check(chain(), &[head()]);
    assert_eq!((report.findings, report.entries, report.heads), (vec![], 31, vec![head()]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any byte of any line, its end included.
    #[test]
    fn an_edit_is_found_where_it_is(index in 0..31_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut lines = chain().to_vec();
        let at = at.index(lines[index].len());
        prop_assume!(lines[index][at] != byte);
        lines[index][at] = byte;
        let report = check(&lines, &[]);
        let first = report.findings.first().expect("found");
        // A chain id that is another one is a beginning without one; an end that is none joins two lines.
        prop_assert_eq!(first.line, line_of(index), "{:?}", report.findings);
    }

    /// An edit whose hash was computed anew is found at the next entry; with all that follow, by an anchored head.
    #[test]
    fn an_edit_with_its_hash_is_found(index in 1..30_usize, object in "[a-z]{1,9}") {
        let mut lines = chain().to_vec();
        let mut entry = parsed(&lines[index]);
        entry.object = object;
        entry.seal();
        lines[index] = [entry.to_line(), b"\n".to_vec()].concat();
        prop_assert_eq!(first_bad(&lines, &[]), (line_of(index + 1), "unlinked"));
        reseal(&mut lines, index + 1);
        prop_assert!(check(&lines, &[]).findings.is_empty(), "nothing but an anchor tells");
        prop_assert_eq!(first_bad(&lines, &[head()]), (31, "rewritten"));
    }

    #[test]
    fn a_deletion_is_found(index in 0..30_usize, count in 1..5_usize) {
        let mut lines = chain().to_vec();
        let end = (index + count).min(30);
        lines.drain(index..end);
        let fault = if index == 0 { "no-beginning" } else { "missing" };
        prop_assert_eq!(first_bad(&lines, &[]), (line_of(index), fault));
        if index > 0 {
            reseal(&mut lines, index);
            prop_assert_eq!(first_bad(&lines, &[head()]).1, "truncated");
        }
    }

    #[test]
    fn a_reorder_is_found(a in 1..31_usize, b in 1..31_usize) {
        prop_assume!(a != b);
        let mut lines = chain().to_vec();
        lines.swap(a, b);
        prop_assert_eq!(first_bad(&lines, &[]), (line_of(a.min(b)), "missing"));
    }

    #[test]
    fn an_insertion_is_found(index in 1..31_usize, from in 0..31_usize) {
        let mut lines = chain().to_vec();
        let inserted = lines[from].clone();
        lines.insert(index, inserted);
        let (line, fault) = first_bad(&lines, &[]);
        // A copy of the very next entry is found at its second.
        let expected = if from == index { index + 1 } else { index };
        prop_assert_eq!(line, line_of(expected));
        prop_assert!(matches!(fault, "displaced" | "missing"), "{}", fault);
    }

    /// An invented entry in a place of its own number.
    #[test]
    fn an_invented_entry_is_found(index in 1..31_usize) {
        let mut lines = chain().to_vec();
        let mut entry = parsed(&lines[index - 1]);
        entry.previous = entry.hash;
        entry.seq += 1;
        entry.who = "nobody".to_owned();
        entry.seal();
        lines.insert(index, [entry.to_line(), b"\n".to_vec()].concat());
        prop_assert_eq!(first_bad(&lines, &[]).0, line_of(index + 1));
    }

    /// Cut anywhere: within a line it shows, between lines an anchored head tells.
    #[test]
    fn a_truncation_is_found(at in any::<prop::sample::Index>()) {
        let whole = chain().concat();
        let at = at.index(whole.len() - 1) + 1;
        let rest = &whole[..at];
        let lines: Vec<_> = rest.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        prop_assume!(at < whole.len());
        let report = check(&lines, &[head()]);
        let first = report.findings.first().expect("found");
        prop_assert_eq!(first.line, lines.len() as u64);
        prop_assert_eq!(first.fault, if rest.ends_with(b"\n") { "truncated" } else { "torn" });
    }

    /// Bytes of any kind are read without a panic.
    #[test]
    fn rubbish_is_a_finding(rubbish in proptest::collection::vec(any::<u8>(), 1..400)) {
        prop_assert!(!check(&[rubbish], &[]).findings.is_empty());
    }
}

/// What one chain says of another: a later chain of the same component gives away the cut end of the one before.
#[tokio::test]
async fn the_next_chain_gives_a_cut_end_away() {
    let folder = tempfile::tempdir().expect("a folder");
    for life in 0..2 {
        let log = open(folder.path());
        log.record(access(life)).await.expect("audited");
        log.close().await;
    }
    assert!(verify(folder.path(), &[]).findings.is_empty());
    let cut = segments(folder.path()).remove(0);
    cut_last_line(&cut);
    let report = verify(folder.path(), &[]);
    assert_eq!(report.findings[0].fault, "truncated");
    assert_eq!((report.findings[0].file.as_ref(), report.findings[0].line), (Some(&cut), 1));
}

/// A whole chain that is gone is found in a folder when a head of it is anchored; where single files are given it is only said.
#[tokio::test]
async fn a_missing_chain_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    log.record(access(0)).await.expect("audited");
    log.close().await;
    let report = verify(folder.path(), &[head()]);
    assert_eq!((report.findings[0].fault, report.findings[0].file.as_ref()), ("absent", None));
    let given = segments(folder.path());
    let lenient = Lenience { absent: true, partial: false };
    let report = files::verify(&given, &[head()], lenient).expect("readable");
    assert_eq!((report.findings, report.not_given), (vec![], vec![head()]));
}

/// A writer can neither excuse nor accuse the chain of another component.
#[test]
fn a_chain_says_nothing_of_another_components() {
    let mut lines = chain().to_vec();
    lines.drain(..3);
    let through = parsed(&chain()[2]).head();
    let mut excuse = parsed(&chain()[0]);
    excuse.action = "chain.expire".to_owned();
    excuse.details = [("through".to_owned(), through.to_string())].into();
    let verdict = |writer: &str| {
        let mut excuse = excuse.clone();
        (excuse.writer, excuse.chain) = (writer.parse().expect("valid"), "another".parse().expect("valid"));
        let mut opening = parsed(&chain()[0]);
        (opening.writer, opening.chain) = (excuse.writer.clone(), excuse.chain.clone());
        opening.seal();
        (excuse.seq, excuse.previous) = (2, opening.hash);
        excuse.seal();
        let added = [opening.to_line(), b"\n".to_vec(), excuse.to_line(), b"\n".to_vec()].concat();
        check(&[lines.concat(), added], &[]).findings.len()
    };
    assert_eq!(verdict("zen-audit/zen-audit-0"), 0);
    assert_eq!(verdict("zenlock-webhook/pod-9"), 0);
    assert_eq!(verdict("zen-egress/pod-1"), 1);
}

fn cut_last_line(file: &Path) {
    let text = fs::read_to_string(file).expect("read");
    let end = text.trim_end().rfind('\n').expect("two lines") + 1;
    fs::write(file, &text[..end]).expect("written");
}

/// Files of a chain in the wrong order, and one of them alone.
#[tokio::test]
async fn files_belong_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = zen_audit::Options { file_bytes: 1000, ..crate::support::options(folder.path()) };
    let log = zen_audit::Log::open(options).expect("opens");
    for n in 0..9 {
        log.record(access(n)).await.expect("audited");
    }
    log.close().await;
    let mut given: Vec<PathBuf> = segments(folder.path());
    assert!(given.len() > 2 && entries(folder.path()).len() == 10);
    let alone = [given[1].clone()];
    let found = |files: &[PathBuf], partial| {
        files::verify(files, &[], Lenience { partial, absent: false }).expect("readable").findings.len()
    };
    assert_eq!((found(&given, false), found(&alone, false), found(&alone, true)), (0, 1, 0));
    given.swap(0, 1);
    assert_eq!(found(&given, false), 1);
}
