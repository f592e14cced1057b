//! From a pod and what is known of its ZenLocks to a patch, or a refusal.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};
use zen_model::reason::LockRefusal;

use super::containers::{self, Slot};
use super::injected::{self, Item, SECRET_PREFIX, UNSEAL, Volumes};
use super::known::Known;
use super::mount_path::is_within;
use super::patch::{self, Builder};
use super::reader::Reader;
use super::{DELIVERY_LABEL, Delivery, ENV, Refused, Wanted, variable};
use crate::fetch::{self, Arguments};

/// Bytes that one Secret may hold, with room for its keys.
const LARGEST_SECRET: usize = (1 << 20) - (16 << 10);

/// What does not depend on the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of our containers: the one that this process runs from.
    pub image: String,
    /// Its pull policy.
    pub pull_policy: Option<String>,
    /// The unseal API as pods reach it.
    pub url: String,
    /// The roots that pods verify it with, as [`Arguments::encode_roots`] has them.
    pub roots: String,
    /// Whether the cluster has environment variables from files.
    pub env_files: bool,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// Nothing in it: the pod is as it should be.
    pub patch: Patch,
    /// For who creates the pod.
    pub warnings: Vec<String>,
}

/// Adds what the pod asks for. `locks` holds what is known of each ZenLock in `wanted`, none for one that does not exist.
/// `secret` is a name that nobody has, for the delivery that needs one.
pub fn mutate<K: Borrow<Known>>(
    pod: &Pod,
    wanted: &Wanted,
    locks: &BTreeMap<String, Option<K>>,
    secret: &str,
    settings: &Settings,
) -> Result<Mutation, Refused> {
    let unspecified = || Refused::new(LockRefusal::PodNotSupported, "it has no specification");
    let spec = pod.spec.clone().ok_or_else(unspecified)?;
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(Refused::new(LockRefusal::PodNotSupported, "spec.os.name is not linux"));
    }
    let account = account(&spec);
    let mut known: Vec<(String, &Known)> = Vec::with_capacity(wanted.locks.len());
    for name in &wanted.locks {
        let found = locks.get(name).and_then(Option::as_ref).map(Borrow::borrow);
        known.push((name.clone(), permitted(name, found, account)?));
    }
    let served = containers::served(&spec, wanted)?;
    let pod = Served { pod, spec: &spec, wanted, slots: served, known, settings };
    match wanted.delivery {
        Delivery::Memory => pod.in_memory(),
        Delivery::Secret => pod.as_secret(secret),
    }
}

/// The account that a pod runs under.
fn account(spec: &PodSpec) -> &str {
    spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Whether the account may have this ZenLock, and it can be opened.
fn permitted<'a>(name: &str, known: Option<&'a Known>, account: &str) -> Result<&'a Known, Refused> {
    let known =
        known.ok_or_else(|| Refused::new(LockRefusal::ZenLockNotFound, "it is not in the pod's namespace").of(name))?;
    if !known.accounts.contains(account) {
        let detail = format!("ServiceAccount {account} is not among its subjects");
        return Err(Refused::new(LockRefusal::SubjectNotAllowed, detail).of(name));
    }
    match known.keys.iter().find_map(|(key, facts)| Some((key, facts.problem.as_ref()?))) {
        None => Ok(known),
        Some((key, (code, words))) => {
            Err(Refused::new(LockRefusal::NotDecryptable, format!("{words} ({code})")).of(name).at(key))
        }
    }
}

/// A pod that may have what it asks for.
struct Served<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    wanted: &'a Wanted,
    slots: Vec<Slot<'a>>,
    known: Vec<(String, &'a Known)>,
    settings: &'a Settings,
}

/// A variable and the key that it comes from.
struct Variable {
    name: String,
    lock: String,
    key: String,
}

