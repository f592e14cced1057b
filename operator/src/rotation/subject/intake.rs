//! The certificate that ingesters present to sources, where it is the mesh's own: another leaf of the same issuing CA, with a key of its
//! own. Whoever trusts the one trusts the other; what is exchanged by it is the key.
//!
//! The identity service tells those whose turn it is that theirs is too old; each asks for another within half a minute and
//! presents it from the next handshake on. What a pod has got by the time that all is taken back it keeps: it is no worse.

use std::collections::BTreeMap;

use zen_identity::Component;
use zen_model::Timestamp;
use zen_pki::Presented;
use zen_rotation::record::Active;
use zen_rotation::{Member, Newcomers, Phase, Which};

use super::super::desk::few;
use super::super::field::{Field, Pod, Unheard};
use super::super::probe::Round;
use super::{Look, Scene};

/// What is to be exchanged: what was issued until now.
pub(super) fn old<F: Field>(scene: &Scene<'_, F>) -> Result<String, String> {
    let workloads = scene.parts.workloads.borrow();
    let own = workloads.content.as_ref().map_or("", |all| all.intake.tls_secret.as_str());
    if own.is_empty() {
        return Ok(format!("issued before {}", scene.parts.service.now()));
    }
    Err(format!("it is that of the Secret {own}: put another into it, and every ingester takes it without a restart"))
}

pub(super) async fn look<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Look {
    let met = visits(scene).await;
    let phase = &active.rotation.phase;
    let (trust, is_back) = match phase {
        Phase::Retiring => (Which::New, false),
        Phase::RollingBack { .. } | Phase::Distrusting { .. } => (Which::Old, true),
        _ => (Which::Both, false),
    };
    let member = |pod: &Pod, met: &Result<Presented, Unheard>| {
        let is_new = met.as_ref().is_ok_and(|met| is_new(met, active));
        Member { half: pod.half(), ready: pod.ready, trusts: trust, uses_new: is_new && !is_back }
    };
    Look {
        is_made: true,
        new: Some(format!("issued since {}", active.rotation.started)),
        newcomers: Newcomers { trust, use_new: active.everybody() },
        members: met.iter().map(|(name, (pod, met))| (name.clone(), member(pod, met))).collect(),
        ..Look::default()
    }
}

/// Each whose turn it is, as a source meets it: the chain verifies under the mesh's roots and is for the Service's name, it is new,
/// and it is good now.
pub(super) async fn probe<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Round {
    let now = scene.parts.service.now();
    let is_in = |pod: &Pod| pod.ready && active.canary().is_none_or(|canary| canary.contains(&*pod.name));
    let met = visits(scene).await.into_values().filter(|(pod, _)| is_in(pod));
    Round::worst(met.map(|(pod, met)| match met {
        Ok(met) if !is_new(&met, active) => Round::Open(format!("{} presents the old", pod.name)),
        Ok(met) if met.validity.from <= now && now < met.validity.until => Round::Passed,
        Ok(_) => Round::Failed(format!("{}: its certificate is of another time", pod.name)),
        Err(Unheard::Away(error)) => Round::Open(format!("{}: {error}", pod.name)),
        Err(Unheard::Refused(error)) => Round::Failed(format!("{}: {error}", pod.name)),
    }))
}

/// Every ingester with an intake, by name.
async fn visits<F: Field>(scene: &Scene<'_, F>) -> BTreeMap<String, (Pod, Result<Presented, Unheard>)> {
    let ingesters = scene.pods.iter().filter(|pod| pod.component == Component::Ingester).cloned();
    let visits = ingesters.map(|pod| {
        let field = scene.parts.field.clone();
        async move {
            let met = field.visit(&pod).await?;
            Some((pod.name.to_string(), (pod, met)))
        }
    });
    few(visits.collect()).await.into_iter().flatten().collect()
}

/// Certificates have whole seconds.
fn is_new(met: &Presented, active: &Active) -> bool {
    met.validity.issued() >= Timestamp::from_secs(active.rotation.started.as_secs())
}
