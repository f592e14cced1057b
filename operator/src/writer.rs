//! The one way to write to the API server: server-side apply with one field manager, after asking the lease.
//!
//! * **Ownership.** An object that exists without our managed-by label is never written: [`Error::Foreign`]. An object
//!   that we make is first asked for, and applied without force, so that one which appears in between conflicts.
//! * **Nothing twice.** What the API server has already is not sent again: the digest of what was applied stands in an
//!   annotation, and drift shows in the fields that the API server says are ours.
//! * **The lease.** Each write asks [`Leadership::check`] and is cut off after [`WRITE`], so that what began before the
//!   renew deadline has ended before another may lead.

mod error;
pub mod event;
mod memory;
mod metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use error::{Error, Requeue};
pub use event::Notice;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
pub use memory::digest;
use memory::{Memory, Remembered};
pub use metrics::{Metrics, Outcome};
use serde_json::{Value, json};
use tokio::time;
use tokio_util::task::TaskTracker;
use zen_runtime::lease::Leadership;

use crate::names;
use crate::object::{Id, Object, Present, entry, is_ours};

/// A write that takes longer is given up: lease duration less renew deadline.
const WRITE: Duration = Duration::from_secs(4);

/// Writes what was decided. Cheap to clone; all clones share what they remember.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Inner>);

struct Inner {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    memory: Memory,
    events: event::Aggregator,
    instance: Arc<str>,
    underway: TaskTracker,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

/// The object whose status is written.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: one that was deleted and made again under the same name is another object.
    pub uid: String,
}

impl Writer {
    /// `instance` is the pod's name; events carry it.
    pub fn new(client: Client, leadership: Leadership, instance: &str, metrics: Metrics) -> Self {
        let (memory, events, instance) = (Memory::default(), event::Aggregator::new(instance), instance.into());
        let underway = TaskTracker::new();
        Self(Arc::new(Inner { client, leadership, metrics, memory, events, instance, underway }))
    }

    /// The pod that writes.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Makes an object as `desired` says. `observed` is what a store last saw of it.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing was written when it is [`Error::Foreign`] or [`Error::NotLeader`].
    pub async fn apply(&self, desired: &Object, observed: Option<&dyn Present>) -> Result<Outcome, Error> {
        let outcome = self.apply_unless_same(desired, observed).await;
        self.count(&desired.id().kind, outcome)
    }

    async fn apply_unless_same(&self, desired: &Object, observed: Option<&dyn Present>) -> Result<Outcome, Error> {
        let digest = digest(desired.body());
        if let Some(observed) = observed {
            return self.apply_over(desired, &digest, observed).await;
        }
        // A store may lag, and it sees only objects with our label: ask before something is made.
        match self.find(desired).await? {
            Some(there) => self.apply_over(desired, &digest, &there).await,
            None => self.send(desired, &digest, None).await,
        }
    }

    async fn apply_over(&self, desired: &Object, digest: &str, observed: &dyn Present) -> Result<Outcome, Error> {
        let meta = observed.meta();
        if !is_ours(meta) {
            return Err(Error::Foreign(desired.id().clone()));
        }
        if self.0.memory.is_in_effect(desired, digest, observed) {
            return Ok(Outcome::Unchanged);
        }
        self.send(desired, digest, Some(meta)).await
    }

    async fn send(&self, desired: &Object, digest: &str, over: Option<&ObjectMeta>) -> Result<Outcome, Error> {
        let mut body = desired.body().clone();
        let metadata = entry(&mut body, "metadata");
        entry(metadata, "annotations").insert(names::APPLIED.to_owned(), digest.into());
        if let Some(uid) = over.and_then(|over| over.uid.as_deref()) {
            // One that was deleted meanwhile is not made again by a patch that was meant for the old one.
            metadata.insert("uid".to_owned(), uid.into());
        }
        if let Some(version) =
            over.filter(|_| desired.id().kind == "Secret").and_then(|over| over.resource_version.as_deref())
        {
            // Keys are never written over what we have not seen.
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            force: over.is_some(),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let api = self.api(desired.resource(), desired.id().namespace.as_deref());
        let patch = Patch::Apply(Value::Object(body));
        let name = desired.id().name.clone();
        let written = self.write(async move { api.patch(&name, &params, &patch).await }).await?;
        let before = over.and_then(|over| over.resource_version.clone());
        self.0.memory.remember(desired.id(), Remembered::new(digest, before, &written.metadata));
        tracing::debug!(object = %desired.id(), made = over.is_none(), "applied");
        Ok(if over.is_some() { Outcome::Applied } else { Outcome::Created })
    }

    /// Makes an object that is never changed afterwards, such as a root key. True when this call made it; when it exists
    /// already, whoever made it, it is left as it is. Its content must differ from every other's, as a key does.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn create(&self, object: &Object) -> Result<bool, Error> {
        let outcome = self.create_once(object).await;
        self.count(&object.id().kind, outcome).map(|outcome| outcome == Outcome::Created)
    }

