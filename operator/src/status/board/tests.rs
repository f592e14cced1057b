//! When an object is written and when not (paused clock). What is said is the business of `decide`.

use serde_json::json;
use zen_compile::{Problem, Verdict};
use zen_identity::control::{ObjectReport, Plane};
use zen_model::{ObjectKey, ObjectReason};

use super::super::conditions::{ConditionType, State};
use super::super::fleet::tests::{object_report, pod, report};
use super::super::fleet::{GRACE, PodId};
use super::*;

/// A board with what surrounds it.
struct Table {
    board: Board,
    metrics: Metrics,
    published: Published,
    pods: Vec<Pod>,
    ids: Vec<PodId>,
    seconds: i64,
}

fn id(name: &str) -> Id {
    Id::new(Kind::Webhook, ObjectKey::new("n", name))
}

fn object(name: &str, generation: i64, status: &serde_json::Value) -> Object {
    let object = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook",
        "metadata": {"namespace": "n", "name": name, "uid": "u", "generation": generation, "resourceVersion": "1"},
        "spec": {"verification": {"provider": "none"}}, "status": status,
    });
    Object::read(Kind::Webhook, &serde_json::from_value(object).expect("an object")).expect("readable")
}

impl Table {
    /// With so many ready ingesters that have not said anything yet.
    fn new(ingesters: usize) -> Self {
        let metrics = Metrics::default();
        let mut board = Board::new(Arc::default(), metrics.clone(), Instant::now());
        board.set_up(Settings { ingester_replicas: 2, intake: "intake".to_owned(), opens_zen_locks: false });
        let pods: Vec<_> = (0..ingesters)
            .map(|number| Pod {
                uid: number.to_string().into(),
                ..pod(Plane::Ingester, &format!("i-{number}"), "", true)
            })
            .collect();
        let joined = board.pods(pods.clone(), Instant::now()).joined;
        let ids = joined.into_iter().map(|(id, _)| id).collect();
        for kind in Kind::ALL {
            board.seen(Seen::Listing(kind));
            board.seen(Seen::Listed(kind));
        }
        Self { board, metrics, published: Published::default(), pods, ids, seconds: 1_800_000_000 }
    }

    fn seen(&mut self, object: Object) {
        self.board.seen(Seen::There(object));
    }

    fn verdict(&mut self, name: &str, generation: i64, problem: Option<ObjectReason>) {
        let key = ObjectKey::new("n", name);
        let problem = problem.map(|reason| Problem { field: "spec".into(), reason, message: "it is so".into() });
        let verdict = Verdict {
            kind: "Webhook",
            key: key.clone(),
            serving: problem.is_none(),
            uid: Some("u".into()),
            observed_generation: Some(generation),
            problems: problem.into_iter().collect(),
        };
        self.published.verdicts.retain(|known| known.key != key);
        self.published.verdicts.push(verdict);
        self.board.published(Arc::new(self.published.clone()));
    }

    fn reports(&mut self, from: usize, complete: bool, objects: Vec<ObjectReport>) {
        let report = report(&self.pods[from], 1, complete, objects);
        self.board.report(self.ids[from], report, Instant::now());
    }

    fn serving(&mut self, from: usize, name: &str, generation: i64) {
        self.reports(from, false, vec![object_report(Kind::Webhook, &format!("n/{name}"), generation, true)]);
    }

    fn next(&mut self) -> Option<Write> {
        self.seconds += 1;
        self.board.next(Instant::now(), Time::from_second(self.seconds).expect("a time"))
    }

    /// Name and first problem of the next one, which is then written.
    fn write(&mut self) -> Option<(String, Option<String>)> {
        let write = self.next()?;
        let summary = (write.id.key.name.to_string(), write.status.problem().map(|problem| problem.reason.to_string()));
        self.board.wrote(write, Written::Done, Instant::now());
        Some(summary)
    }

    /// How many objects are ok, have a problem, and are unsettled, as `/metrics` says.
    fn standing(&self) -> [Option<f64>; 3] {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(registry.sub_registry_with_prefix("zen_operator"));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        assert_eq!(zen_runtime::metrics::problems(&text), Vec::<String>::new());
        let of = |state| {
            zen_runtime::metrics::value(&text, "zen_operator_objects", &[("kind", "Webhook"), ("state", state)])
        };
        ["ok", "problem", "unsettled"].map(of)
    }

