//! The signing keys of the mesh (W-12): another version of all that is derived from their root. The root stays.
//!
//! Ingesters sign at the link and are who goes first. Egresses only verify there, so that what they take counts as what is
//! trusted by whoever comes. What all of them have follows from the phase that is stored: the loop of the leader writes it into
//! the Secrets that they mount, and each tells by its metrics what it has read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;
use zen_identity::Component;
use zen_model::signing::{Signers, Versions};
use zen_pod::keys::VERSIONS;
use zen_rotation::record::Active;
use zen_rotation::signing::{Settled, link_until};
use zen_rotation::{Member, Newcomers, Which};

use super::super::Parts;
use super::super::desk::{Error, few};
use super::super::field::{Field, Pod};
use super::super::probe::Round;
use super::super::told::which;
use super::{Look, Scene};
use crate::names::{EGRESS_KEYS, INGESTER_KEYS};

/// Two objects by name.
const READ: Duration = Duration::from_secs(5);

/// The version in use.
pub(super) fn old<F: Field>(scene: &Scene<'_, F>) -> Result<String, String> {
    let settled = scene.state.and_then(|state| state.signing.clone()).unwrap_or_default();
    settled.old().map(|version| version.to_string())
}

/// What the planes have had until now, where nothing is stored of it.
pub(crate) async fn adopted<F: Field>(parts: &Parts<F>) -> Result<Option<Settled>, Error> {
    let [ingester, egress] = published(parts).await?;
    let newest = [ingester, egress].into_iter().flatten().max_by_key(|versions| versions.current);
    Ok(newest.map(|versions| Settled::of(&versions)))
}

pub(super) async fn look<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Result<Look, Error> {
    let Some((old, new)) = versions(active) else { return Ok(Look::default()) };
    let of = |versions: &Versions| which(&versions.link(""), old, new);
    let published = published(scene.parts).await?.map(Option::unwrap_or_default);
    let told = |pod: &Pod| scene.told.get(&pod.uid);
    let verifiers = scene.pods.iter().filter(|pod| pod.component == Component::Egress);
    let verifiers = verifiers.map(|pod| told(pod).map_or(Which::Old, |told| told.trusts(old, new)));
    let trust = least(published.iter().map(of).chain(verifiers));
    let signs_new = |versions: &Versions| match &versions.next {
        Some(next) => next.version == new && next.signers == Signers::Everybody,
        None => versions.current == new,
    };
    let member = |pod: &Pod| {
        let told = told(pod).cloned().unwrap_or_default();
        Member { half: pod.half(), ready: pod.ready, trusts: told.trusts(old, new), uses_new: told.signs == Some(new) }
    };
    let signers = scene.pods.iter().filter(|pod| pod.component == Component::Ingester);
    Ok(Look {
        // A number is all that there is to make.
        is_made: true,
        new: Some(new.to_string()),
        newcomers: Newcomers { trust, use_new: active.everybody() && published.iter().all(signs_new) },
        members: signers.map(|pod| (pod.name.to_string(), member(pod))).collect(),
        old_until: link_until(active),
        ..Look::default()
    })
}

/// Each says anew what it has, and since the phase began nobody has met a signature of a key that he does not know.
pub(super) async fn probe<F: Field>(scene: &Scene<'_, F>, active: &Active) -> Round {
    let Some((old, new)) = versions(active) else { return Round::Open("no version is known".to_owned()) };
    let concerned = |pod: &&Pod| matches!(pod.component, Component::Ingester | Component::Egress) && pod.ready;
    let rounds = scene.pods.iter().filter(concerned).map(|pod| async move {
        let Some(told) = scene.parts.field.told(pod).await else {
            return Round::Open(format!("{} does not answer", pod.name));
        };
        let is_first = active.canary().is_none_or(|canary| canary.contains(&*pod.name));
        if told.wrong > scene.wrong.get(&pod.uid).copied().unwrap_or_default() {
            Round::Failed(format!("{} met signatures that it does not take", pod.name))
        } else if told.trusts(old, new) != Which::Both {
            Round::Open(format!("{} does not verify both", pod.name))
        } else if pod.component == Component::Ingester && is_first && told.signs != Some(new) {
            Round::Open(format!("{} signs with the old", pod.name))
        } else {
            Round::Passed
        }
    });
    Round::worst(few(rounds.collect()).await)
}

/// The old and the new.
fn versions(active: &Active) -> Option<(u32, u32)> {
    let old: u32 = active.old.parse().ok()?;
    Some((old, old.checked_add(1)?))
}

/// What all of these trust.
fn least(all: impl Iterator<Item = Which>) -> Which {
    let together = |one: Which, other: Which| match (one, other) {
        (Which::New, Which::New) => Which::New,
        (Which::Old, _) | (_, Which::Old) => Which::Old,
        (Which::Both, _) | (_, Which::Both) => Which::Both,
    };
    all.reduce(together).unwrap_or_default()
}

/// What stands in the Secrets that ingesters and egresses mount; none where it says nothing.
async fn published<F>(parts: &Parts<F>) -> Result<[Option<Versions>; 2], Error> {
    let client = parts.service.client();
    let read = async { tokio::try_join!(read(client, parts, INGESTER_KEYS), read(client, parts, EGRESS_KEYS)) };
    let (ingester, egress) = timeout(READ, read).await.map_err(|_| Error::Silent)??;
    Ok([ingester, egress])
}

/// A list of one name needs no right beside that to watch it.
async fn read<F>(client: &Client, parts: &Parts<F>, name: &str) -> Result<Option<Versions>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &parts.namespace);
    let listed = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?;
    let secret = listed.items.into_iter().find(|secret| secret.metadata.name.as_deref() == Some(name));
    let text = secret.and_then(|secret| secret.data?.remove(VERSIONS));
    Ok(text.and_then(|text| Versions::from_json(&text.0).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_trust_is_what_each_does() {
        use Which::{Both, New, Old};
        for (all, expected) in [
            (vec![], Old),
            (vec![Both, Both], Both),
            (vec![New, New], New),
            (vec![Both, New], Both),
            (vec![Both, Old, Both], Old),
            (vec![New, Old], Old),
        ] {
            assert_eq!(least(all.iter().copied()), expected, "{all:?}");
        }
        assert_eq!([vec![1], vec![1, 2], vec![2, 1], vec![2]].map(|all| which(&all, 1, 2)), [Old, Both, Both, New]);
    }
}