impl Served<'_> {
    fn in_memory(&self) -> Result<Mutation, Refused> {
        let containers: Vec<_> = self.slots.iter().map(|slot| slot.container).collect();
        let reader = Reader::of(self.spec, &containers);
        let arguments = injected::arguments(self.wanted, self.settings, &reader);
        if let Some(unchanged) = self.again(&arguments)? {
            return Ok(unchanged);
        }
        self.paths_are_free()?;
        let variables = self.variables(true)?;
        let volumes = Volumes::of(self.spec);
        let mount = volumes.mount(self.wanted, true);
        let from = |variable: &Variable| {
            let file = json!({"volumeName": volumes.secrets, "path": fetch::VARIABLES, "key": variable.name});
            json!({"name": variable.name, "valueFrom": {"fileKeyRef": file}})
        };
        let mut patch = Builder::default();
        self.add_to_containers(&mut patch, &mount, &variables.iter().map(from).collect::<Vec<_>>());
        patch.append("/spec/volumes", self.spec.volumes.is_some(), volumes.in_memory());
        let ours = injected::containers(self.spec, self.wanted, self.settings, &reader, &volumes, &arguments);
        if self.spec.init_containers.is_some() {
            // The last one first: each is put at the front.
            ours.into_iter().rev().for_each(|container| patch.add("/spec/initContainers/0".to_owned(), container));
        } else {
            patch.add("/spec/initContainers".to_owned(), Value::Array(ours));
        }
        Ok(Mutation { patch: patch.build(), warnings: Vec::new() })
    }

    fn as_secret(&self, secret: &str) -> Result<Mutation, Refused> {
        let items = self.items();
        if self.has_volume(&items) {
            return Ok(Mutation { patch: Patch::default(), warnings: Vec::new() });
        }
        self.paths_are_free()?;
        let size: usize = self.known.iter().flat_map(|(_, known)| known.keys.values()).map(|facts| facts.size).sum();
        if size > LARGEST_SECRET {
            let detail = format!("the values have {size} bytes together, and {LARGEST_SECRET} are possible");
            return Err(Refused::new(LockRefusal::DeliveryTooLarge, detail));
        }
        let variables = self.variables(false)?;
        let volumes = Volumes::of(self.spec);
        let mount = volumes.mount(self.wanted, false);
        let from = |variable: &Variable| {
            let item = items.iter().find(|item| item.lock == variable.lock && item.key == variable.key)?;
            let key = json!({"name": secret, "key": item.data});
            Some(json!({"name": variable.name, "valueFrom": {"secretKeyRef": key}}))
        };
        let mut patch = Builder::default();
        self.add_to_containers(&mut patch, &mount, &variables.iter().filter_map(from).collect::<Vec<_>>());
        let grouped = self.spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
        let volume = volumes.of_secret(secret, &items, grouped);
        patch.append("/spec/volumes", self.spec.volumes.is_some(), vec![volume]);
        if self.pod.metadata.labels.is_none() {
            patch.add("/metadata/labels".to_owned(), json!({}));
        }
        patch.add(format!("/metadata/labels/{}", patch::token(DELIVERY_LABEL)), "secret".into());
        let warning = "zen-mesh.io/delivery: secret puts plaintext into etcd while this pod lives".to_owned();
        Ok(Mutation { patch: patch.build(), warnings: vec![warning] })
    }

    /// A pod that has our init container was here before: nothing changes, except that trust goes on. One with other
    /// arguments is not of our making.
    fn again(&self, due: &Arguments) -> Result<Option<Mutation>, Refused> {
        let ours = self.spec.init_containers.iter().flatten().enumerate();
        let ours: Vec<_> = ours.filter(|(_, container)| is_ours(&container.name)).collect();
        if let Some(taken) = self.spec.containers.iter().find(|container| is_ours(&container.name)) {
            return Err(Refused::new(LockRefusal::NameReserved, format!("it is container {}", taken.name)));
        }
        if ours.is_empty() {
            return Ok(None);
        }
        let mut patch = Builder::default();
        let mut unseals = false;
        for (index, container) in ours {
            let watch = container.name != UNSEAL;
            unseals |= !watch;
            let notify = if watch { self.wanted.notify.clone() } else { None };
            let due = Arguments { watch, notify, ..due.clone() };
            let other = || Refused::new(LockRefusal::NameReserved, format!("it is init container {}", container.name));
            let found = Arguments::of_args(container.args.as_deref().unwrap_or_default()).ok_or_else(other)?;
            if (Arguments { ca: due.ca.clone(), url: due.url.clone(), ..found.clone() }) != due {
                return Err(other());
            }
            if found != due {
                patch.replace(format!("/spec/initContainers/{index}/args"), json!(due.to_args()));
            }
        }
        if !unseals {
            return Err(Refused::new(LockRefusal::NameReserved, format!("it has no init container {UNSEAL}")));
        }
        Ok(Some(Mutation { patch: patch.build(), warnings: Vec::new() }))
    }

    /// Whether the pod has the volume of a Secret with just these items.
    fn has_volume(&self, items: &[Item]) -> bool {
        self.spec.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()).any(|source| {
            let same = source.items.as_ref().is_some_and(|found| {
                found.len() == items.len()
                    && found
                        .iter()
                        .zip(items)
                        .all(|(a, b)| a.key == b.data && a.path == format!("{}/{}", b.lock, b.key))
            });
            same && source.secret_name.as_deref().is_some_and(|name| name.starts_with(SECRET_PREFIX))
        })
    }

    fn items(&self) -> Vec<Item> {
        let keys = self.known.iter().flat_map(|(lock, known)| known.keys.keys().map(move |key| (lock, key)));
        let item = |(number, (lock, key)): (usize, (&String, &String))| Item {
            data: format!("k{number}"),
            lock: lock.clone(),
            key: key.clone(),
        };
        keys.enumerate().map(item).collect()
    }

    fn paths_are_free(&self) -> Result<(), Refused> {
        let path = self.wanted.path.as_str();
        for slot in &self.slots {
            for mount in slot.container.volume_mounts.iter().flatten() {
                let other = mount.mount_path.trim_end_matches('/');
                let hides = is_within(other, path) || is_within(path, other) && mount.read_only == Some(true);
                if hides {
                    let detail = format!("container {} mounts volume {} at {other}", slot.container.name, mount.name);
                    return Err(Refused::new(LockRefusal::MountPathTaken, detail));
                }
            }
        }
        Ok(())
    }

    /// The variables, each of another name, and none that a served container has.
    fn variables(&self, through_files: bool) -> Result<Vec<Variable>, Refused> {
        let mut variables: Vec<Variable> = Vec::new();
        for (lock, known) in self.known.iter().filter(|(lock, _)| self.wanted.env.contains(lock)) {
            if through_files && !self.settings.env_files {
                let detail =
                    format!("{ENV} needs Kubernetes 1.35 with the feature EnvFiles, which this cluster has not");
                return Err(Refused::new(LockRefusal::EnvNotRepresentable, detail).of(lock));
            }
            for (key, facts) in &known.keys {
                let name = variable(key);
                if let Some(other) = variables.iter().find(|other| other.name == name) {
                    let detail = format!("key {} of ZenLock {} is variable {name} too", other.key, other.lock);
                    return Err(Refused::new(LockRefusal::EnvNameTaken, detail).of(lock).at(key));
                }
                let has = |slot: &&Slot<'_>| slot.container.env.iter().flatten().any(|env| env.name == name);
                if let Some(slot) = self.slots.iter().find(has) {
                    let detail = format!("container {} has a variable {name} already", slot.container.name);
                    return Err(Refused::new(LockRefusal::EnvNameTaken, detail).of(lock).at(key));
                }
                if let Some(why) = facts.unrepresentable.filter(|_| through_files) {
                    return Err(Refused::new(LockRefusal::EnvNotRepresentable, why.words()).of(lock).at(key));
                }
                variables.push(Variable { name, lock: lock.clone(), key: key.clone() });
            }
        }
        Ok(variables)
    }

    fn add_to_containers(&self, patch: &mut Builder, mount: &Value, variables: &[Value]) {
        for slot in &self.slots {
            let (at, container) = (slot.path(), slot.container);
            patch.append(&format!("{at}/volumeMounts"), container.volume_mounts.is_some(), vec![mount.clone()]);
            patch.append(&format!("{at}/env"), container.env.is_some(), variables.to_vec());
        }
    }
}

fn is_ours(name: &str) -> bool {
    [UNSEAL, injected::REFRESH].contains(&name)
}

#[cfg(test)]
mod tests;
