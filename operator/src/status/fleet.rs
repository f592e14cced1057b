//! The data plane as it shows itself: which pods there are, which of them are ready, and how each says that the objects
//! stand.
//!
//! A report stays in force while its pod does: a connection that breaks for a while says nothing new about what is in
//! effect there. A pod that has just become ready is waited for ([`GRACE`]) before its silence counts, so that a rolling
//! update does not turn the status of ten thousand objects over and back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zen_identity::control::{Breaker, LastVerified, ObjectRef, ObjectReport, Plane, Problem, Report};
use zen_model::ObjectKey;

use super::object::{Id, Kind};

/// How long a ready pod may be silent before it counts as one that has nothing in effect.
pub const GRACE: Duration = Duration::from_secs(10);

/// A pod of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Which half it is.
    pub plane: Plane,
    /// Its name.
    pub name: Arc<str>,
    /// A new pod of the same name has another.
    pub uid: Arc<str>,
    /// Where it is reached.
    pub address: std::net::IpAddr,
    /// Whether it takes part.
    pub ready: bool,
}

/// One pod's life, as this process counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(u32);

/// What one pod says about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Of the object that it compiled.
    pub uid: Option<Box<str>>,
    /// Of the object that it compiled.
    pub generation: Option<i64>,
    /// Whether it does its work there.
    pub serving: bool,
    /// What is wrong.
    pub problems: Box<[Problem]>,
    /// Which secret verified last.
    pub last_verified: Option<Box<LastVerified>>,
    /// The breaker.
    pub breaker: Option<Breaker>,
}

impl Facts {
    fn of(report: ObjectReport) -> (ObjectRef, Self) {
        let facts = Self {
            uid: report.uid.map(Into::into),
            generation: report.observed_generation,
            serving: report.serving,
            problems: report.problems.into(),
            last_verified: report.last_verified.map(Box::new),
            breaker: report.breaker,
        };
        (report.object, facts)
    }
}

/// One pod that counts, and what it says about the object in question.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Its name.
    pub name: &'a str,
    /// None: it does not have the object.
    pub facts: Option<&'a Facts>,
}

#[derive(Debug)]
struct Member {
    pod: Pod,
    ready_since: Option<Instant>,
    reported: bool,
}

/// All pods and their reports.
#[derive(Debug, Default)]
pub struct Fleet {
    members: BTreeMap<PodId, Member>,
    /// Few pods for each object, so a list.
    objects: HashMap<Id, Vec<(PodId, Facts)>>,
    counter: u32,
}

/// What a new list of pods changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// To be followed from now on, from the beginning: new ones, and those that became ready.
    pub joined: Vec<(PodId, Pod)>,
    /// To be followed no longer.
    pub left: Vec<PodId>,
    /// Who counts may be others than before: every object is looked at again.
    pub counts: bool,
}

impl Fleet {
    /// Takes the pods that there are now. A pod of another uid or address is another pod.
    pub fn set_pods(&mut self, pods: Vec<Pod>, now: Instant) -> Turnover {
        let mut turnover = Turnover::default();
        let same = |a: &Pod, b: &Pod| (a.plane, &a.uid, a.address) == (b.plane, &b.uid, b.address);
        let gone = self.members.iter().filter(|(_, member)| !pods.iter().any(|pod| same(pod, &member.pod)));
        turnover.left = gone.map(|(id, _)| *id).collect();
        for id in &turnover.left {
            self.members.remove(id);
        }
        if !turnover.left.is_empty() {
            self.forget(&turnover.left);
            turnover.counts = true;
        }
        for pod in pods {
            if let Some((id, member)) = self.members.iter_mut().find(|(_, member)| same(&pod, &member.pod)) {
                if member.pod.ready != pod.ready {
                    turnover.counts = true;
                    member.ready_since = pod.ready.then_some(now);
                    if pod.ready {
                        // Whoever follows it may be waiting to ask again.
                        turnover.joined.push((*id, pod.clone()));
                    }
                }
                member.pod = pod;
            } else {
                self.counter += 1;
                let id = PodId(self.counter);
                turnover.counts |= pod.ready;
                turnover.joined.push((id, pod.clone()));
                let ready_since = pod.ready.then_some(now);
                self.members.insert(id, Member { pod, ready_since, reported: false });
            }
        }
        turnover
    }

    fn forget(&mut self, gone: &[PodId]) {
        self.objects.retain(|_, reports| {
            reports.retain(|(id, _)| !gone.contains(id));
            !reports.is_empty()
        });
    }

