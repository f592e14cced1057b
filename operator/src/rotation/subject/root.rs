//! The root, and with it everything below: made with an issuing CA of its own, trusted beside the old by every pod that has shown
//! so in a handshake, and used as an issuing CA that is exchanged is. Nothing of the old is distrusted while a leaf of it, or a
//! member's issuing CA, may still be met.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use zen_model::Timestamp;
use zen_rotation::record::Active;
use zen_rotation::{Member, Newcomers, Phase, Which, Work};

use super::super::desk::{Error, few};
use super::super::field::{Field, Pod};
use super::super::probe::Round;
use super::{Look, Scene, issuer};
use crate::enroll::Cluster;
use crate::identity::Roots;

/// Its fingerprint.
pub(super) async fn old<F: Field>(scene: &Scene<'_, F>) -> Result<String, String> {
    let service = &scene.parts.service;
    service.rotates_root()?;
    let roots = service.roots().await.map_err(|error| error.to_string())?;
    let (old, _) = roots.in_use.ok_or_else(|| "there is none that can be used".to_owned())?;
    if roots.is_ours {
        return Ok(old);
    }
    Err("the Secret zen-mesh-ca was made by somebody else, and is exchanged by whoever keeps it".to_owned())
}

/// Two thirds of its time are over.
pub(super) async fn due<F: Field>(scene: &Scene<'_, F>) -> Option<String> {
    let service = &scene.parts.service;
    service.rotates_root().ok()?;
    let roots =
        service.roots().await.inspect_err(|error| tracing::warn!(%error, "the root's age is not known")).ok()?;
    let (old, _) = roots.in_use.filter(|(_, validity)| service.now() >= validity.renew_at())?;
    roots.is_ours.then_some(old)
}

pub(super) async fn look<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Result<Look, Error> {
    let service = &scene.parts.service;
    let roots = service.roots().await?;
    let trusted = service.trusted();
    let stands = Stands::of(&roots, &trusted, active);
    let coming = roots.coming.as_ref().map(|(root, _)| root.clone()).filter(|root| *root != active.old);
    if let Some(lost) = stands.lost {
        return Ok(lost_look(scene, active, lost));
    }
    let took = if stands.is_published { taken(scene).await } else { HashSet::new() };
    // It may be put away early by who cleans up by hand.
    let promoted = || service.next().issuer.filter(|_| stands.is_promoted);
    let issuer = roots.issuer.clone().or_else(promoted).map(|(issuer, _)| issuer);
    let issuer = issuer.as_deref();
    let member = |pod: &Pod| {
        let presents = scene.met.get(&pod.uid).and_then(|met| met.issuer.as_deref());
        let trusts = match stands.trust {
            Which::Both if !took.contains(&pod.uid) => Which::Old,
            which => which,
        };
        Member { half: pod.half(), ready: pod.ready, trusts, uses_new: issuer.is_some() && presents == issuer }
    };
    let members = scene.pods.iter().map(|pod| (pod.name.to_string(), member(pod))).collect();
    let clusters = scene.parts.clusters.borrow().clone();
    let clusters = Clusters { all: clusters.as_deref(), active, now: service.now() };
    let trust = match (&active.rotation.phase, stands.trust) {
        (Phase::Trusting, Which::Both) if !clusters.trust_both() => Which::Old,
        (_, trust) => trust,
    };
    let use_new = stands.is_promoted || clusters.are_leaving() || active.everybody() && service.as_of_next().is_ok();
    Ok(Look {
        is_made: coming.is_some() && issuer.is_some(),
        new: coming.filter(|_| issuer.is_some()),
        newcomers: Newcomers { trust, use_new },
        members,
        old_until: clusters.old_until(service.lifetime()),
        took,
        lost: None,
    })
}

/// The member clusters, whose issuing CAs are beneath the same root.
struct Clusters<'a> {
    /// None: they are not known yet.
    all: Option<&'a [Cluster]>,
    active: &'a Active,
    now: Timestamp,
}

impl Clusters<'_> {
    /// Whether those that are there trust the new, too: their pods meet the hub's. One that is away learns of it when it is back,
    /// from an operator that presents the old as long as that counts; one of a release before does not say.
    fn trust_both(&self) -> bool {
        let (Some(new), settle) = (self.active.new.as_deref(), self.active.rotation.plan.settle()) else { return true };
        self.all.is_some_and(|all| {
            let mut told =
                all.iter().filter(|cluster| cluster.is_connected).filter_map(|cluster| cluster.told.as_ref());
            told.all(|told| told.trusts(new, settle, self.now))
        })
    }

    /// Whether the new is taken back while a member's issuing CA is beneath it: it asks for another within a minute, or ends.
    fn are_leaving(&self) -> bool {
        let is_leaving = matches!(self.active.rotation.phase, Phase::RollingBack { .. } | Phase::Distrusting { .. });
        let is_new = |cluster: &Cluster| cluster.root == self.active.new && self.now < cluster.until;
        is_leaving && self.active.new.is_some() && self.all.is_none_or(|all| all.iter().any(is_new))
    }

    /// Until when a leaf of the old can be met: it lives as long as leaves do, also where nobody could be met. A member's go with its
    /// issuing CA.
    fn old_until(&self, lifetime: Duration) -> Option<Timestamp> {
        let leaf = self.active.rotation.plan.overlap().unwrap_or(lifetime);
        let until = |cluster: &Cluster| match cluster.issued_at {
            Some(issued_at) if cluster.root == self.active.new => cluster.until.min(issued_at.plus(leaf)),
            _ => cluster.until,
        };
        let Some(all) = self.all else { return Some(self.now.plus(leaf)) };
        all.iter().map(until).chain([self.active.rotation.since.plus(leaf)]).max()
    }
}

