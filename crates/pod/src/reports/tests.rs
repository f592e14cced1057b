use zen_compile::Problem as Found;
use zen_model::{ObjectReason, Timestamp};

use super::*;

fn item(name: &str, generation: i64) -> Item {
    let verdict = Verdict {
        kind: "Webhook",
        key: ObjectKey::new("team-a", name),
        serving: true,
        uid: Some("u1".into()),
        observed_generation: Some(generation),
        problems: Arc::from([]),
    };
    Item { verdict, last_verified: None, breaker: None }
}

fn reports() -> Reports {
    Reports::new("zen-ingester-0", Plane::Ingester, CancellationToken::new())
}

fn query(after: u64, wait: u64) -> ReportQuery {
    ReportQuery { after, epoch: None, wait }
}

fn names(report: &Report) -> (Vec<&str>, Vec<&str>) {
    let objects = report.objects.iter().map(|object| object.object.name.as_str()).collect();
    (objects, report.gone.iter().map(|gone| gone.name.as_str()).collect())
}

#[tokio::test(start_paused = true)]
async fn tells_what_changed_since_and_what_went() {
    let reports = reports();
    reports.replace([item("a", 1), item("b", 1)]);
    let first = reports.after(&query(0, 0)).await;
    assert_eq!((names(&first), first.complete, first.revision), ((vec!["a", "b"], vec![]), true, 1));

    reports.replace([item("a", 2), item("c", 1)]);
    let delta = reports.after(&query(1, 0)).await;
    assert_eq!((names(&delta), delta.complete, delta.revision), ((vec!["a", "c"], vec!["b"]), false, 2));
    assert_eq!(delta.objects[0].observed_generation, Some(2));
    assert_eq!(names(&reports.after(&query(2, 0)).await), (vec![], vec![]));

    // One that comes back is no longer gone.
    reports.replace([item("a", 2), item("b", 5), item("c", 1)]);
    assert_eq!(names(&reports.after(&query(1, 0)).await), (vec!["a", "b", "c"], vec![]));
    assert_eq!(names(&reports.after(&query(2, 0)).await), (vec!["b"], vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_says_the_same_is_no_news() {
    let reports = reports();
    reports.replace([item("a", 1)]);
    reports.replace([item("a", 1)]);
    let mut seen = item("a", 1);
    seen.last_verified = Some(LastVerified { secret: "s/key".to_owned(), at: Timestamp(60_000) });
    reports.replace([seen.clone()]);
    reports.replace([seen.clone()]);
    let mut broken = seen;
    broken.verdict.problems =
        Arc::from([Found { field: "spec.path".to_owned(), reason: ObjectReason::Invalid, message: "no".to_owned() }]);
    reports.replace([broken]);
    let report = reports.after(&query(0, 0)).await;
    assert_eq!(report.revision, 3);
    assert_eq!(report.objects[0].problems[0].reason, "Invalid");
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_for_the_next_change_and_no_longer_than_it_asked() {
    let reports = reports();
    let began = Instant::now();
    let none = reports.after(&query(0, 20)).await;
    assert_eq!((began.elapsed(), none.complete, none.revision), (Duration::from_secs(20), false, 0));

    let waiting = tokio::spawn({
        let reports = reports.clone();
        async move { reports.after(&query(0, 600)).await }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    reports.replace([item("a", 1)]);
    assert!(waiting.await.expect("answered").complete);

    let began = Instant::now();
    let next = query(1, 30);
    let (poll, ()) = tokio::join!(reports.after(&next), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        reports.replace([item("a", 2)]);
    });
    assert_eq!((began.elapsed(), names(&poll)), (Duration::from_secs(7), (vec!["a"], vec![])));
    let began = Instant::now();
    assert_eq!(reports.after(&query(2, 600)).await.revision, 2);
    assert_eq!(began.elapsed(), Duration::from_secs(MAX_WAIT));
}

/// A pod without any object has something to say too: that there is none.
#[tokio::test(start_paused = true)]
async fn an_empty_configuration_is_a_report() {
    let reports = reports();
    reports.replace([]);
    let report = reports.after(&query(0, 60)).await;
    assert!(report.complete && report.objects.is_empty() && report.revision == 1);
}

#[tokio::test(start_paused = true)]
async fn another_epoch_and_a_revision_of_the_future_get_everything() {
    let reports = reports();
    reports.replace([item("a", 1)]);
    reports.replace([item("a", 1), item("b", 1)]);
    let foreign = ReportQuery { after: 1, epoch: Some("another".to_owned()), wait: 0 };
    for query in [foreign, query(9, 0)] {
        let report = reports.after(&query).await;
        assert_eq!((report.complete, names(&report).0), (true, vec!["a", "b"]));
    }
    let own = reports.after(&query(0, 0)).await.epoch;
    let delta = reports.after(&ReportQuery { after: 1, epoch: Some(own), wait: 0 }).await;
    assert_eq!((delta.complete, names(&delta).0), (false, vec!["b"]));
}

#[tokio::test(start_paused = true)]
async fn more_gone_than_is_remembered_asks_for_everything() {
    let reports = reports();
    reports.replace((0..=GONE).map(|n| item(&format!("w{n}"), 1)));
    reports.replace([item("left", 1)]);
    let report = reports.after(&query(1, 0)).await;
    assert_eq!((report.complete, names(&report)), (true, (vec!["left"], vec![])));
    assert!(!reports.after(&query(2, 0)).await.complete);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_answers_who_waits() {
    let ended = CancellationToken::new();
    let reports = Reports::new("zen-egress-1", Plane::Egress, ended.clone());
    reports.replace([item("a", 1)]);
    let began = Instant::now();
    let next = query(1, 60);
    let (report, ()) = tokio::join!(reports.after(&next), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        ended.cancel();
    });
    assert_eq!((began.elapsed(), report.revision, report.complete), (Duration::from_secs(3), 1, false));
}