    async fn pass(&mut self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

fn fine(name: &str) -> (String, Option<String>) {
    (name.to_owned(), None)
}

fn wrong(name: &str, reason: &str) -> (String, Option<String>) {
    (name.to_owned(), Some(reason.to_owned()))
}

/// One patch for one change (K-02): the pods are given a moment.
#[tokio::test(start_paused = true)]
async fn one_change_is_one_write() {
    let mut table = Table::new(2);
    table.reports(0, true, vec![]);
    table.reports(1, true, vec![]);
    table.seen(object("w", 1, &json!(null)));
    assert_eq!(table.write(), None, "no verdict");
    table.verdict("w", 1, None);
    table.serving(0, "w", 1);
    assert_eq!(table.write(), None, "one pod is not through yet");
    table.pass(Duration::from_millis(50)).await;
    table.serving(1, "w", 1);
    assert_eq!(table.write(), Some(fine("w")));
    assert_eq!(table.write(), None);
    table.pass(Duration::from_hours(1)).await;
    assert_eq!(table.write(), None, "nothing changes, nothing is written");

    table.verdict("w", 2, None);
    assert_eq!(table.write(), None, "the verdict is ahead of the watch");
    let status = table.board.entries[&id("w")].object.status.write(Kind::Webhook);
    table.seen(object("w", 2, &status));
    table.serving(0, "w", 2);
    assert_eq!(table.write(), None);
    table.pass(Duration::from_secs(3)).await;
    assert!(table.board.wake_at().is_some_and(|at| at <= Instant::now()));
    assert_eq!(table.write(), Some(wrong("w", "Pending")), "that takes too long");
    table.serving(1, "w", 2);
    assert_eq!(table.write(), Some(fine("w")));
}

/// After a restart of the operator: what the API server has is what should be, so that nothing is written.
#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing() {
    let mut first = Table::new(1);
    first.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    first.seen(object("w", 1, &json!(null)));
    first.verdict("w", 1, None);
    let status = first.next().expect("the first status").status.write(Kind::Webhook);

    let mut second = Table::new(1);
    second.seconds += 1000;
    second.seen(object("w", 1, &status));
    second.verdict("w", 1, None);
    assert_eq!(second.write(), None, "nothing is known about the pods yet");
    second.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    assert_eq!(second.write(), None);
    second.pass(Duration::from_hours(1)).await;
    assert_eq!(second.write(), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_the_pods_had_their_time() {
    let mut table = Table::new(2);
    table.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    table.seen(object("w", 1, &json!(null)));
    table.verdict("w", 1, Some(ObjectReason::Conflicted));
    assert_eq!(table.write(), None);
    assert_eq!(table.board.wake_at(), Some(Instant::now() + GRACE));
    table.pass(GRACE).await;
    assert_eq!(table.write(), Some(wrong("w", "Conflicted")));
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_listed_before_it_is_judged() {
    let mut board = Board::new(Arc::default(), Metrics::default(), Instant::now());
    board.pods(vec![], Instant::now());
    let wall = Time::UNIX_EPOCH;
    let lock = Object { id: Id::new(Kind::ZenLock, ObjectKey::new("n", "l")), ..object("l", 1, &json!(null)) };
    board.seen(Seen::Listing(Kind::ZenLock));
    board.seen(Seen::There(lock));
    assert_eq!(board.next(Instant::now(), wall), None);
    board.seen(Seen::Listed(Kind::ZenLock));
    assert_eq!(board.next(Instant::now(), wall), None, "nobody said how the mesh is set up");
    board.set_up(Settings { ingester_replicas: 1, intake: "intake".to_owned(), opens_zen_locks: false });
    let write = board.next(Instant::now(), wall).expect("now it is");
    assert_eq!(write.status.problem().map(|problem| &*problem.reason), Some("NotSupported"));
    assert!(write.announcement.is_some_and(|said| said.warning && said.reason == "NotSupported"));
}

/// A rolling update of the data plane: pods go and come, and not one status is written.
#[tokio::test(start_paused = true)]
async fn a_rolling_update_writes_nothing() {
    let mut table = Table::new(2);
    let w = || object_report(Kind::Webhook, "n/w", 1, true);
    table.reports(0, true, vec![w()]);
    table.reports(1, true, vec![w()]);
    table.seen(object("w", 1, &json!(null)));
    table.verdict("w", 1, None);
    assert_eq!(table.write(), Some(fine("w")));
    for round in 0..2 {
        let mut pods = table.pods.clone();
        pods[round].ready = false;
        table.board.pods(pods.clone(), Instant::now());
        assert_eq!(table.write(), None);
        // For a moment it is gone, with the other one being all there is.
        let mut without = pods.clone();
        without.remove(round);
        table.board.pods(without, Instant::now());
        assert_eq!(table.write(), None);
        table.pass(Duration::from_secs(5)).await;
        pods[round] = Pod { uid: format!("new-{round}").into(), ready: true, ..pods[round].clone() };
        let joined = table.board.pods(pods.clone(), Instant::now()).joined;
        table.pods = pods;
        table.ids[round] = joined[0].0;
        table.pass(Duration::from_secs(5)).await;
        assert_eq!(table.write(), None, "it has not reported yet");
        table.reports(round, true, vec![w()]);
        assert_eq!(table.write(), None);
    }
    // A lone replica that starts anew is no transition either; one that stays away is.
    table.board.pods(vec![], Instant::now());
    assert_eq!(table.write(), None);
    table.pass(Duration::from_secs(10)).await;
    assert_eq!(table.write(), None);
    table.pass(Duration::from_secs(10)).await;
    assert_eq!(table.write(), Some(wrong("w", "NoReplicas")));
}

#[tokio::test(start_paused = true)]
async fn who_writes_over_us_is_answered_ever_more_rarely() {
    let mut table = Table::new(1);
    table.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    table.seen(object("w", 1, &json!(null)));
    table.verdict("w", 1, None);
    let mut written = Vec::new();
    let began = Instant::now();
    for _ in 0..3600 {
        if table.write().is_some() {
            written.push(began.elapsed().as_secs());
        }
        table.seen(object("w", 1, &json!({"url": "https://example.com"})));
        table.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(written[..6], [0, 1, 3, 7, 15, 31]);
    assert!(written.len() < 22, "every five minutes in the end: {written:?}");
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_a_write_is_on_its_way() {
    let mut table = Table::new(1);
    table.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    table.seen(object("w", 1, &json!(null)));
    table.verdict("w", 1, None);
    let first = table.next().expect("the first status");
    table.verdict("w", 1, Some(ObjectReason::Conflicted));
    assert_eq!(table.next(), None, "one write at a time for each object");
    table.board.wrote(first, Written::Done, Instant::now());
    let second = table.next().expect("the second status");
    assert_eq!(second.status.condition(ConditionType::Accepted).map(|it| it.state), Some(State::False));

    // It is deleted and made again meanwhile: the write was about another one.
    table.board.seen(Seen::Gone(id("w")));
    table.seen(Object { uid: "u2".into(), ..object("w", 1, &json!(null)) });
    table.board.wrote(second, Written::Done, Instant::now());
    assert_eq!(table.next(), None, "no verdict about the new one");
    assert_eq!(table.board.entries[&id("w")].object.status, Status::default());
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_is_tried_again() {
    let mut table = Table::new(1);
    table.reports(0, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]);
    table.seen(object("w", 1, &json!(null)));
    table.verdict("w", 1, None);
    let write = table.next().expect("a status");
    table.board.wrote(write, Written::Failed(Duration::from_secs(7)), Instant::now());
    assert_eq!(table.next(), None);
    assert_eq!(table.board.wake_at(), Some(Instant::now() + Duration::from_secs(7)));
    table.pass(Duration::from_secs(7)).await;
    assert_eq!(table.write(), Some(fine("w")));
}

/// One bad object never harms another (K-02), and a list anew forgets what is gone.
#[tokio::test(start_paused = true)]
async fn objects_stand_for_themselves() {
    let mut table = Table::new(1);
    let reports = ["a", "b", "c"].map(|name| object_report(Kind::Webhook, &format!("n/{name}"), 1, true));
    table.reports(0, true, reports.to_vec());
    for name in ["a", "b", "c"] {
        table.seen(object(name, 1, &json!(null)));
        table.verdict(name, 1, None);
    }
    assert_eq!(table.standing(), [None, None, Some(3.0)]);
    let mut written: Vec<_> = std::iter::from_fn(|| table.write()).collect();
    written.sort();
    assert_eq!(written, [fine("a"), fine("b"), fine("c")]);
    table.verdict("b", 1, Some(ObjectReason::PathNotGranted));
    assert_eq!(table.write(), Some(wrong("b", "PathNotGranted")));
    assert_eq!(table.write(), None, "the others are not touched");
    assert_eq!(table.standing(), [Some(2.0), Some(1.0), Some(0.0)]);

    table.board.seen(Seen::Listing(Kind::Webhook));
    let status = table.board.entries[&id("a")].object.status.write(Kind::Webhook);
    table.seen(object("a", 1, &status));
    table.board.seen(Seen::Listed(Kind::Webhook));
    assert_eq!(table.board.entries.keys().collect::<Vec<_>>(), [&id("a")]);
    assert_eq!(table.standing(), [Some(1.0), Some(0.0), Some(0.0)]);
    assert_eq!(table.write(), None);
}