/// How the roots stand for whoever comes now.
struct Stands {
    trust: Which,
    /// Whether the trust bundle in effect has the new one.
    is_published: bool,
    /// Whether the new one is in the place of the old.
    is_promoted: bool,
    /// Why there is nothing left to go on with.
    lost: Option<&'static str>,
}

impl Stands {
    fn of(roots: &Roots, trusted: &[String], active: &Active) -> Self {
        let is = |found: &Option<(String, zen_pki::Validity)>, name: &str| {
            found.as_ref().is_some_and(|(found, _)| found == name)
        };
        let Some(new) = active.new.as_deref() else {
            // Nothing of the new is known to anybody.
            let is_put_away = active.rotation.phase == Phase::Planned || roots.coming.is_none();
            let trust = if is_put_away { Which::Old } else { Which::Both };
            return Self { trust, is_published: false, is_promoted: false, lost: None };
        };
        let (has_old, has_new) = (trusted.contains(&active.old), trusted.iter().any(|root| root == new));
        let is_promoted = is(&roots.in_use, new);
        let is_there = is(&roots.coming, new);
        let is_retiring = active.rotation.phase == Phase::Retiring;
        let others = roots.in_use.is_some() && !is_promoted && !is(&roots.in_use, &active.old);
        let is_leaving = matches!(active.rotation.phase, Phase::RollingBack { .. } | Phase::Distrusting { .. });
        let lost = if others || is_promoted && !is_retiring {
            Some("the root was exchanged by somebody else meanwhile")
        } else if !is_there && !is_promoted && !is_leaving {
            Some("the root that was to come is gone")
        } else {
            None
        };
        let trust = if is_promoted && has_new && !has_old {
            Which::New
        } else if has_new || is_leaving && is_there {
            Which::Both
        } else {
            Which::Old
        };
        Self { trust, is_published: has_new, is_promoted, lost }
    }
}

/// Everybody is where the way ends: back where there is one, and otherwise at its end.
fn lost_look<F: Field>(scene: &Scene<'_, F>, active: &Active, lost: &str) -> Look {
    let new = active.rotation.phase == Phase::Retiring;
    let trust = if new { Which::New } else { Which::Old };
    let member = |pod: &Pod| Member { half: pod.half(), ready: pod.ready, trusts: trust, uses_new: new };
    Look {
        newcomers: Newcomers { trust, use_new: new },
        members: scene.pods.iter().map(|pod| (pod.name.to_string(), member(pod))).collect(),
        lost: Some(lost.to_owned()),
        ..Look::default()
    }
}

/// Who trusts the new: shown by a handshake in which the operator presents a certificate of it. Who did once does, for as long as
/// it is published.
async fn taken<F: Field>(scene: &Scene<'_, F>) -> HashSet<Arc<str>> {
    let known = scene.pods.iter().filter(|pod| scene.took.contains(&pod.uid)).map(|pod| pod.uid.clone());
    let known: HashSet<_> = known.collect();
    let Ok(as_new) = scene.parts.service.as_of_next() else { return known };
    let asked = scene.pods.iter().filter(|pod| !known.contains(&pod.uid)).cloned().map(|pod| {
        let (field, as_new) = (scene.parts.field.clone(), as_new.clone());
        async move {
            let met = field.greet(&pod, &as_new).await;
            let met =
                met.inspect_err(|error| tracing::debug!(pod = &*pod.name, %error, "does not trust the next root yet"));
            met.is_ok().then_some(pod.uid)
        }
    });
    few(asked.collect()).await.into_iter().flatten().chain(known).collect()
}

pub(super) async fn work<F: Field>(scene: &Scene<'_, F>, work: &Work) -> Result<(), Error> {
    let (service, writer) = (&scene.parts.service, &scene.parts.writer);
    match work {
        Work::Make => service.make_next_root(writer).await?,
        Work::Trust(Which::New) => service.promote_root(writer).await?,
        // First it leaves the trust bundle.
        Work::Trust(Which::Old) if service.beside().is_none() => drop(service.drop_next_root(writer).await?),
        // The phase that is stored says it: the trust bundle follows, and pods ask whose certificate they are to have.
        Work::Trust(Which::Old | Which::Both) | Work::Use { .. } | Work::Probe => {}
    }
    Ok(())
}

pub(super) async fn clean<F: Field>(scene: &Scene<'_, F>) -> Result<bool, Error> {
    Ok(scene.parts.service.drop_next_root(&scene.parts.writer).await?)
}

/// As of an issuing CA.
pub(super) async fn probe<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Round {
    match scene.parts.service.roots().await {
        Ok(Roots { issuer: Some((issuer, _)), .. }) => issuer::handshakes(scene, active, Some(&issuer)).await,
        Ok(_) => Round::Open("the next root has no issuing CA".to_owned()),
        Err(error) => Round::Open(error.to_string()),
    }
}
