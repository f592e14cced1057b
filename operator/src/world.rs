//! What there is: stores that watches keep current, and word of what changed.
//!
//! Only what the operator made is watched (by label), or what it needs by name, so that memory does not grow with what
//! others keep in the cluster.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::names;
use crate::object::{Id, Stored};
use crate::watching::Watched;

/// Everything that is watched. Dropping it ends the watches.
pub struct World {
    namespace: String,
    /// The three Secrets with keys, by name.
    pub secrets: [(&'static str, Store<Secret>); 3],
    /// The ingester.
    pub stateful_sets: Store<StatefulSet>,
    /// The ingester's pods, and those that empty a queue.
    pub pods: Store<Pod>,
    /// The queues' volumes.
    pub claims: Store<PersistentVolumeClaim>,
    /// Roles that we made, of all namespaces.
    pub roles: Store<Role>,
    /// RoleBindings that we made, of all namespaces.
    pub role_bindings: Store<RoleBinding>,
    deployments: Store<Deployment>,
    services: Store<Service>,
    disruption_budgets: Store<PodDisruptionBudget>,
    network_policies: Store<NetworkPolicy>,
    api_services: Store<APIService>,
    mutating: Store<MutatingWebhookConfiguration>,
    validating: Store<ValidatingWebhookConfiguration>,
    recipients: Store<ConfigMap>,
    /// Of the Secret with the age identities: that it is there, and nothing of what it holds.
    age: Store<PartialObjectMeta<Secret>>,
    #[expect(dead_code, reason = "dropping it ends the watches")]
    tasks: JoinSet<()>,
}

impl World {
    /// Starts the watches. `changed` is told what appears, changes and goes.
    pub fn watch(client: &Client, namespace: &str, changed: &mpsc::UnboundedSender<Id>) -> Self {
        let mut tasks = JoinSet::new();
        let mut watch = Watch { client, namespace, changed, tasks: &mut tasks };
        let ours = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY);
        let ours = || Config::default().labels(&ours);
        let ingester = format!("{}={},{}=ingester", names::NAME_LABEL, names::NAME, names::COMPONENT_LABEL);
        let ingester = || Config::default().labels(&ingester);
        let secrets = [names::ROOT, names::INGESTER_KEYS, names::EGRESS_KEYS];
        Self {
            secrets: secrets.map(|name| (name, watch.here(named(name)))),
            stateful_sets: watch.here(ours()),
            pods: watch.here(ingester()),
            claims: watch.here(ingester()),
            roles: watch.everywhere(ours()),
            role_bindings: watch.everywhere(ours()),
            deployments: watch.here(ours()),
            services: watch.here(ours()),
            disruption_budgets: watch.here(ours()),
            network_policies: watch.here(ours()),
            api_services: watch.everywhere(named(names::API_SERVICE)),
            mutating: watch.everywhere(named(names::ADMISSION)),
            validating: watch.everywhere(named(names::ADMISSION)),
            recipients: watch.here(named(names::RECIPIENTS)),
            age: watch.here(named(names::AGE)),
            namespace: namespace.to_owned(),
            tasks,
        }
    }

    /// Waits until every store has been listed once.
    pub async fn ready(&self) {
        let wait = |ready: Result<(), _>| ready.is_ok();
        // A store fails to become ready only when its task has ended, and those end with us.
        for (_, store) in &self.secrets {
            let _ = wait(store.wait_until_ready().await);
        }
        let _ = wait(self.stateful_sets.wait_until_ready().await);
        let _ = wait(self.pods.wait_until_ready().await);
        let _ = wait(self.claims.wait_until_ready().await);
        let _ = wait(self.roles.wait_until_ready().await);
        let _ = wait(self.role_bindings.wait_until_ready().await);
        let _ = wait(self.deployments.wait_until_ready().await);
        let _ = wait(self.services.wait_until_ready().await);
        let _ = wait(self.disruption_budgets.wait_until_ready().await);
        let _ = wait(self.network_policies.wait_until_ready().await);
        let _ = wait(self.api_services.wait_until_ready().await);
        let _ = wait(self.mutating.wait_until_ready().await);
        let _ = wait(self.validating.wait_until_ready().await);
        let _ = wait(self.recipients.wait_until_ready().await);
        let _ = wait(self.age.wait_until_ready().await);
    }

    /// An object as it was seen last; none when it is not there, or is none of ours.
    pub fn find(&self, id: &Id) -> Option<Stored> {
        match &*id.kind {
            "StatefulSet" => find(&self.stateful_sets, id),
            "Deployment" => find(&self.deployments, id),
            "Service" => find(&self.services, id),
            "PodDisruptionBudget" => find(&self.disruption_budgets, id),
            "NetworkPolicy" => find(&self.network_policies, id),
            "Role" => find(&self.roles, id),
            "RoleBinding" => find(&self.role_bindings, id),
            "Pod" => find(&self.pods, id),
            "PersistentVolumeClaim" => find(&self.claims, id),
            "APIService" => find(&self.api_services, id),
            "MutatingWebhookConfiguration" => find(&self.mutating, id),
            "ValidatingWebhookConfiguration" => find(&self.validating, id),
            "Secret" => self.secret(&id.name).map(|secret| secret as Stored),
            _ => None,
        }
    }

    /// One of the Secrets with keys.
    pub fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        let (_, store) = self.secrets.iter().find(|(known, _)| *known == name)?;
        store.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// One of our `StatefulSet`s.
    pub fn stateful_set(&self, name: &str) -> Option<Arc<StatefulSet>> {
        self.stateful_sets.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// Whether the aggregated API is registered.
    pub fn is_api_registered(&self) -> bool {
        self.api_services.get(&ObjectRef::new(names::API_SERVICE)).is_some()
    }

    /// Whether the Secret with the age identities is there.
    pub fn has_age(&self) -> bool {
        self.age.get(&ObjectRef::new(names::AGE).within(&self.namespace)).is_some()
    }

    /// Whether public keys were published once: then there are identities, and ZenLocks that only those open.
    pub fn has_recipients(&self) -> bool {
        self.recipients.get(&ObjectRef::new(names::RECIPIENTS).within(&self.namespace)).is_some()
    }
}

fn find<K>(store: &Store<K>, id: &Id) -> Option<Stored>
where
    K: Resource<DynamicType = ()> + serde::Serialize + Clone + Send + Sync + 'static,
{
    let mut reference = ObjectRef::new(&id.name);
    if let Some(namespace) = &id.namespace {
        reference = reference.within(namespace);
    }
    store.get(&reference).map(|object| object as Stored)
}

fn named(name: &str) -> Config {
    Config::default().fields(&format!("metadata.name={name}"))
}

struct Watch<'a> {
    client: &'a Client,
    namespace: &'a str,
    changed: &'a mpsc::UnboundedSender<Id>,
    tasks: &'a mut JoinSet<()>,
}

impl Watch<'_> {
    fn here<K>(&mut self, config: Config) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync,
        K: 'static,
    {
        self.follow(Api::namespaced(self.client.clone(), self.namespace), config)
    }

