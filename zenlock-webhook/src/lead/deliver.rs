//! Secrets for the pods that asked for `zen-mesh.io/delivery: secret`, and for nobody else.
//!
//! Admission only writes a name into the pod. The Secret is made when the pod is there, with the pod as its owner, so that
//! it goes with it; the kubelet waits for it. What the pod was admitted for stands in the items of its volume, which nobody
//! can change. A Secret that is not ours is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::runtime::events::{Event as Notice, EventType, Recorder};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use zen_crds::SubjectKind;
use zen_identity::server::request_id;
use zen_model::reason::{ConditionReason, LockRefusal};
use zen_runtime::lease::Leadership;

use super::Parts;
use crate::admit::{DELIVERY_LABEL, SECRET_PREFIX};
use crate::audit::{Action, Entry};

/// Namespace and name of the ZenLocks whose plaintext lies in a Secret now.
pub type Delivered = BTreeSet<(String, String)>;
type Key = (String, String);

/// How often orphans are looked for, and how long a Secret may be without its pod.
const SWEEP: Duration = Duration::from_mins(1);
const ORPHAN: i64 = 120;
const PAUSE: Duration = Duration::from_secs(2);
const SELECTOR: &str = "zen-mesh.io/delivery=secret";

/// Why a pod has no Secret.
#[derive(Debug)]
enum Failed {
    /// For people.
    Refused(LockRefusal, String),
    /// The API server; it is tried again.
    Api(kube::Error),
}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

/// What a pod asks for, read from its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    secret: String,
    /// Key in the Secret, ZenLock, key of it.
    items: Vec<(String, String, String)>,
}

