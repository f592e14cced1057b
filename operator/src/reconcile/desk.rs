//! What is wanted, what is on its way, and when to look again. The loop gives it events; it knows no channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use zen_live::Published;

use super::plan::{self, Current, Planned};
use super::{AT_ONCE, Metrics};
use crate::backoff::{self, Backoff};
use crate::decide::Problem;
use crate::decide::tenants::{self, Reader, Used};
use crate::names;
use crate::object::{Id, Object, Stored, is_ours, resource};
use crate::queue::Queue;
use crate::scale::drains::Orders;
use crate::world::World;
use crate::writer::{Error, Notice, Outcome, Requeue, Target, Writer};

/// Kinds that the plan is made from.
const PLANNED_FROM: [&str; 6] = ["StatefulSet", "Pod", "PersistentVolumeClaim", "Secret", "ConfigMap", "APIService"];

pub(super) type Written = Result<(task::Id, Result<Outcome, Error>), JoinError>;

pub(super) struct Desk {
    world: World,
    writer: Writer,
    namespace: String,
    orders: watch::Sender<Orders>,
    metrics: Metrics,
    planned: Planned,
    tenants: BTreeMap<Reader, Grant>,
    /// The references are those of all objects: what is not among them is not used.
    complete: bool,
    queue: Queue<Id>,
    backoff: Backoff,
    /// UIDs of objects that were told to go, until the store shows that they are gone.
    going: HashMap<Id, String>,
    /// What Events are about.
    regarding: Option<ObjectReference>,
    pub(super) writes: JoinSet<Result<Outcome, Error>>,
    /// Which object each of them is about.
    written: HashMap<task::Id, Id>,
}

struct Grant {
    used: Used,
    objects: [Arc<Object>; 2],
}

/// What to do about one object.
enum Job {
    Apply(Arc<Object>, Option<Stored>),
    Make(Arc<Object>),
    Delete(Stored),
    Mark(Stored, bool),
}

impl Desk {
    pub(super) fn new(
        world: World,
        writer: Writer,
        namespace: String,
        orders: watch::Sender<Orders>,
        metrics: Metrics,
    ) -> Self {
        Self {
            world,
            writer,
            namespace,
            orders,
            metrics,
            planned: Planned::default(),
            tenants: BTreeMap::new(),
            complete: false,
            queue: Queue::default(),
            backoff: Backoff::default(),
            going: HashMap::new(),
            regarding: None,
            writes: JoinSet::new(),
            written: HashMap::new(),
        }
    }

    /// Makes the plan anew; what is different in it is looked at.
    pub(super) fn replan(&mut self, current: &Current) {
        let now = Instant::now();
        let next = plan::plan(&self.world, &self.namespace, current, now);
        let before = std::mem::replace(&mut self.planned, next);
        self.regarding.clone_from(&current.workloads.object);
        let mut different: BTreeSet<Id> = BTreeSet::new();
        for (id, object) in &self.planned.plan.wanted {
            if before.plan.wanted.get(id) != Some(object) {
                self.backoff.reconsider(id, now);
                different.insert(id.clone());
            }
        }
        different.extend(self.planned.plan.unwanted.difference(&before.plan.unwanted).cloned());
        different.extend(self.planned.once.keys().filter(|id| !before.once.contains_key(id)).cloned());
        different.extend(self.planned.marks.keys().filter(|id| !before.marks.contains_key(id)).cloned());
        for id in different {
            self.push(id, now);
        }
        let orders = self.planned.orders.clone();
        self.orders.send_if_modified(|known| std::mem::replace(known, orders.clone()) != orders);
        self.metrics.problems.set(i64::try_from(self.planned.plan.problems.len()).unwrap_or(i64::MAX));
        self.count();
        let problems = self.planned.plan.problems.iter().filter(|problem| !before.plan.problems.contains(problem));
        for problem in problems.cloned().collect::<Vec<_>>() {
            tracing::warn!(
                reason = problem.reason,
                problem = problem.message,
                "the data plane is not as it was asked for"
            );
            self.say(problem);
        }
    }