    fn everywhere<K>(&mut self, config: Config) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.follow(Api::all(self.client.clone()), config)
    }

    fn follow<K>(&mut self, api: Api<K>, config: Config) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        self.tasks.spawn(follow(api, config, store.clone(), writer, self.changed.clone()));
        store
    }
}

async fn follow<K>(
    api: Api<K>,
    config: Config,
    store: Store<K>,
    mut writer: reflector::store::Writer<K>,
    changed: mpsc::UnboundedSender<Id>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let kind = K::kind(&());
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut watched = Watched::new(&kind);
    while let Some(event) = events.next().await {
        let Some(mut event) = watched.heard(event) else { continue };
        trim(&mut event);
        let mut touched = BTreeSet::new();
        match &event {
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => drop(touched.insert(Id::of(object))),
            // What vanished while we did not look is only known from before.
            watcher::Event::InitDone => touched.extend(store.state().iter().map(|object| Id::of(&**object))),
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        }
        let listed = matches!(event, watcher::Event::InitDone);
        writer.apply_watcher_event(&event);
        if listed {
            touched.extend(store.state().iter().map(|object| Id::of(&**object)));
        }
        for id in touched {
            if changed.send(id).is_err() {
                return;
            }
        }
    }
}

/// The fields of other managers are most of what some objects weigh, and nothing is decided from them.
fn trim<K: Resource>(event: &mut watcher::Event<K>) {
    let (watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event else { return };
    if let Some(fields) = &mut object.meta_mut().managed_fields {
        fields.retain(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
        fields.shrink_to_fit();
    }
}