    async fn create_once(&self, object: &Object) -> Result<Outcome, Error> {
        if self.find(object).await?.is_some() {
            return Ok(Outcome::Unchanged);
        }
        // An apply by a field manager that nobody else uses conflicts with whatever is there: it makes, or fails. A create
        // would do the same, but cannot be granted for one name.
        let manager = format!("{}-once-{:016x}", names::FIELD_MANAGER, fastrand::u64(..));
        let params = PatchParams { field_manager: Some(manager), ..PatchParams::default() };
        let api = self.api(object.resource(), object.id().namespace.as_deref());
        let patch = Patch::Apply(Value::Object(object.body().clone()));
        let name = object.id().name.clone();
        match self.write(async move { api.patch(&name, &params, &patch).await }).await {
            Ok(_) => Ok(Outcome::Created),
            Err(Error::Conflict(_)) => Ok(Outcome::Unchanged),
            Err(error) => Err(error),
        }
    }

    /// The object of this name, as the API server has it now. A list of one name needs no right beside that to watch it.
    async fn find(&self, wanted: &Object) -> Result<Option<Dynamic>, Error> {
        let api = self.api(wanted.resource(), wanted.id().namespace.as_deref());
        let params = ListParams::default().fields(&format!("metadata.name={}", wanted.id().name));
        let found = bounded(api.list(&params)).await?;
        Ok(found.items.into_iter().next().map(Dynamic))
    }

    /// Deletes an object that we made; one that is gone already is fine.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`] when it is not ours, other [`Error`]s as for every write.
    pub async fn delete(&self, resource: &ApiResource, observed: &dyn Present) -> Result<Outcome, Error> {
        let outcome = self.delete_ours(resource, observed.meta()).await;
        self.count(&resource.kind, outcome)
    }

    async fn delete_ours(&self, resource: &ApiResource, meta: &ObjectMeta) -> Result<Outcome, Error> {
        let name = meta.name.clone().unwrap_or_default();
        let id = Id { kind: resource.kind.clone(), namespace: meta.namespace.clone(), name };
        if !is_ours(meta) {
            return Err(Error::Foreign(id));
        }
        let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let (api, name) = (self.api(resource, id.namespace.as_deref()), id.name.clone());
        let deleted = self.write(async move { api.delete(&name, &params).await }).await;
        self.0.memory.forget(&id);
        match deleted {
            Ok(_) => {
                tracing::debug!(object = %id, "deleted");
                Ok(Outcome::Deleted)
            }
            Err(Error::Gone(_)) => Ok(Outcome::Unchanged),
            Err(error) => Err(error),
        }
    }

    /// Whether there is this object, of which nothing else is looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`] when it is not ours, and what the API server says.
    pub async fn is_there(&self, object: &Object) -> Result<bool, Error> {
        match self.find(object).await? {
            Some(there) if !is_ours(there.meta()) => Err(Error::Foreign(object.id().clone())),
            there => Ok(there.is_some()),
        }
    }

