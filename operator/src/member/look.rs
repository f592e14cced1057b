//! From the objects as they are to what is decided from. Pure.

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::Secret;
use zen_enroll::bundle::{self, CLEAR, SEALED};
use zen_enroll::{Opened, Stamp};
use zen_lock::Keyring;
use zen_model::Timestamp;
use zen_model::reason::EnrollRefusal;
use zen_pki::{Ca, Scope, TrustDomain};

use super::RECIPIENT;
use super::decide::{Bundle, Facts, Found, Held, Issuer, PendingKey};
use super::objects::{self, Objects};
use super::state::{self, Agent, Pending, Purpose, entry};
use crate::identity::ISSUER;
use crate::names;

/// What is there, read.
#[derive(Debug)]
pub(super) struct View {
    pub(super) facts: Facts,
    /// The public key that bundles are sealed to; empty while there is none.
    pub(super) recipient: String,
    /// Why the bundle that is there is not used.
    pub(super) refusal: Option<Refusal>,
    /// The bundle, where it is to be redeemed.
    pub(super) opened: Option<Opened>,
    pub(super) pending: Option<Pending>,
    pub(super) agent: Option<Agent>,
    /// The key of the issuing CA in use, where that is the one that the hub gave last.
    pub(super) issuer_key: Option<zen_model::Secret>,
}

/// A bundle is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: EnrollRefusal,
    pub(super) words: String,
}

/// `pins` are the fingerprints of roots that are expected, `held` the bundle that the hub refused and until when it is left
/// alone, `ask_at` when the hub is to be asked again.
pub(super) fn look(
    objects: &Objects,
    domain: &TrustDomain,
    pins: &[String],
    held: Option<&(Stamp, Timestamp)>,
    ask_at: Timestamp,
    now: Timestamp,
) -> View {
    let keys = objects.identity.as_ref().map(state::keyring);
    let recipient = match &keys {
        Some(Ok(keys)) => keys.recipients().first().map(ToString::to_string).unwrap_or_default(),
        _ => String::new(),
    };
    let agent = match objects.agent.as_ref().map(|secret| Agent::of(secret).and_then(|agent| of_domain(agent, domain)))
    {
        None => Found::Missing,
        Some(Err(reason)) => Found::Unusable(reason),
        Some(Ok(agent)) => Found::There(agent),
    };
    let known = match &agent {
        Found::There(agent) => Some(agent),
        Found::Missing | Found::Unusable(_) => None,
    };
    let pins = &expected(pins, known);
    let pending = objects.pending.as_ref().and_then(Pending::of);
    let issuer = issuer(objects.issuer.as_ref(), known, domain);
    let (mut opened, mut refusal) = (None, None);
    let bundle = match (objects.bundle.as_ref(), &keys) {
        (Some(secret), Some(Ok(keys))) => match open(secret, keys, pins, (known, pending.as_ref()), domain, now) {
            Ok(Bundled::Redeemed(stamp)) => Bundle::Open(stamp),
            Ok(Bundled::New(bundle)) => {
                let stamp = bundle.stamp.clone();
                opened = Some(*bundle);
                let until = held.filter(|(held, _)| *held == stamp).map(|(_, until)| *until);
                until.map_or_else(|| Bundle::Open(stamp.clone()), |until| Bundle::Held(stamp.clone(), until))
            }
            Err(refused) => {
                refusal = Some(refused);
                Bundle::Refused
            }
        },
        _ => Bundle::None,
    };
    let facts = Facts {
        identity: match &keys {
            None => Found::Missing,
            Some(Err(reason)) => Found::Unusable(reason.clone()),
            Some(Ok(_)) => Found::There(()),
        },
        is_published: objects::text(objects.recipient.as_ref(), RECIPIENT) == Some(&*recipient),
        bundle,
        pending: pending.as_ref().map(|pending| PendingKey {
            purpose: pending.purpose.clone(),
            is_signed: known.is_some_and(|agent| fits(&agent.issued.chain, &pending.key, domain).is_some()),
        }),
        agent: match &agent {
            Found::Missing => Found::Missing,
            Found::Unusable(reason) => Found::Unusable(reason.clone()),
            Found::There(agent) => Found::There(held_of(agent, &issuer, now)),
        },
        trust_is_current: known
            .is_some_and(|agent| objects::text(objects.trust.as_ref(), names::TRUST_KEY) == Some(&*agent.given.roots)),
        keys_are_current: known
            .and_then(|agent| objects::planes("", agent))
            .is_some_and(|wanted| objects::holds(objects.keys.as_ref(), &wanted)),
        issuer: issuer.state,
        ask_at,
        now,
    };
    let agent = match agent {
        Found::There(agent) => Some(agent),
        Found::Missing | Found::Unusable(_) => None,
    };
    View { facts, recipient, refusal, opened, pending, agent, issuer_key: issuer.ca.map(|ca| ca.key_pem()) }
}

