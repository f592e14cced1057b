//! An ingester's configuration beside the running webhook: `zenLockRef` resolves, follows its ZenLock, and outlives the webhook
//! (issue 5, item 10; Z-03, Z-08).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;
use zen_compile::{LockUse, Plane};
use zen_crds::SubjectKind;
use zen_identity::Component;
use zen_identity::client::{Resolve, Resolving};
use zen_live::Published;
use zen_live::cluster::{self, Cluster, Options, Unseal, ZenLocks};
use zen_model::{Fault, LockReason, Namespace, ObjectKey, ObjectReason};
use zen_pod::unseal::Api;
use zenlock_webhook::AUDIENCE;

use crate::kube_objects::{pod, zen_lock};
use crate::stage::{PATIENCE, Stage, mesh};

/// Finds the webhook, while it is there.
#[derive(Debug, Default)]
struct Way {
    away: AtomicBool,
}

impl Resolve for Way {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        let found = if self.away.load(Ordering::Relaxed) {
            Err(Fault::ResolverFailed)
        } else {
            Ok(vec![[127, 0, 0, 1].into()])
        };
        Box::pin(async move { found })
    }
}

fn webhook(name: &str, lock: &str) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": {"name": name, "namespace": "team-b"},
        "spec": {
            "verification": {"provider": "github", "secrets": [{"zenLockRef": {"name": lock, "key": "secret"}}]},
            "routes": [{"destinations": [{"name": "ci"}]}],
        },
    })
}

fn lock(stage: &Stage, value: &str, webhooks: &[&str]) -> Value {
    let mut lock = zen_lock("team-b", "plane", &[stage.age.recipient()], &[("secret", value)], &[]);
    let subjects: Vec<_> = webhooks.iter().map(|name| json!({"kind": "Webhook", "name": name})).collect();
    lock["spec"]["allowedSubjects"] = subjects.into();
    lock
}

/// The unseal API as a pod of this account asks it.
async fn api(stage: &Stage, name: &str, namespace: &str, account: &str, way: &Arc<Way>) -> Api {
    let mut pod = pod(name, &[]);
    pod["metadata"]["namespace"] = namespace.into();
    pod["spec"]["serviceAccountName"] = account.into();
    let pod = stage.create(&pod).await.unwrap();
    let token: PathBuf = stage.folder.path().join(format!("token-{name}"));
    std::fs::write(&token, stage.token(namespace, account, AUDIENCE, Some(&pod)).await).unwrap();
    let (url, resolver) = (format!("https://localhost:{}", stage.https.port()), Arc::clone(way) as Arc<dyn Resolve>);
    Api::new(&url, &token, &stage.folder.path().join("ca.crt"), resolver).unwrap()
}

