//! What a log promises while all is well.

use std::fs;
use std::time::Duration;

use zen_audit::{Log, Options};

use crate::support::{access, entries, labels, open, options, segments, verify};

/// each start is a chain, and its first entry names where the one before ended.
#[tokio::test]
async fn chains_follow_one_on_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let receipt = log.record(access(1)).await.expect("audited");
    assert!(receipt.durable && receipt.degraded.is_none());
    assert_eq!(receipt.entry.expect("written").1, 2);
    let on_disk = entries(folder.path());
    assert_eq!(labels(&on_disk), ["chain.open", "secret.access"]);
    log.note(access(2));
    let first = log.clone();
    log.close().await;
    let before = first.head();

    let log = open(folder.path());
    log.record(access(3)).await.expect("audited");
    log.close().await;
    let all = entries(folder.path());
    assert_eq!(labels(&all), ["chain.open", "secret.access", "secret.access", "chain.open", "secret.access"]);
    assert_eq!(all[3].details["after"], before.to_string());
    assert_eq!(all[1].correlation, "r-1");
    let report = verify(folder.path(), &[before]);
    assert_eq!((report.findings, report.entries, report.degraded, report.compared), (vec![], 5, 0, 1));
}

/// Many callers share a sync, and each has its entry when it is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_means_that_it_is_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..400 {
        let log = log.clone();
        tasks.spawn(async move { (n, log.record(access(n)).await.expect("audited")) });
    }
    let receipts = tasks.join_all().await;
    let all = entries(folder.path());
    for (n, receipt) in receipts {
        let (chain, seq) = receipt.entry.expect("written");
        let entry = all.iter().find(|entry| entry.seq == seq && entry.chain == chain).expect("on the disk");
        assert_eq!(entry.correlation, format!("r-{n}"));
    }
    assert!(verify(folder.path(), &[log.head()]).findings.is_empty());
}

/// files rotate, old ones go with an entry that says so, and what is left still verifies.
#[tokio::test]
async fn retention_removes_the_oldest_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options { file_bytes: 2 << 10, keep_bytes: 20 << 10, ..options(folder.path()) };
    let log = Log::open(small.clone()).expect("opens");
    for n in 0..60 {
        log.record(access(n)).await.expect("audited");
    }
    log.close().await;
    let log = Log::open(small.clone()).expect("opens");
    for n in 60..200 {
        log.record(access(n)).await.expect("audited");
    }
    let head = log.head();
    log.close().await;
    let size: u64 = segments(folder.path()).iter().map(|file| fs::metadata(file).expect("there").len()).sum();
    assert!(size <= (24 << 10), "{size}");
    let all = entries(folder.path());
    assert!(labels(&all).contains(&"chain.expire"));
    let report = verify(folder.path(), &[head]);
    assert_eq!(report.findings, vec![]);

    // Without the entry that excuses it, a missing beginning is a finding.
    fs::remove_file(&segments(folder.path())[0]).expect("removed");
    let report = verify(folder.path(), &[]);
    assert_eq!(report.findings[0].fault, "no-beginning", "{:?}", report.findings);
}

#[tokio::test]
async fn retention_by_age_leaves_what_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path()).close().await;
    let old = segments(folder.path());
    let aged = std::time::SystemTime::now() - Duration::from_hours(48);
    fs::File::options().append(true).open(&old[0]).expect("there").set_modified(aged).expect("set");
    let log = Log::open(Options { keep_age: Some(Duration::from_hours(24)), ..options(folder.path()) }).expect("opens");
    log.record(access(1)).await.expect("audited");
    log.close().await;
    assert!(!old[0].exists());
    assert_eq!(segments(folder.path()).len(), 1);
    assert_eq!(verify(folder.path(), &[]).findings, vec![]);
}

#[tokio::test]
async fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let second = Log::open(Options { strict: true, ..options(folder.path()) });
    assert!(second.expect_err("refused").to_string().contains("another process"));
    // One that is not strict waits for its turn, degraded.
    let second = open(folder.path());
    let receipt = second.record(access(1)).await.expect("goes on");
    assert!(!receipt.durable && receipt.degraded.is_some());
    log.close().await;
    second.close().await;
    let all = entries(folder.path());
    assert!(all.iter().any(|entry| entry.action == "chain.link"), "{:?}", labels(&all));
    assert_eq!(verify(folder.path(), &[]).findings, vec![]);
}

/// names, types and help of the metrics.
#[tokio::test]
async fn metrics_keep_the_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    log.record(access(1)).await.expect("audited");
    let mut registry = prometheus_client::registry::Registry::default();
    log.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert_eq!(zen_runtime::metrics::problems(&text), Vec::<String>::new());
    assert_eq!(zen_runtime::metrics::value(&text, "zen_audit_entries_total", &[]), Some(2.0));
    assert_eq!(zen_runtime::metrics::value(&text, "zen_audit_degraded", &[("cause", "disk")]), Some(0.0));
}