/// Who is enrolled expects also the roots that its hub has told it of over a channel that the ones before vouched for: after an
/// exchange of the root (T-04) the next bundle is beneath a root that nobody has written down here. No pins: any root.
fn expected(pins: &[String], agent: Option<&Agent>) -> Vec<String> {
    let told = agent.filter(|_| !pins.is_empty()).and_then(|agent| bundle::fingerprints(&agent.given.roots).ok());
    pins.iter().cloned().chain(told.unwrap_or_default()).collect()
}

fn of_domain(agent: Agent, domain: &TrustDomain) -> Result<Agent, String> {
    if agent.trust_domain == domain.as_str() {
        return Ok(agent);
    }
    Err(format!(
        "this cluster is enrolled in the trust domain {}, and mesh.trustDomain is {domain}",
        agent.trust_domain
    ))
}

/// A bundle that may be used.
enum Bundled {
    /// It was, and nothing is left to do about it: it may have ended since.
    Redeemed(Stamp),
    New(Box<Opened>),
}

fn open(
    secret: &Secret,
    keys: &Keyring,
    pins: &[String],
    (agent, pending): (Option<&Agent>, Option<&Pending>),
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Bundled, Refusal> {
    let text = |key| entry(secret, key).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let refused = |error: zen_enroll::OpenError| Refusal { reason: error.reason(), words: error.to_string() };
    let bundle = zen_enroll::Bundle::from_data(text(CLEAR), text(SEALED)).map_err(refused)?;
    let stamp = bundle.clear().stamp();
    if agent.is_some_and(|agent| agent.stamp == stamp) {
        return Ok(Bundled::Redeemed(stamp));
    }
    // One that this member began to redeem may have ended while it could not go on: the hub decides what becomes of it.
    let is_begun = pending.is_some_and(|pending| pending.purpose == Purpose::Bundle(stamp.clone()));
    let at = if is_begun { bundle.clear().issued_at() } else { now };
    let opened = bundle.open(keys, pins, at).map_err(refused)?;
    if opened.clear.trust_domain != domain.as_str() {
        let words = format!(
            "the bundle is of the trust domain {}, and mesh.trustDomain of this cluster is {domain}",
            opened.clear.trust_domain
        );
        return Err(Refusal { reason: EnrollRefusal::WrongHub, words });
    }
    Ok(Bundled::New(Box::new(opened)))
}

struct InUse {
    state: Issuer,
    /// Where it is the one that the hub gave last.
    ca: Option<Ca>,
}

fn issuer(secret: Option<&Secret>, agent: Option<&Agent>, domain: &TrustDomain) -> InUse {
    let of = |state| InUse { state, ca: None };
    let Some(secret) = secret else { return of(Issuer::Missing) };
    let text = |key| entry(secret, key).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let (chain, key) = (text("tls.crt"), zen_model::Secret::new(text("tls.key")));
    match fits(chain, &key, domain) {
        Some(ca) if !matches!(ca.scope(), Some(Scope::Cluster(_))) => of(Issuer::Foreign),
        Some(ca) if agent.is_some_and(|agent| agent.issued.chain == chain && ca.scope() == Some(&agent.scope())) => {
            InUse { state: Issuer::Current, ca: Some(ca) }
        }
        _ => of(Issuer::Other),
    }
}

/// The issuing CA of this chain and key, whatever the time is.
fn fits(chain: &str, key: &zen_model::Secret, domain: &TrustDomain) -> Option<Ca> {
    Ca::from_pem(chain, key, ISSUER, domain, Timestamp(0)).ok()
}

fn held_of(agent: &Agent, issuer: &InUse, now: Timestamp) -> Held {
    let until = agent.issued.not_after;
    // Without the key there is nothing to renew with.
    let renew_at = issuer
        .ca
        .as_ref()
        .map_or(until, |ca| if agent.is_beneath_another(ca, now) { Timestamp(0) } else { ca.validity().renew_at() });
    let chain = hex::encode(digest(&SHA256, agent.issued.chain.as_bytes()).as_ref());
    Held { stamp: agent.stamp.clone(), issued: chain, renew_at, until }
}
