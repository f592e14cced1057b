//! The watches that run.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Api;
use kube::runtime::watcher;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use zen_compile::{Reference, ReferenceKind};
use zen_model::Namespace;

use super::kinds::{Item, Kind};
use super::update::{Source, Update};
use super::watch::{Signal, watch};

/// The `ConfigMap` with the mesh configuration.
const MESH: &str = "zen-mesh";
/// Objects of one answer to a list. What the API server sends of an object is many times what is kept of it, and a whole page
/// is in memory at one time.
const PAGE: u32 = 100;
/// The same of `ZenLock`s, each of which may have a mebibyte and a half of ciphertext.
const LOCKS_PAGE: u32 = 10;
/// Lists of single names that run at once: a start with thousands of Secrets must not be a storm.
const LISTS: usize = 32;

/// Every watch of one plane. Dropping it ends them.
pub(super) struct Watches {
    client: kube::Client,
    mesh_namespace: Namespace,
    to: mpsc::Sender<Update>,
    sources: Vec<AbortOnDropHandle<()>>,
    named: BTreeMap<Reference, AbortOnDropHandle<()>>,
    /// The few that everything waits for never wait for those of names.
    free: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl Watches {
    pub(super) fn new(client: kube::Client, mesh_namespace: Namespace, to: mpsc::Sender<Update>) -> Self {
        let (free, turn) = (Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), Arc::new(Semaphore::new(LISTS)));
        Self { client, mesh_namespace, to, sources: Vec::new(), named: BTreeMap::new(), free, turn }
    }

    /// Follows a kind.
    pub(super) fn begin(&mut self, source: Source) {
        let every = watcher::Config::default().page_size(PAGE);
        let task = match source {
            Source::Webhooks => self.all(every, Update::Webhooks),
            Source::Destinations => self.all(every, Update::Destinations),
            Source::Services => self.all(every, Update::Services),
            // Without the label it belongs to no Service.
            Source::EndpointSlices => self.all(every.labels("kubernetes.io/service-name"), Update::EndpointSlices),
            Source::Namespaces => self.all(every, Update::Namespaces),
            Source::Clusters => self.all(every, Update::Clusters),
            Source::ZenLocks => self.all(every.page_size(LOCKS_PAGE), Update::ZenLocks),
            Source::Mesh => {
                let api = Api::namespaced(self.client.clone(), self.mesh_namespace.as_str());
                self.spawn(api, named(MESH), Arc::clone(&self.free), Update::Mesh)
            }
        };
        self.sources.push(task);
    }

    /// Follows one Secret or `ConfigMap`.
    pub(super) fn begin_named(&mut self, reference: Reference) {
        let (client, namespace) = (self.client.clone(), reference.key.namespace.as_str());
        let (config, turn) = (named(reference.key.name.as_str()), Arc::clone(&self.turn));
        let own = reference.clone();
        let task = match reference.kind {
            ReferenceKind::Secret => {
                let update = move |signal| Update::Secret(own.clone(), signal);
                self.spawn(Api::namespaced(client, namespace), config, turn, update)
            }
            ReferenceKind::ConfigMap => {
                let update = move |signal| Update::ConfigMap(own.clone(), signal);
                self.spawn(Api::namespaced(client, namespace), config, turn, update)
            }
        };
        self.named.insert(reference, task);
    }

    /// Ends the watch of one.
    pub(super) fn end(&mut self, reference: &Reference) {
        self.named.remove(reference);
    }

    fn all<K: Kind>(
        &self,
        config: watcher::Config,
        update: impl Fn(Signal<K>) -> Update + Send + Sync + 'static,
    ) -> AbortOnDropHandle<()> {
        self.spawn(Api::all(self.client.clone()), config, Arc::clone(&self.free), update)
    }

    fn spawn<K: Kind>(
        &self,
        api: Api<Item<K>>,
        config: watcher::Config,
        turn: Arc<Semaphore>,
        update: impl Fn(Signal<K>) -> Update + Send + Sync + 'static,
    ) -> AbortOnDropHandle<()> {
        let to = self.to.clone();
        AbortOnDropHandle::new(tokio::spawn(watch(api, config, turn, to, update)))
    }
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}
