//! `ZenLock`s of a cluster: watched as ciphertext, opened by the unseal API for each object that names them (Z-03, Z-05).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use zen_compile::LockUse;
use zen_crds::SubjectKind;
use zen_live::cluster::{Refused, Unanswered, Unseal, Unsealed, Unsealing, ZenLocks};
use zen_model::reason::LockRefusal;
use zen_model::{LockReason, Secret};

use super::*;

const LOCKS: &str = "/apis/zen-mesh.io/v1alpha1/zenlocks";

/// An unseal API that says what it is told to, and remembers what it was asked.
#[derive(Debug, Default)]
struct Script {
    /// Value of key `k` by `ZenLock`; none: nobody answers.
    values: Mutex<Option<BTreeMap<String, &'static str>>>,
    refused: Mutex<BTreeMap<String, LockRefusal>>,
    asked: Mutex<Vec<LockUse>>,
}

impl Script {
    fn of(values: &[(&str, &'static str)]) -> Arc<Self> {
        let script = Self::default();
        script.hold(values);
        Arc::new(script)
    }

    fn hold(&self, values: &[(&str, &'static str)]) {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        *self.values.lock().unwrap_or_else(PoisonError::into_inner) = Some(values);
    }

    fn leave(&self) {
        *self.values.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Unseal for Script {
    fn unseal<'a>(&'a self, uses: &'a [LockUse]) -> Unsealing<'a> {
        Box::pin(async move {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).extend(uses.iter().cloned());
            let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(values) = &*values else {
                return Err(Unanswered("https://zenlock-webhook.zen-mesh.svc gives no answer".to_owned()));
            };
            let refusals = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let mut answer = Unsealed::default();
            for used in uses {
                match (refusals.get(used.name.as_str()), values.get(used.lock.name.as_str())) {
                    (Some(reason), _) => {
                        let refused = Refused { reason: Some(*reason), message: "no".to_owned() };
                        answer.refused.insert(used.clone(), refused);
                    }
                    (None, Some(&"")) => {
                        let closed = BTreeMap::from([("k".to_owned(), Err(LockReason::UnknownKey))]);
                        answer.opened.insert(used.lock.clone(), closed);
                    }
                    (None, Some(value)) => {
                        let open = BTreeMap::from([("k".to_owned(), Ok(Secret::new(*value)))]);
                        answer.opened.insert(used.lock.clone(), open);
                    }
                    (None, None) => {}
                }
            }
            Ok(answer)
        })
    }
}

/// A Webhook that verifies with key `k` of a `ZenLock`.
fn locked(name: &str, version: u32, of: &str) -> Value {
    let mut webhook = hook(name, version, "s");
    webhook["spec"]["verification"]["secrets"] = json!([{"zenLockRef": {"name": of, "key": "k"}}]);
    webhook
}

fn lock(name: &str, version: u32, webhooks: &[&str]) -> Value {
    let subjects: Vec<_> = webhooks.iter().map(|name| json!({"kind": "Webhook", "name": name})).collect();
    own("ZenLock", name, version, &json!({"encryptedData": {"k": "ciphertext"}, "allowedSubjects": subjects}))
}

async fn start(world: &World, script: &Arc<Script>, plane: Plane) -> Cluster {
    let options = Options { plane, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
    let unseal: Arc<dyn Unseal> = Arc::clone(script) as _;
    let starting = Cluster::start_with(world.server.client(), options, ZenLocks::Opened(unseal));
    tokio::time::timeout(Duration::from_mins(2), starting).await.expect("starts in time").expect("starts")
}

fn revision(cluster: &Cluster, name: &str) -> u64 {
    cluster.snapshot().load().webhooks[&key(name)].revision
}

fn message(published: &Published, name: &str) -> String {
    let verdict = verdict(published, name).expect("judged");
    verdict.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_opened_for_who_names_it_and_a_changed_one_is_in_effect_at_once() {
    let world = World::new(vec![locked("a", 1, "l"), locked("b", 1, "l"), hook("c", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let locks = world.server.watch(LOCKS, vec![lock("l", 1, &["a"]), lock("unused", 1, &["a"])]);
    let script = Script::of(&[("l", "one"), ("m", "of m")]);
    let cluster = start(&world, &script, Plane::Ingester).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && serves(&published, "c"), "{published:?}");
    assert_eq!(reason(&published, "b"), Some(LockReason::SubjectNotAllowed.into()));
    assert_eq!(message(&published, "b"), "ZenLock team-a/l does not allow Webhook b; add it to its allowedSubjects");
    let expected = LockUse { lock: key("l"), kind: SubjectKind::Webhook, name: "a".into(), plane: Plane::Ingester };
    assert_eq!(*script.asked.lock().expect("no panic"), [expected]);
    assert_eq!(cluster.snapshot().load().webhooks[&key("a")].secret_labels, ["l/k"]);

    // Nothing of the others is compiled again.
    let (a, c) = (revision(&cluster, "a"), revision(&cluster, "c"));
    script.hold(&[("l", "two"), ("m", "of m")]);
    locks.modified(lock("l", 2, &["a", "b"]));
    let published = until(&cluster, "the new value", |published, _| serves(published, "b")).await;
    assert!(serves(&published, "a") && revision(&cluster, "a") != a && revision(&cluster, "c") == c);
    assert_eq!(script.asked(), 3, "for each object that names it");

    // A version that names another ZenLock waits for it, with the one before in force.
    let a = revision(&cluster, "a");
    script.leave();
    locks.added(lock("m", 5, &["a"]));
    world.webhooks.modified(locked("a", 6, "m"));
    world.webhooks.added(locked("d", 7, "m"));
    let published = until(&cluster, "a new object", |published, _| verdict(published, "d").is_some()).await;
    assert!(serves(&published, "a") && revision(&cluster, "a") == a);
    script.hold(&[("m", "of m")]);
    until(&cluster, "opened", |_, snapshot| snapshot.webhooks[&key("a")].secret_labels == ["m/k"]).await;

    locks.deleted(lock("m", 8, &[]));
    let published =
        until(&cluster, "deleted", |published, _| reason(published, "a") == Some(ObjectReason::RefNotFound));
    assert!(message(&*published.await, "a").starts_with("ZenLock team-a/m does not exist"));
}

/// Each reason, and what an object has that was open before.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_has_a_reason_and_the_others_serve() {
    let world = World::new(vec![locked("a", 1, "l"), hook("c", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let locks = world.server.watch(LOCKS, vec![lock("l", 1, &["a"])]);
    let script = Arc::new(Script::default());
    let begun = tokio::time::Instant::now();
    let cluster = start(&world, &script, Plane::Ingester).await;
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "c") && published.complete);
    assert_eq!(reason(&published, "a"), Some(LockReason::UnsealUnavailable.into()));
    let expected =
        "ZenLock team-a/l was not opened: https://zenlock-webhook.zen-mesh.svc gives no answer; it is asked again";
    assert_eq!(message(&published, "a"), expected);

    // It comes back: asked again by itself.
    script.hold(&[("l", "")]);
    until(&cluster, "answered", |published, _| reason(published, "a") == Some(LockReason::UnknownKey.into())).await;
    script.hold(&[("l", "one")]);
    until(&cluster, "other keys of the mesh", |published, _| serves(published, "a")).await;
    // Away again: what is in memory goes on being used, and an unread change is not lost.
    script.leave();
    let before = revision(&cluster, "a");
    locks.modified(lock("l", 2, &["a"]));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(serves(&cluster.published().borrow(), "a") && revision(&cluster, "a") == before);
    script.hold(&[("l", "two")]);
    until(&cluster, "the new value", |_, snapshot| snapshot.webhooks[&key("a")].revision != before).await;

    script.refused.lock().expect("no panic").insert("a".to_owned(), LockRefusal::SubjectNotAllowed);
    locks.modified(lock("l", 3, &["a"]));
    until(&cluster, "refused", |published, _| reason(published, "a") == Some(LockReason::SubjectNotAllowed.into()))
        .await;
}

/// A plane opens what it compiles and nothing else; where nothing opens them, the reference is unsupported.
#[tokio::test(start_paused = true)]
async fn each_plane_opens_its_own() {
    let spec = |mode: &str| {
        let mut spec = json!({"target": {"url": "https://ci.example/"}, "mode": mode});
        spec["authentication"] = json!({"bearer": {"zenLockRef": {"name": "l", "key": "k"}}});
        spec
    };
    let destinations =
        vec![own("Destination", "ci", 1, &spec("Egress")), own("Destination", "direct", 1, &spec("Direct"))];
    let subjects = json!([{"kind": "Destination", "name": "ci"}, {"kind": "Destination", "name": "direct"}]);
    let sealed = own("ZenLock", "l", 1, &json!({"encryptedData": {"k": "x"}, "allowedSubjects": subjects}));
    for (plane, name) in [(Plane::Ingester, "direct"), (Plane::Egress, "ci")] {
        let world = World::new(vec![], destinations.clone());
        for path in [SERVICES, SLICES] {
            world.server.watch(path, vec![]);
        }
        world.server.watch(LOCKS, vec![sealed.clone()]);
        let script = Script::of(&[("l", "token")]);
        let cluster = start(&world, &script, plane).await;
        assert!(serves(&cluster.published().borrow(), name), "{plane:?} {:?}", cluster.published().borrow());
        let asked: Vec<_> = script.asked.lock().expect("no panic").iter().map(|used| used.name.to_string()).collect();
        assert_eq!(asked, [name], "{plane:?}");
        let unsupported = world.start(plane).await;
        assert_eq!(reason(&unsupported.published().borrow(), name), Some(ObjectReason::NotSupported), "{plane:?}");
    }
    // The operator opens nothing, and takes it that others do.
    let world = World::new(vec![], destinations);
    let options =
        Options { plane: Plane::Operator, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
    let cluster = Cluster::start_with(world.server.client(), options, ZenLocks::Assumed).await.expect("starts");
    assert_eq!(reason(&cluster.published().borrow(), "ci"), None);
}

/// No plaintext of a `ZenLock` is kept in a file, and no answer is waited for to serve what is kept.
#[tokio::test(start_paused = true)]
async fn nothing_of_it_is_in_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("objects.json");
    let world = World::new(vec![locked("a", 1, "l"), hook("c", 1, "s")], vec![destination("ci")]);
    world.secret("s", "of-the-secret");
    world.server.watch(LOCKS, vec![lock("l", 1, &["a"])]);
    let script = Script::of(&[("l", "of-the-lock")]);
    let options = Options {
        plane: Plane::Ingester,
        member: None,
        mesh_namespace: Namespace::from("zen-mesh"),
        cache: Some(path.clone()),
    };
    let unseal: Arc<dyn Unseal> = Arc::clone(&script) as _;
    let cluster = Cluster::start_with(world.server.client(), options.clone(), ZenLocks::Opened(Arc::clone(&unseal)));
    let cluster = cluster.await.expect("starts");
    assert!(serves(&cluster.published().borrow(), "a"));
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    let text = loop {
        match std::fs::read_to_string(&path) {
            Ok(text) => break text,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing is kept");
    };
    assert!(text.contains(&encode("of-the-secret")));
    assert!(!text.contains("of-the-lock") && !text.contains(&encode("of-the-lock")));
    drop(cluster);
    // Again, from the cache: the others serve at once, and this one as soon as there is an answer.
    let cluster = Cluster::start_with(world.server.client(), options, ZenLocks::Opened(unseal)).await.expect("starts");
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "c"), "{published:?}");
    assert_eq!(reason(&published, "a"), Some(ObjectReason::RefPending), "{published:?}");
    until(&cluster, "opened again", |published, _| serves(published, "a")).await;
}