    /// As [`Writer::delete`], of an object that nothing watches: whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn remove(&self, object: &Object) -> Result<bool, Error> {
        let Some(there) = self.find(object).await? else { return Ok(false) };
        self.delete(object.resource(), &there).await.map(|outcome| outcome == Outcome::Deleted)
    }

    /// Sets annotations on an object that others made, or removes those without a value, and touches nothing else of it.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when it is not there (any more), other [`Error`]s as for every write.
    pub async fn annotate(&self, target: &Target, annotations: &[(&str, Option<&str>)]) -> Result<Outcome, Error> {
        let annotations: serde_json::Map<_, _> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map_or(Value::Null, Value::from)))
            .collect();
        let patch = Patch::Merge(json!({"metadata": {"uid": target.uid, "annotations": annotations}}));
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.api(&target.resource, Some(&target.namespace));
        let name = target.name.clone();
        let written = self.write(async move { api.patch_metadata(&name, &params, &patch).await }).await;
        self.count(&target.resource.kind, written.map(|_| Outcome::Applied))
    }

    /// Applies the whole `status` of a user's object, with a field manager of its own. `observed` is the status that the
    /// object has; an equal one is not sent.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the object is not there (any more), other [`Error`]s as for every write.
    pub async fn status(&self, target: &Target, status: &Value, observed: Option<&Value>) -> Result<Outcome, Error> {
        if observed.unwrap_or(&Value::Null) == status {
            return self.count(&target.resource.kind, Ok(Outcome::Unchanged));
        }
        let patch = Patch::Apply(json!({
            "apiVersion": target.resource.api_version,
            "kind": target.resource.kind,
            "metadata": {"name": target.name, "namespace": target.namespace, "uid": target.uid},
            "status": status,
        }));
        let params = PatchParams {
            field_manager: Some(names::STATUS_MANAGER.to_owned()),
            // Status is ours alone: nobody else has a say in it.
            force: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let api = self.api(&target.resource, Some(&target.namespace));
        let name = target.name.clone();
        let written = self.write(async move { api.patch_status(&name, &params, &patch).await }).await;
        self.count(&target.resource.kind, written.map(|_| Outcome::Applied))
    }

    /// As [`Writer::status`], only if the object still has this resource version: a compare-and-swap. Gives the version that it
    /// has then.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when somebody came first: read it and decide again.
    pub async fn swap_status(&self, target: &Target, status: &Value, version: &str) -> Result<String, Error> {
        let patch = Patch::Apply(json!({
            "apiVersion": target.resource.api_version,
            "kind": target.resource.kind,
            "metadata": {
                "name": target.name, "namespace": target.namespace, "uid": target.uid, "resourceVersion": version,
            },
            "status": status,
        }));
        let params = PatchParams {
            field_manager: Some(names::STATUS_MANAGER.to_owned()),
            force: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let api = self.api(&target.resource, Some(&target.namespace));
        let name = target.name.clone();
        let written = self.write(async move { api.patch_status(&name, &params, &patch).await }).await;
        let version = written.as_ref().ok().and_then(|object| object.metadata.resource_version.clone());
        self.count(&target.resource.kind, written.map(|_| Outcome::Applied))?;
        Ok(version.unwrap_or_default())
    }

    /// Says something about an object, where `kubectl describe` shows it. Repeats are counted, not written again and
    /// again; one that is not said now for that is no error.
    ///
    /// # Errors
    ///
    /// [`Error`]; whoever reports goes on without.
    pub async fn event(&self, regarding: &ObjectReference, notice: &Notice<'_>) -> Result<Outcome, Error> {
        let mut outcome = self.say(regarding, notice).await;
        if matches!(outcome, Err(Error::Gone(_))) {
            // The API server keeps an Event for an hour: what goes on for longer is said anew.
            outcome = self.say(regarding, notice).await;
        }
        self.count("Event", outcome)
    }

    async fn say(&self, regarding: &ObjectReference, notice: &Notice<'_>) -> Result<Outcome, Error> {
        let outcome = match self.0.events.next(regarding, notice) {
            None => Ok(Outcome::Unchanged),
            Some(event::Write::Create(event)) => {
                let api = self.events(regarding);
                let made = async move { api.create(&PostParams::default(), &event).await };
                self.write(made).await.map(|_| Outcome::Created)
            }
            Some(event::Write::Repeat { name, patch }) => {
                let api = self.events(regarding);
                let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
                let repeated = async move { api.patch(&name, &params, &patch).await };
                self.write(repeated).await.map(|_| Outcome::Applied)
            }
        };
        if outcome.is_err() {
            self.0.events.unsaid(regarding, notice);
        }
        outcome
    }

    fn events(&self, regarding: &ObjectReference) -> Api<k8s_openapi::api::events::v1::Event> {
        Api::namespaced(self.0.client.clone(), regarding.namespace.as_deref().unwrap_or("default"))
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.0.client.clone();
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        }
    }

    /// Waits until no write is on its way any more, [`WRITE`] at most, when nobody writes any more. Then the lease may be
    /// given back.
    pub async fn ended(&self) {
        self.0.underway.close();
        self.0.underway.wait().await;
    }

    /// Goes on when its caller is dropped: what was sent cannot be taken back, and [`Writer::ended`] has to know of it.
    async fn write<T, F>(&self, request: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = kube::Result<T>> + Send + 'static,
    {
        let leadership = self.0.leadership.clone();
        let written = self.0.underway.spawn(async move {
            leadership.check()?;
            bounded(request).await
        });
        // Cancelled: the runtime ends, and the process with it.
        written.await.unwrap_or_else(|broken| match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Slow),
        })
    }

    fn count(&self, kind: &str, outcome: Result<Outcome, Error>) -> Result<Outcome, Error> {
        self.0.metrics.wrote(kind, outcome.as_ref());
        outcome
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match time::timeout(WRITE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Slow),
    }
}

/// An object of any kind, as the API server answered.
struct Dynamic(DynamicObject);

impl Present for Dynamic {
    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn value(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}