    /// Takes the references of a configuration; namespaces in which they changed are looked at.
    pub(super) fn tenants(&mut self, published: &Published) {
        let now = Instant::now();
        let first = !self.complete && published.complete;
        let mut used = tenants::used(&published.references);
        if !published.complete {
            // What is missing may be there all the same: nothing is taken away.
            for (reader, grant) in &self.tenants {
                let used = used.entry(reader.clone()).or_default();
                used.secrets.extend(grant.used.secrets.iter().cloned());
                used.config_maps.extend(grant.used.config_maps.iter().cloned());
            }
        }
        self.complete |= published.complete;
        let gone: Vec<_> = self.tenants.keys().filter(|reader| !used.contains_key(reader)).cloned().collect();
        for reader in gone {
            self.tenants.remove(&reader);
            for id in tenants::ids(&reader) {
                self.push(id, now);
            }
        }
        for (reader, used) in used {
            if self.tenants.get(&reader).is_some_and(|grant| grant.used == used) {
                continue;
            }
            let objects = tenants::grants(&self.namespace, &reader, &used);
            for object in &objects {
                self.backoff.reconsider(object.id(), now);
                self.push(object.id().clone(), now);
            }
            self.tenants.insert(reader, Grant { used, objects });
        }
        if first {
            // Roles of an earlier time that nobody uses any more.
            let roles = self.world.roles.state();
            let bindings = self.world.role_bindings.state();
            let ids: Vec<_> =
                roles.iter().map(|role| Id::of(&**role)).chain(bindings.iter().map(|it| Id::of(&**it))).collect();
            for id in ids {
                self.push(id, now);
            }
        }
        self.count();
    }

    /// An object changed. True when the plan depends on it.
    pub(super) fn changed(&mut self, id: Id) -> bool {
        let replan = PLANNED_FROM.contains(&&*id.kind);
        if self.going.contains_key(&id) && self.world.find(&id).is_none() {
            self.going.remove(&id);
        }
        self.push(id, Instant::now());
        replan
    }

    /// Time passed. True when the plan depends on it.
    pub(super) fn woke(&self) -> bool {
        self.planned.again.is_some_and(|again| again <= Instant::now())
    }

    /// A write has ended.
    pub(super) fn wrote(&mut self, ended: Written) -> Result<(), Error> {
        let now = Instant::now();
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.written.remove(&task) else { return Ok(()) };
        self.queue.done(&id);
        let outcome = match ended {
            Ok((_, outcome)) => outcome,
            // A mistake of ours, about one object: the others go on.
            Err(error) => {
                tracing::error!(object = %id, %error, "not written");
                self.going.remove(&id);
                self.queue.push(id, now + backoff::LONGEST);
                return Ok(());
            }
        };
        if let Err(error) = &outcome {
            self.going.remove(&id);
            tracing::warn!(object = %id, category = error.category(), %error, "not written");
            if error.requeue() == Requeue::Change {
                self.say(Problem { reason: error.category(), message: format!("{id}: {error}") });
            }
        }
        if let Some(again) = self.backoff.note(&id, outcome, now)? {
            self.queue.push(id, again);
        }
        Ok(())
    }

    /// Starts what is due.
    pub(super) fn start(&mut self) {
        let now = Instant::now();
        while self.writes.len() < AT_ONCE {
            let Some(id) = self.queue.pop(now) else { return };
            match self.job(&id) {
                Some(job) => {
                    let task = self.writes.spawn(work(self.writer.clone(), id.clone(), job)).id();
                    self.written.insert(task, id);
                }
                None => self.queue.done(&id),
            }
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        // With its hands full it goes on when a write has ended.
        let due = self.queue.next().filter(|_| self.writes.len() < AT_ONCE);
        due.into_iter().chain(self.planned.again).min()
    }

    /// Nothing is on its way, and nothing is due.
    pub(super) fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.queue.is_idle(Instant::now())
    }