    /// Takes a pod's report; the objects about which it says something new. With its first one the pod counts.
    pub fn report(&mut self, from: PodId, report: Report) -> Reported {
        let Some(member) = self.members.get_mut(&from) else { return Reported::default() };
        let first = !std::mem::replace(&mut member.reported, true);
        let mut changed = HashSet::new();
        let mut named = HashSet::new();
        for object in report.objects {
            let (object, facts) = Facts::of(object);
            let Some(id) = id_of(&object) else { continue };
            if report.complete {
                named.insert(id.clone());
            }
            let reports = self.objects.entry(id.clone()).or_default();
            match reports.iter_mut().find(|(pod, _)| *pod == from) {
                Some((_, known)) if *known == facts => continue,
                Some((_, known)) => *known = facts,
                None => reports.push((from, facts)),
            }
            changed.insert(id);
        }
        let mut gone: Vec<Id> = report.gone.iter().filter_map(id_of).collect();
        if report.complete {
            let known = self.objects.iter().filter(|(_, reports)| reports.iter().any(|(pod, _)| *pod == from));
            gone.extend(known.map(|(id, _)| id).filter(|id| !named.contains(id)).cloned());
        }
        for id in gone {
            let Some(reports) = self.objects.get_mut(&id) else { continue };
            reports.retain(|(pod, _)| *pod != from);
            if reports.is_empty() {
                self.objects.remove(&id);
            }
            changed.insert(id);
        }
        Reported { changed, first }
    }

    /// The pods of a half that count, in the order of their names, each with what it says about an object.
    pub fn replicas(&self, plane: Plane, id: &Id, now: Instant) -> Vec<Replica<'_>> {
        let reports = self.objects.get(id).map(Vec::as_slice).unwrap_or_default();
        let members = self.members.iter().filter(|(_, member)| member.pod.plane == plane && member.counts(now));
        let mut replicas: Vec<_> = members
            .map(|(pod, member)| {
                let facts = reports.iter().find(|(from, _)| from == pod).map(|(_, facts)| facts);
                Replica { name: &member.pod.name, facts }
            })
            .collect();
        replicas.sort_by_key(|replica| replica.name);
        replicas
    }

    /// What every pod, ready or not, says about an object.
    pub fn all(&self, id: &Id) -> impl Iterator<Item = &Facts> {
        self.objects.get(id).into_iter().flatten().map(|(_, facts)| facts)
    }

    /// When the silence of a ready pod begins to count, if that is still to come: every object is looked at again then.
    pub fn silence_counts_at(&self, now: Instant) -> Option<Instant> {
        let silent = self.members.values().filter(|member| !member.reported).filter_map(|member| member.ready_since);
        silent.map(|since| since + GRACE).filter(|at| *at > now).min()
    }
}

/// What a report changed.
#[derive(Debug, Default)]
pub struct Reported {
    /// These objects.
    pub changed: HashSet<Id>,
    /// It is the pod's first: from now on the pod counts.
    pub first: bool,
}

impl Member {
    fn counts(&self, now: Instant) -> bool {
        self.ready_since.is_some_and(|since| self.reported || now >= since + GRACE)
    }
}