async fn ingester(stage: &Stage, unseal: &Arc<Api>) -> Cluster {
    let client = cluster::client(stage.control_plane.config().await.unwrap()).unwrap();
    let options =
        Options { plane: Plane::Ingester, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
    let unseal = Arc::clone(unseal) as Arc<dyn Unseal>;
    tokio::time::timeout(PATIENCE, Cluster::start_with(client, options, ZenLocks::Opened(unseal)))
        .await
        .unwrap()
        .unwrap()
}

/// What is wrong with a Webhook: code and words.
fn problem(published: &Published, name: &str) -> Option<(ObjectReason, String)> {
    let key = ObjectKey::new("team-b", name);
    let verdict = published.verdicts.iter().find(|verdict| verdict.kind == "Webhook" && verdict.key == key)?;
    let problem = verdict.problems.iter().find(|problem| problem.field.contains("zenLockRef"))?;
    Some((problem.reason, problem.message.clone()))
}

fn revision(cluster: &Cluster, name: &str) -> Option<u64> {
    Some(cluster.snapshot().load().webhooks.get(&ObjectKey::new("team-b", name))?.revision)
}

async fn until(cluster: &Cluster, what: &str, fits: impl Fn(&Published) -> bool) {
    let mut published = cluster.published();
    let waited = tokio::time::timeout(PATIENCE, published.wait_for(|published| fits(published))).await.is_ok();
    assert!(waited, "{what}: {:?}", cluster.published().borrow().verdicts);
}

async fn until_other(cluster: &Cluster, name: &str, before: Option<u64>) {
    let mut published = cluster.published();
    while revision(cluster, name) == before {
        assert!(tokio::time::timeout(PATIENCE, published.changed()).await.is_ok(), "{name} stays as it is");
    }
}

pub async fn a_webhook_verifies_with_a_zenlock_and_follows_it(stage: &Stage) {
    let way = Arc::new(Way::default());
    let unseal = Arc::new(api(stage, "follows", "zen-mesh", "zen-ingester", &way).await);
    stage.apply(&lock(stage, "MARKER-first", &["a"])).await.unwrap();
    for (name, lock) in [("a", "plane"), ("b", "plane"), ("none", "no-such")] {
        stage.apply(&webhook(name, lock)).await.unwrap();
    }
    let cluster = ingester(stage, &unseal).await;
    let published = cluster.published().borrow().clone();
    assert_eq!(problem(&published, "a"), None);
    let (reason, message) = problem(&published, "b").unwrap();
    assert_eq!(reason, LockReason::SubjectNotAllowed.into());
    assert_eq!(message, "ZenLock team-b/plane does not allow Webhook b; add it to its allowedSubjects");
    assert_eq!(problem(&published, "none").unwrap().0, ObjectReason::RefNotFound);
    let who = mesh().id(Component::Ingester).to_string();
    assert_eq!(stage.audit.last_of(&who), ("ZenLock/team-b/plane".to_owned(), true, ""));
    assert!(stage.audit.text().contains("Webhook/team-b/a") && !stage.audit.text().contains("MARKER"));

    let (first, began) = (revision(&cluster, "a"), Instant::now());
    stage.apply(&lock(stage, "MARKER-second", &["a", "b"])).await.unwrap();
    until_other(&cluster, "a", first).await;
    println!("a changed ZenLock was in effect in the ingester after {:?}", began.elapsed());
    until(&cluster, "allowed", |published| problem(published, "b").is_none()).await;
    let settled = stage.audit.count();

    // The webhook is away: what is in memory goes on being used; who starts anew says what it waits for, and serves the rest.
    way.away.store(true, Ordering::Relaxed);
    let second = revision(&cluster, "a");
    stage.apply(&lock(stage, "MARKER-third", &["a", "b"])).await.unwrap();
    let anew = ingester(stage, &unseal).await;
    let (reason, message) = problem(&anew.published().borrow(), "a").unwrap();
    assert_eq!(reason, LockReason::UnsealUnavailable.into());
    let url = format!("https://localhost:{}", stage.https.port());
    assert!(message.starts_with(&format!("ZenLock team-b/plane was not opened: {url} gives no answer")), "{message}");
    assert_eq!((revision(&cluster, "a"), problem(&cluster.published().borrow(), "a")), (second, None));
    assert_eq!(stage.audit.count(), settled, "nobody was asked");
    // It is back: the new value is in effect without anybody's doing.
    way.away.store(false, Ordering::Relaxed);
    until_other(&cluster, "a", second).await;
    until(&anew, "opened", |published| problem(published, "a").is_none() && problem(published, "b").is_none()).await;
    drop(anew);

    // Its status is written by others, and makes nobody ask again.
    let asked = stage.audit.count();
    let annotate = ["-n", "team-b", "annotate", "zenlock", "plane", "note=x"];
    stage.control_plane.kubectl(&annotate).await.unwrap();
    stage.apply(&webhook("later", "plane")).await.unwrap();
    let not_allowed = |published: &Published, name: &str| {
        problem(published, name).is_some_and(|(reason, _)| reason == LockReason::SubjectNotAllowed.into())
    };
    until(&cluster, "another", |published| not_allowed(published, "later")).await;
    assert_eq!(stage.audit.count(), asked);

    stage.apply(&lock(stage, "MARKER-third", &["b"])).await.unwrap();
    until(&cluster, "taken off the list", |published| not_allowed(published, "a")).await;
    stage.control_plane.kubectl(&["-n", "team-b", "delete", "zenlock", "plane"]).await.unwrap();
    let gone = |published: &Published, name: &str| {
        problem(published, name).is_some_and(|it| it.0 == ObjectReason::RefNotFound)
    };
    until(&cluster, "deleted", |published| gone(published, "a") && gone(published, "b")).await;
    for name in ["a", "b", "none", "later"] {
        stage.control_plane.kubectl(&["-n", "team-b", "delete", "webhook", name]).await.unwrap();
    }
}

/// Of one batch each use is judged and audited by itself; a pod that is no plane gets nothing so.
pub async fn each_use_of_a_batch_is_judged_by_itself(stage: &Stage) {
    let way = Arc::new(Way::default());
    let ingester = api(stage, "asks", "zen-mesh", "zen-ingester", &way).await;
    stage.apply(&lock(stage, "MARKER-first", &["a", "other"])).await.unwrap();
    stage.apply(&webhook("a", "plane")).await.unwrap();
    stage.apply(&webhook("b", "plane")).await.unwrap();
    stage.apply(&webhook("other", "another")).await.unwrap();
    let of = |kind, name: &str, lock: &str| LockUse {
        lock: ObjectKey::new("team-b", lock),
        kind,
        name: name.into(),
        plane: Plane::Ingester,
    };
    let asked = [
        (of(SubjectKind::Webhook, "a", "plane"), ""),
        (of(SubjectKind::Webhook, "b", "plane"), "SubjectNotAllowed"),
        (of(SubjectKind::Webhook, "missing", "plane"), "SubjectNotPermitted"),
        // Allowed, and does not use it.
        (of(SubjectKind::Webhook, "other", "plane"), "SubjectNotPermitted"),
        (of(SubjectKind::Webhook, "other", "another"), "ZenLockNotFound"),
        (of(SubjectKind::ServiceAccount, "a", "plane"), "SubjectNotPermitted"),
    ];
    let uses: Vec<_> = asked.iter().map(|(used, _)| used.clone()).collect();
    let before = stage.audit.count();
    let answer = ingester.unseal(&uses).await.unwrap();
    for (used, code) in &asked {
        let refused = answer.refused.get(used).map_or("", |refused| refused.reason.unwrap().code());
        assert_eq!(refused, *code, "{used:?}");
    }
    let opened: Vec<_> = answer.opened.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(opened, ["plane"]);
    assert_eq!(stage.audit.count(), before + asked.len());
    let pod = api(stage, "asks", "team-b", "ci", &way).await;
    let error = pod.unseal(&uses[..1]).await.unwrap_err().to_string();
    assert!(error.contains("SubjectNotPermitted"), "{error}");
    assert!(!stage.audit.last_of("Pod/team-b/asks").1);
}

/// Hundreds of objects are asked for in a few batches, and each is audited.
pub async fn many_objects_cost_a_few_requests(stage: &Stage) {
    const LOCKS: usize = 40;
    const EACH: usize = 5;
    let way = Arc::new(Way::default());
    let unseal = Arc::new(api(stage, "counts", "zen-mesh", "zen-ingester", &way).await);
    for index in 0..LOCKS {
        let names: Vec<_> = (0..EACH).map(|each| format!("many-{index}-{each}")).collect();
        let mut lock = lock(stage, "MARKER", &names.iter().map(String::as_str).collect::<Vec<_>>());
        lock["metadata"]["name"] = format!("many-{index}").into();
        stage.apply(&lock).await.unwrap();
        for name in &names {
            stage.apply(&webhook(name, &format!("many-{index}"))).await.unwrap();
        }
    }
    let (before, began) = (stage.audit.count(), Instant::now());
    let cluster = ingester(stage, &unseal).await;
    let is_many = |key: &ObjectKey| key.name.as_str().starts_with("many-");
    let open = |published: &Published| {
        let own = published.verdicts.iter().filter(|verdict| is_many(&verdict.key));
        own.filter(|verdict| !verdict.problems.iter().any(|problem| problem.field.contains("zenLockRef"))).count()
    };
    until(&cluster, "all are open", |published| open(published) == LOCKS * EACH).await;
    println!("{} Webhooks with {LOCKS} ZenLocks were open after {:?}", LOCKS * EACH, began.elapsed());
    // Each once; the few that other tests left beside them.
    let audited = stage.audit.count() - before;
    assert!((LOCKS * EACH..LOCKS * EACH + 10).contains(&audited), "{audited}");
}