    pub(super) fn wanted(&self) -> usize {
        self.planned.plan.wanted.len() + 2 * self.tenants.len()
    }

    fn job(&mut self, id: &Id) -> Option<Job> {
        let observed = self.world.find(id);
        if let Some(mark) = self.planned.marks.get(id) {
            return observed.map(|claim| Job::Mark(claim, *mark));
        }
        if let Some(object) = self.planned.once.get(id) {
            return Some(Job::Make(Arc::clone(object)));
        }
        if let Some(object) = self.planned.plan.wanted.get(id).or_else(|| self.grant(id)) {
            // A pod cannot be changed; one that is there does its work, or is unwanted.
            let is_done = id.kind == "Pod" && observed.is_some();
            return (!is_done).then(|| Job::Apply(Arc::clone(object), observed));
        }
        let is_unwanted = self.planned.plan.unwanted.contains(id) || (self.complete && is_grant(id));
        let observed = observed.filter(|observed| is_unwanted && is_ours(observed.meta()))?;
        // The store may lag, and some objects take their time to go.
        let uid = observed.meta().uid.clone().unwrap_or_default();
        let is_going = self.going.insert(id.clone(), uid.clone()).is_some_and(|going| going == uid);
        (!is_going).then_some(Job::Delete(observed))
    }

    fn grant(&self, id: &Id) -> Option<&Arc<Object>> {
        let component = [names::INGESTER, names::EGRESS].into_iter().find(|name| *name == id.name)?;
        let reader = (id.namespace.as_deref()?.into(), component);
        self.tenants.get(&reader)?.objects.iter().find(|object| object.id() == id)
    }

    fn push(&mut self, id: Id, now: Instant) {
        let at = self.backoff.earliest(&id, now);
        self.queue.push(id, at);
    }

    fn count(&self) {
        self.metrics.wanted.set(i64::try_from(self.wanted()).unwrap_or(i64::MAX));
    }

    /// As an Event of the settings, where whoever installed the mesh looks.
    fn say(&mut self, problem: Problem) {
        let Some(regarding) = self.regarding.clone() else { return };
        let writer = self.writer.clone();
        tokio::spawn(async move {
            let notice = Notice { warning: true, reason: problem.reason, action: "Reconcile", note: &problem.message };
            if let Err(error) = writer.event(&regarding, &notice).await {
                tracing::debug!(category = error.category(), %error, "an Event is not written");
            }
        });
    }
}

async fn work(writer: Writer, id: Id, job: Job) -> Result<Outcome, Error> {
    match job {
        Job::Apply(object, observed) => writer.apply(&object, observed.as_deref()).await,
        Job::Make(object) => {
            writer.create(&object).await.map(|made| if made { Outcome::Created } else { Outcome::Unchanged })
        }
        Job::Delete(observed) => match resource(&id.kind) {
            Some(resource) => writer.delete(&resource, &*observed).await,
            None => Ok(Outcome::Unchanged),
        },
        Job::Mark(claim, mark) => mark_claim(&writer, &id, &claim, mark).await,
    }
}

async fn mark_claim(writer: &Writer, id: &Id, claim: &Stored, mark: bool) -> Result<Outcome, Error> {
    let (Some(resource), Some(uid)) = (resource(&id.kind), claim.meta().uid.clone()) else {
        return Ok(Outcome::Unchanged);
    };
    let namespace = id.namespace.clone().unwrap_or_default();
    let target = Target { resource, namespace, name: id.name.clone(), uid };
    let at = jiff::Timestamp::now().to_string();
    writer.annotate(&target, &[(names::DRAINED, mark.then_some(&*at))]).await
}

/// Of the Roles that we make in the namespaces of tenants.
fn is_grant(id: &Id) -> bool {
    ["Role", "RoleBinding"].contains(&&*id.kind) && [names::INGESTER, names::EGRESS].contains(&&*id.name)
}