fn id_of(object: &ObjectRef) -> Option<Id> {
    Some(Id::new(Kind::of(&object.kind)?, ObjectKey::new(object.namespace.as_str(), object.name.as_str())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pod(plane: Plane, name: &str, uid: &str, ready: bool) -> Pod {
        Pod { plane, name: name.into(), uid: uid.into(), address: [192, 0, 2, 1].into(), ready }
    }

    pub(crate) fn object_report(kind: Kind, key: &str, generation: i64, serving: bool) -> ObjectReport {
        let key: ObjectKey = key.parse().expect("a key");
        ObjectReport {
            object: ObjectRef {
                kind: kind.name().to_owned(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
            },
            uid: Some("u".to_owned()),
            observed_generation: Some(generation),
            serving,
            problems: Vec::new(),
            last_verified: None,
            breaker: None,
        }
    }

    pub(crate) fn report(pod: &Pod, revision: u64, complete: bool, objects: Vec<ObjectReport>) -> Report {
        let instance = pod.name.to_string();
        Report { instance, plane: pod.plane, epoch: "e1".into(), revision, complete, objects, gone: Vec::new() }
    }

    fn webhook(key: &str) -> Id {
        Id::new(Kind::Webhook, key.parse().expect("a key"))
    }

    fn generations(fleet: &Fleet, id: &Id, now: Instant) -> Vec<(String, Option<i64>)> {
        let replicas = fleet.replicas(Plane::Ingester, id, now);
        replicas.iter().map(|it| (it.name.to_owned(), it.facts.and_then(|facts| facts.generation))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_counts_from_its_first_report_or_after_the_grace() {
        let mut fleet = Fleet::default();
        let (a, b) = (pod(Plane::Ingester, "i-0", "1", true), pod(Plane::Ingester, "i-1", "2", true));
        let turnover = fleet.set_pods(vec![a.clone(), b, pod(Plane::Egress, "e", "3", true)], Instant::now());
        assert_eq!((turnover.joined.len(), turnover.left.len(), turnover.counts), (3, 0, true));
        let id = webhook("n/w");
        assert!(fleet.replicas(Plane::Ingester, &id, Instant::now()).is_empty());
        let objects = vec![object_report(Kind::Webhook, "n/w", 2, true)];
        let reported = fleet.report(turnover.joined[0].0, report(&a, 1, true, objects));
        assert!(reported.first && reported.changed.contains(&id));
        assert_eq!(generations(&fleet, &id, Instant::now()), [("i-0".to_owned(), Some(2))]);

        let counts_at = fleet.silence_counts_at(Instant::now()).expect("two are silent");
        tokio::time::advance(counts_at - Instant::now()).await;
        let now = Instant::now();
        assert_eq!(generations(&fleet, &id, now), [("i-0".to_owned(), Some(2)), ("i-1".to_owned(), None)]);
        assert_eq!(fleet.silence_counts_at(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_decides_who_counts_and_reports_outlast_it() {
        let mut fleet = Fleet::default();
        let mut a = pod(Plane::Ingester, "i-0", "1", true);
        let now = Instant::now();
        let joined = fleet.set_pods(vec![a.clone()], now).joined;
        let id = webhook("n/w");
        fleet.report(joined[0].0, report(&a, 1, true, vec![object_report(Kind::Webhook, "n/w", 1, true)]));
        a.ready = false;
        let turnover = fleet.set_pods(vec![a.clone()], now);
        assert!(turnover.counts && turnover.joined.is_empty() && turnover.left.is_empty());
        assert!(generations(&fleet, &id, now).is_empty());
        a.ready = true;
        let turnover = fleet.set_pods(vec![a.clone()], now);
        assert!(turnover.counts && turnover.joined == [(joined[0].0, a.clone())], "asked at once: {turnover:?}");
        assert_eq!(generations(&fleet, &id, now), [("i-0".to_owned(), Some(1))]);
        assert_eq!(fleet.set_pods(vec![a.clone()], now), Turnover::default(), "nothing new");

        // Another pod of the same name is another pod: what the first one said is void.
        a.uid = "2".into();
        let turnover = fleet.set_pods(vec![a], now);
        assert_eq!((turnover.left, turnover.joined.len()), (vec![joined[0].0], 1));
        assert!(generations(&fleet, &id, now + GRACE).iter().all(|(_, generation)| generation.is_none()));
        let late = report(&pod(Plane::Ingester, "i-0", "1", true), 9, true, vec![]);
        assert!(!fleet.report(joined[0].0, late).first, "a report of a pod that left is dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_says_what_is_new_and_what_is_gone() {
        let mut fleet = Fleet::default();
        let a = pod(Plane::Ingester, "i-0", "1", true);
        let from = fleet.set_pods(vec![a.clone()], Instant::now()).joined[0].0;
        let one = || object_report(Kind::Webhook, "n/one", 1, true);
        let two = |generation| object_report(Kind::Webhook, "n/two", generation, true);
        let foreign = ObjectReport {
            object: ObjectRef { kind: "Secret".into(), namespace: "n".into(), name: "s".into() },
            ..one()
        };
        let changed = fleet.report(from, report(&a, 1, true, vec![one(), two(1), foreign])).changed;
        assert_eq!(changed, HashSet::from([webhook("n/one"), webhook("n/two")]));
        let changed = fleet.report(from, report(&a, 2, false, vec![one(), two(2)])).changed;
        assert_eq!(changed, HashSet::from([webhook("n/two")]), "the same again is nothing new");
        let gone = vec![one().object];
        let changed = fleet.report(from, Report { gone, ..report(&a, 3, false, vec![]) }).changed;
        assert_eq!(changed, HashSet::from([webhook("n/one")]));
        // Everything: what is not in it is gone.
        let changed = fleet.report(from, report(&a, 1, true, vec![one()])).changed;
        assert_eq!(changed, HashSet::from([webhook("n/one"), webhook("n/two")]));
        assert_eq!(fleet.all(&webhook("n/two")).count(), 0);
    }
}
