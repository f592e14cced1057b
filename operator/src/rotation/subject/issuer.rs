//! The issuing CA of the pods' certificates: whoever trusts the root trusts what it signed.

use zen_rotation::record::Active;
use zen_rotation::{Member, Newcomers, Which, Work};

use super::super::desk::{Error, few};
use super::super::field::{Field, Pod};
use super::super::probe::{self, Round};
use super::{Look, Scene};

/// Its fingerprint.
pub(super) fn old<F: Field>(scene: &Scene<'_, F>) -> Result<String, String> {
    let service = &scene.parts.service;
    if !service.rotates() {
        return Err("the pods' certificates are from another issuer".to_owned());
    }
    let issuer = service.next().issuer.map(|(issuer, _)| issuer);
    issuer.ok_or_else(|| "there is none that can be used".to_owned())
}

/// Two thirds of its time are over.
pub(super) fn due<F: Field>(scene: &Scene<'_, F>) -> Option<String> {
    let service = &scene.parts.service;
    let (old, _) = service.next().issuer.filter(|(_, validity)| service.now() >= validity.renew_at())?;
    service.rotates().then_some(old)
}

pub(super) fn look<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Look {
    let next = scene.parts.service.next();
    let issuer = next.issuer.as_ref().map(|(issuer, _)| issuer.as_str());
    let coming = next.coming.as_ref().map(|(next, _)| next.as_str()).filter(|next| *next != active.old);
    let new = active.new.as_deref();
    let is_promoted = new.is_some() && issuer == new;
    let trust = if is_promoted {
        Which::New
    } else if coming.is_some() && (new.is_none() || coming == new) {
        // Whoever trusts the root trusts what it signed.
        Which::Both
    } else {
        Which::Old
    };
    let member = |pod: &Pod| {
        let presents = scene.met.get(&pod.uid).and_then(|met| met.issuer.as_deref());
        Member { half: pod.half(), ready: pod.ready, trusts: trust, uses_new: new.is_some() && presents == new }
    };
    Look {
        is_made: coming.is_some(),
        new: coming.map(str::to_owned),
        newcomers: Newcomers { trust, use_new: is_promoted || (active.everybody() && coming.is_some()) },
        members: scene.pods.iter().map(|pod| (pod.name.to_string(), member(pod))).collect(),
        // What the old has signed verifies under the same root, and who holds it is asked to exchange it.
        old_until: None,
        ..Look::default()
    }
}

pub(super) async fn work<F: Field>(scene: &Scene<'_, F>, work: &Work) -> Result<(), Error> {
    let (service, writer) = (&scene.parts.service, &scene.parts.writer);
    match work {
        Work::Make => service.make_next(writer).await?,
        Work::Trust(Which::New) => service.promote_next(writer).await?,
        Work::Trust(Which::Old) => service.drop_next(writer).await?,
        // The phase that is stored says it, and pods ask whose certificate they are to have.
        Work::Trust(Which::Both) | Work::Use { .. } | Work::Probe => {}
    }
    Ok(())
}

pub(super) async fn clean<F: Field>(scene: &Scene<'_, F>) -> Result<bool, Error> {
    let is_there = scene.parts.service.next().is_there;
    if is_there {
        scene.parts.service.drop_next(&scene.parts.writer).await?;
    }
    Ok(is_there)
}

/// Real handshakes: with each that uses the new, whose chain and times are checked, and with everybody else as one that uses
/// it.
pub(super) async fn probe<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Round {
    handshakes(scene, active, active.new.as_deref()).await
}

/// The same, where `new` is the fingerprint of the issuing CA that comes.
pub(super) async fn handshakes<F: Field>(scene: &Scene<'_, F>, active: &Active, new: Option<&str>) -> Round {
    let service = &scene.parts.service;
    let as_new = match service.as_of_next() {
        Ok(as_new) => as_new,
        Err(error) => return Round::Open(error.to_string()),
    };
    let now = service.now();
    // One of the user's own has another issuer, and none that this is about.
    let serves = scene.parts.workloads.borrow().content.as_ref().is_none_or(|all| all.intake.tls_secret.is_empty());
    let is_in = |pod: &Pod| active.canary().is_none_or(|canary| canary.contains(&*pod.name));
    let rounds = scene.pods.iter().filter(|pod| pod.ready).cloned().map(|pod| {
        let (field, as_new) = (scene.parts.field.clone(), as_new.clone());
        let user = is_in(&pod).then(|| (scene.identity.clone(), new.map(str::to_owned), serves));
        async move { probe::probe(&field, &pod, user, &as_new, now).await }
    });
    Round::worst(few(rounds.collect()).await)
}
