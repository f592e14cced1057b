//! A pod comes, goes, hangs, and starts anew with another epoch (paused clock).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::super::fleet::tests::{object_report, pod, report};
use super::super::object::Kind;
use super::*;

/// Answers as scripted, and hangs when the script is at its end.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<ReportQuery>>>,
}

enum Answer {
    Report(Report),
    Fail,
    Hang,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<(u64, Option<String>, u64)> {
        let asked = self.asked.lock().expect("lock");
        asked.iter().map(|query| (query.after, query.epoch.clone(), query.wait)).collect()
    }
}

impl Source for Scripted {
    async fn report(&self, _: &Pod, query: &ReportQuery) -> Result<Report, Error> {
        self.asked.lock().expect("lock").push(query.clone());
        let answer = self.answers.lock().expect("lock").pop_front();
        match answer {
            Some(Answer::Report(report)) => Ok(report),
            Some(Answer::Fail) => Err(Error::Another("nobody".to_owned())),
            Some(Answer::Hang) | None => std::future::pending().await,
        }
    }
}

fn ingester() -> Pod {
    pod(Plane::Ingester, "i-0", "1", true)
}

fn at(revision: u64, complete: bool) -> Report {
    report(&ingester(), revision, complete, vec![object_report(Kind::Webhook, "n/w", 1, true)])
}

fn ids() -> (PodId, super::super::fleet::Fleet) {
    let mut fleet = super::super::fleet::Fleet::default();
    (fleet.set_pods(vec![ingester()], Instant::now()).joined[0].0, fleet)
}

#[tokio::test(start_paused = true)]
async fn everything_first_then_what_changed() {
    let source = Scripted::new([Answer::Report(at(7, true)), Answer::Report(at(9, false))]);
    let (mut followers, mut reports) = Followers::new(source.clone());
    let (id, _) = ids();
    followers.join(id, ingester());
    assert_eq!(reports.recv().await.map(|(from, report)| (from, report.revision)), Some((id, 7)));
    assert_eq!(reports.recv().await.map(|(from, report)| (from, report.revision)), Some((id, 9)));
    sleep(PAUSE * 2).await;
    let epoch = || Some("e1".to_owned());
    assert_eq!(source.asked(), [(0, None, 30), (7, epoch(), 30), (9, epoch(), 30)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_news_is_not_passed_on_and_not_asked_for_at_once() {
    let quiet = || Answer::Report(report(&ingester(), 7, false, vec![]));
    let source = Scripted::new([Answer::Report(at(7, true)), quiet(), quiet(), quiet()]);
    let (mut followers, mut reports) = Followers::new(source.clone());
    let (id, _) = ids();
    followers.join(id, ingester());
    reports.recv().await.expect("the first report");
    sleep(Duration::from_millis(2500)).await;
    assert!(reports.try_recv().is_err());
    assert_eq!(source.asked().len(), 4, "about one a second");
}

#[tokio::test(start_paused = true)]
async fn a_new_process_is_asked_for_everything() {
    let reborn = |revision, complete| Answer::Report(Report { epoch: "e2".to_owned(), ..at(revision, complete) });
    // One that knows the query's epoch answers with everything; one that does not is asked again.
    for answers in [vec![reborn(2, true)], vec![reborn(2, false), reborn(2, true)]] {
        let asked = answers.len() + 2;
        let source = Scripted::new([Answer::Report(at(7, true))].into_iter().chain(answers));
        let (mut followers, mut reports) = Followers::new(source.clone());
        let (id, _) = ids();
        followers.join(id, ingester());
        reports.recv().await.expect("the first report");
        let (_, second) = reports.recv().await.expect("the second report");
        assert_eq!((second.epoch.as_str(), second.complete), ("e2", true));
        sleep(PAUSE * 2).await;
        assert_eq!(source.asked().len(), asked);
        assert_eq!(source.asked().last(), Some(&(2, Some("e2".to_owned()), 30)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_or_fails_is_asked_again_ever_more_rarely() {
    let failing = (0..5).map(|_| Answer::Fail);
    let source = Scripted::new([Answer::Hang].into_iter().chain(failing).chain([Answer::Report(at(1, true))]));
    let (mut followers, mut reports) = Followers::new(source.clone());
    let (id, _) = ids();
    let began = Instant::now();
    followers.join(id, ingester());
    assert!(reports.recv().await.is_some());
    let took = began.elapsed();
    // 40 s for the one that hangs, then 0.2, 0.4, … 6.4 s, each between half and all of it.
    assert!(took > WAIT + SLACK + Duration::from_secs(6) && took < WAIT + SLACK + Duration::from_secs(13), "{took:?}");
    let longest = (1..40).map(backoff).max().expect("some");
    assert!(longest <= BACKOFF.1, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn somebody_else_at_the_address_is_not_believed() {
    let other = Report { instance: "i-1".to_owned(), ..at(1, true) };
    let plane = Report { plane: Plane::Egress, ..at(1, true) };
    let source = Scripted::new([Answer::Report(other), Answer::Report(plane)]);
    let (mut followers, mut reports) = Followers::new(source.clone());
    let (id, _) = ids();
    followers.join(id, ingester());
    sleep(Duration::from_secs(20)).await;
    assert!(reports.try_recv().is_err());
    assert_eq!(source.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_left_is_asked_no_more() {
    let source = Scripted::new([Answer::Report(at(1, true))]);
    let (mut followers, mut reports) = Followers::new(source.clone());
    let (id, _) = ids();
    followers.join(id, ingester());
    reports.recv().await.expect("the first report");
    followers.leave(id);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(source.asked().len(), 1);
    drop(followers);
    assert!(reports.recv().await.is_none(), "no task is left that could report");
}

/// Over real connections: the pod must prove who it is, and so must we (T-05).
#[tokio::test]
async fn pods_are_asked_over_mutual_tls() {
    let domain = "zen-mesh.local".parse().expect("valid");
    let mesh = Mesh::new(&domain, "zen-mesh").expect("valid");
    let ca = zen_pki::Ca::ephemeral(&domain).expect("a CA");
    let identity = |component| {
        let certificate = ca.issue_workload(mesh.id(component), Duration::from_hours(1)).expect("issued");
        Identity::new(&certificate, &ca.roots().expect("roots")).expect("an identity")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let answer = |query: axum::extract::Query<ReportQuery>| async move {
        axum::Json(report(&ingester(), query.after + 1, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]))
    };
    let only = zen_identity::server::require(zen_identity::Action::Report);
    let router = axum::Router::new().route(control::REPORT, axum::routing::get(answer).layer(only));
    let (end, own) = (tokio_util::sync::CancellationToken::new(), identity(Component::Ingester));
    let served = tokio::spawn({
        let end = end.clone();
        async move { zen_identity::server::serve(listener, &own, router, end).await }
    });
    let pod = Pod { address: [127, 0, 0, 1].into(), ..ingester() };
    let query = ReportQuery { after: 6, epoch: None, wait: 0 };
    let operator = Pods::new(&identity(Component::Operator), mesh.clone(), port);
    assert_eq!(operator.report(&pod, &query).await.expect("a report").revision, 7);
    // Another workload has no business here, and another than the expected one is not listened to.
    let egress = Pods::new(&identity(Component::Egress), mesh.clone(), port);
    assert!(egress.report(&pod, &query).await.is_err());
    let wrong = operator.report(&Pod { plane: Plane::Egress, ..pod }, &query).await.expect_err("refused");
    assert_eq!(wrong.category(), "tls", "{wrong}");
    end.cancel();
    served.await.expect("no panic").expect("served");
}