/// Makes Secrets as pods come, and removes those that are nobody's, for as long as it is polled.
pub(super) async fn run(parts: Parts, leadership: Leadership, recorder: Recorder, delivered: watch::Sender<Delivered>) {
    let desk = Desk { parts, leadership, recorder };
    let config = watcher::Config::default().labels(SELECTOR);
    let mut stream = pin!(watcher(Api::<Pod>::all(desk.parts.client.clone()), config));
    let mut sweep = interval(SWEEP);
    let mut pods: BTreeMap<Key, Pod> = BTreeMap::new();
    let mut listed: BTreeMap<Key, Pod> = BTreeMap::new();
    let mut again: BTreeMap<Key, Instant> = BTreeMap::new();
    loop {
        let first = again.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
        let retry = async {
            match &first {
                Some((_, at)) => tokio::time::sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        let mut look = Vec::new();
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => drop(listed.insert(key(&pod), pod)),
                Some(Ok(Event::InitDone)) => {
                    pods = std::mem::take(&mut listed);
                    look.extend(pods.keys().cloned());
                }
                Some(Ok(Event::Apply(pod))) => {
                    look.push(key(&pod));
                    pods.insert(key(&pod), pod);
                }
                Some(Ok(Event::Delete(pod))) => drop(pods.remove(&key(&pod))),
                Some(Err(error)) => {
                    tracing::warn!(%error, "failed to watch pods");
                    tokio::time::sleep(PAUSE).await;
                }
                None => return,
            },
            () = retry => if let Some((key, _)) = first {
                again.remove(&key);
                look.push(key);
            },
            _ = sweep.tick() => {
                if let Err(error) = desk.sweep().await {
                    tracing::warn!(%error, "failed to look for Secrets without a pod");
                }
            }
        }
        for key in look {
            let Some(pod) = pods.get(&key) else { continue };
            if let Err(error) = desk.serve(pod).await {
                tracing::warn!(%error, namespace = key.0, pod = key.1, "failed to make a pod's Secret");
                again.insert(key, Instant::now() + PAUSE);
            }
        }
        let now = pods.values().filter(|pod| !is_over(pod)).flat_map(|pod| {
            let namespace = pod.namespace().unwrap_or_default();
            let items = Due::of(pod).map(|due| due.items).unwrap_or_default();
            items.into_iter().map(move |(_, lock, _)| (namespace.clone(), lock))
        });
        let now: Delivered = now.collect();
        delivered.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

struct Desk {
    parts: Parts,
    leadership: Leadership,
    recorder: Recorder,
}

impl Desk {
    /// Does what a pod needs now. What is refused is said on the pod, and not tried again before the pod changes.
    async fn serve(&self, pod: &Pod) -> Result<(), kube::Error> {
        let Some(due) = Due::of(pod) else { return Ok(()) };
        if self.leadership.check().is_err() {
            return Ok(());
        }
        if is_over(pod) {
            return self.remove(pod, &due).await;
        }
        // One that runs has its Secret; another is not made behind its back.
        if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Pending") {
            return Ok(());
        }
        match self.make(pod, &due).await {
            Ok(true) => {
                let row = ConditionReason::SecretDelivery.row();
                let note = format!("Secret {}: {} {}", due.secret, row.meaning, row.hint);
                self.say(pod, EventType::Normal, row.code, note).await;
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(Failed::Refused(reason, what)) => {
                let row = reason.row();
                self.say(pod, EventType::Warning, row.code, format!("{what}: {} {}", row.meaning, row.hint)).await;
                Ok(())
            }
            Err(Failed::Api(error)) => Err(error),
        }
    }

    /// True where it was made now, false where the pod has it already.
    async fn make(&self, pod: &Pod, due: &Due) -> Result<bool, Failed> {
        let namespace = pod.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &namespace);
        match self.found(&secrets, due).await? {
            Some(secret) if is_of(&secret, pod) => return Ok(false),
            Some(_) => {
                let what = format!("Secret {} is not of this pod", due.secret);
                return Err(Failed::Refused(LockRefusal::NotAdmitted, what));
            }
            None => {}
        }
        let opened = self.open(pod, &namespace, due).await;
        let recorded = self.record(pod, &namespace, due, opened.as_ref().err()).await;
        let data = opened?;
        recorded?;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(due.secret.clone()),
                labels: Some(BTreeMap::from([(DELIVERY_LABEL.to_owned(), "secret".to_owned())])),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            type_: Some("zen-mesh.io/unsealed".to_owned()),
            data: Some(data),
            ..Secret::default()
        };
        secrets.create(&PostParams::default(), &secret).await?;
        Ok(true)
    }

    async fn open(&self, pod: &Pod, namespace: &str, due: &Due) -> Result<BTreeMap<String, ByteString>, Failed> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let mut data = BTreeMap::new();
        for (item, lock, key) in &due.items {
            let refused = |reason| Failed::Refused(reason, format!("ZenLock {lock}, key {key}"));
            let object = self.parts.locks.object(namespace, lock).await;
            let object = object.map_err(|_| refused(LockRefusal::ApiUnavailable))?;
            let object = object.ok_or_else(|| refused(LockRefusal::ZenLockNotFound))?;
            let allowed = object.spec.allowed_subjects.iter();
            let mut allowed = allowed.filter(|subject| subject.kind == SubjectKind::ServiceAccount);
            if !allowed.any(|subject| *subject.name == *account) {
                return Err(refused(LockRefusal::SubjectNotAllowed));
            }
            let file = object.spec.encrypted_data.get(key).ok_or_else(|| refused(LockRefusal::NotDecryptable))?;
            let opened = self.parts.locks.keys().ring.open(file);
            let opened = opened.map_err(|_| refused(LockRefusal::NotDecryptable))?;
            data.insert(item.clone(), ByteString(opened.plaintext.expose().to_vec()));
        }
        Ok(data)
    }

    async fn record(&self, pod: &Pod, namespace: &str, due: &Due, failed: Option<&Failed>) -> Result<(), Failed> {
        let correlation = request_id();
        let locks: BTreeSet<_> = due.items.iter().map(|(_, lock, _)| lock).collect();
        for lock in locks {
            let reason = match failed {
                None => "",
                Some(Failed::Refused(reason, _)) => reason.code(),
                Some(Failed::Api(_)) => LockRefusal::ApiUnavailable.code(),
            };
            let entry = Entry {
                action: Action::AccessSecret,
                who: format!("Pod/{namespace}/{}", pod.name_any()),
                object: format!("ZenLock/{namespace}/{lock}"),
                allowed: failed.is_none(),
                reason,
                correlation: correlation.clone(),
                details: vec![("delivery", "secret".to_owned()), ("secret", due.secret.clone())],
            };
            let unrecorded = |_| Failed::Refused(LockRefusal::AuditUnavailable, format!("ZenLock {lock}"));
            self.parts.audit.record(entry).await.map_err(unrecorded)?;
        }
        Ok(())
    }

    /// A pod that ended needs no plaintext any more, though its object stays.
    async fn remove(&self, pod: &Pod, due: &Due) -> Result<(), kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &pod.namespace().unwrap_or_default());
        match self.found(&secrets, due).await? {
            Some(secret) if is_of(&secret, pod) => delete(&secrets, &secret).await,
            _ => Ok(()),
        }
    }

    /// By a list, which needs no right to read Secrets one by one.
    async fn found(&self, secrets: &Api<Secret>, due: &Due) -> Result<Option<Secret>, kube::Error> {
        let named = ListParams::default().fields(&format!("metadata.name={}", due.secret));
        Ok(secrets.list(&named).await?.items.into_iter().next())
    }

    /// Secrets of ours whose pod is gone, where nobody else collects them.
    async fn sweep(&self) -> Result<(), kube::Error> {
        if self.leadership.check().is_err() {
            return Ok(());
        }
        let secrets: Api<Secret> = Api::all(self.parts.client.clone());
        let now = jiff::Timestamp::now();
        for secret in secrets.list(&ListParams::default().labels(SELECTOR)).await?.items {
            let ours = secret.name_any().starts_with(SECRET_PREFIX);
            let owner = secret.owner_references().iter().find(|owner| owner.kind == "Pod").cloned();
            let created = secret.creation_timestamp().map_or(now, |time| time.0);
            let (true, Some(owner)) = (ours && now.as_second() - created.as_second() > ORPHAN, owner) else { continue };
            let namespace = secret.namespace().unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(self.parts.client.clone(), &namespace);
            let pod = pods.get_opt(&owner.name).await?;
            if pod.is_none_or(|pod| pod.uid().as_ref() != Some(&owner.uid)) {
                delete(&Api::namespaced(self.parts.client.clone(), &namespace), &secret).await?;
                tracing::info!(namespace, secret = secret.name_any(), "removed a Secret whose pod is gone");
            }
        }
        Ok(())
    }

    async fn say(&self, pod: &Pod, type_: EventType, reason: &str, note: String) {
        let notice = Notice {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Deliver".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&notice, &pod.object_ref(&())).await {
            tracing::warn!(%error, pod = pod.name_any(), "failed to write an Event");
        }
    }
}

/// This Secret and no later one of its name.
async fn delete(secrets: &Api<Secret>, secret: &Secret) -> Result<(), kube::Error> {
    let preconditions = Preconditions { uid: secret.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match secrets.delete(&secret.name_any(), &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

impl Due {
    fn of(pod: &Pod) -> Option<Self> {
        let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
        let mut sources = volumes.filter_map(|volume| volume.secret.as_ref());
        let source =
            sources.find(|source| source.secret_name.as_deref().is_some_and(|name| name.starts_with(SECRET_PREFIX)))?;
        let items = source.items.iter().flatten().map(|item| {
            let (lock, key) = item.path.split_once('/')?;
            Some((item.key.clone(), lock.to_owned(), key.to_owned()))
        });
        Some(Self { secret: source.secret_name.clone()?, items: items.collect::<Option<_>>()? })
    }
}

fn key(pod: &Pod) -> Key {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Deleted, or ended.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether we made this Secret for this very pod.
fn is_of(secret: &Secret, pod: &Pod) -> bool {
    let labelled = secret.labels().get(DELIVERY_LABEL).is_some_and(|value| value == "secret");
    labelled
        && secret.owner_references().iter().any(|owner| owner.kind == "Pod" && Some(&owner.uid) == pod.uid().as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let items = json!([{"key": "k0", "path": "ci-token/token"}, {"key": "k1", "path": "db/user.name"}]);
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "team-a", "uid": "u1"},
            "spec": {"containers": [], "volumes": [
                {"name": "other", "secret": {"secretName": "other"}},
                {"name": "v", "secret": {"secretName": "zen-mesh-unsealed-x", "items": items}},
            ]},
        }))
        .expect("a pod")
    }

    #[test]
    fn what_a_pod_was_admitted_for_stands_in_its_volume() {
        let due = Due::of(&pod()).expect("due");
        let item = |data: &str, lock: &str, key: &str| (data.to_owned(), lock.to_owned(), key.to_owned());
        assert_eq!(due.secret, "zen-mesh-unsealed-x");
        assert_eq!(due.items, [item("k0", "ci-token", "token"), item("k1", "db", "user.name")]);
        assert_eq!(Due::of(&Pod::default()), None);
    }

    /// Z-03: a Secret is ours by its label and its owner, never by its name.
    #[test]
    fn a_secret_of_somebody_else_is_not_ours() {
        let secret = |labels: serde_json::Value, uid: &str| -> Secret {
            let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "shop", "uid": uid}]);
            let metadata = json!({"name": "zen-mesh-unsealed-x", "labels": labels, "ownerReferences": owner});
            serde_json::from_value(json!({"metadata": metadata})).expect("a Secret")
        };
        let ours = json!({"zen-mesh.io/delivery": "secret"});
        assert!(is_of(&secret(ours.clone(), "u1"), &pod()));
        assert!(!is_of(&secret(ours, "u2"), &pod()) && !is_of(&secret(json!({}), "u1"), &pod()));
    }
}
