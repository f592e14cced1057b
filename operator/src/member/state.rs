//! What lies in the Secrets of a member, read.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use zen_enroll::{Certificate, Given, Holds, Stamp};
use zen_lock::{Identity, Keyring};
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Ca, Scope, SigningRequest, TrustDomain, TrustRoots};
use zen_seal::cluster::ClusterKey;
use zeroize::Zeroizing;

use super::{AGENT, PENDING};

/// Key of the age identity.
pub(super) const IDENTITY: &str = "identity.txt";
/// Key of what the hub gave.
pub(super) const ANSWER: &str = "agent.json";
/// Keys of a pending issuing CA: what it is for, the request for it, and its private key.
pub(super) const PURPOSE: &str = "purpose.json";
pub(super) const REQUEST: &str = "request.pem";
pub(super) const KEY: &str = "tls.key";

/// All that this cluster has of its hub. One Secret: it is there whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Agent {
    /// Who this cluster is.
    pub(super) cluster: ClusterId,
    /// The hub's, and so this cluster's.
    pub(super) trust_domain: String,
    /// Where the hub is: `https://<host>[:<port>]`.
    pub(super) hub: String,
    /// The bundle that was redeemed last.
    pub(super) stamp: Stamp,
    /// The issuing CA that the hub signed last.
    pub(super) issued: Certificate,
    pub(super) given: Given,
}

impl Agent {
    /// In words why it cannot be used.
    pub(super) fn of(secret: &Secret) -> Result<Self, String> {
        let bytes = entry(secret, ANSWER).ok_or_else(|| format!("Secret {AGENT} has no {ANSWER}"))?;
        // Serde's messages could show a part of a key.
        let agent: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("Secret {AGENT}: {ANSWER} is malformed at line {}", error.line()))?;
        agent.keys().map(|_| agent.clone()).ok_or_else(|| format!("Secret {AGENT}: {ANSWER} has no keys of a cluster"))
    }

    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("strings and numbers are JSON"))
    }

    /// The cluster's keys for the planes, and those for the requests to the hub, the newest first. None: they are none.
    pub(super) fn keys(&self) -> Option<(Vec<ClusterKey>, Vec<ClusterKey>)> {
        let keys = &self.given.keys;
        let falls = keys.is_sorted_by(|newer, older| newer.version > older.version);
        let of = |secret: &zen_enroll::SecretText, version| ClusterKey::given(&secret.0, &self.cluster, version);
        let link: Option<Vec<_>> = keys.iter().map(|keys| of(&keys.link_key, keys.version)).collect();
        let agent: Option<Vec<_>> = keys.iter().map(|keys| of(&keys.agent_key, keys.version)).collect();
        (falls && !keys.is_empty()).then_some(())?;
        Some((link?, agent?))
    }

    /// What the hub is told of it, where it asks. Asked for when all of it is in its place.
    pub(super) fn holds(&self) -> Option<Holds> {
        self.given.root.as_ref()?;
        let roots = zen_pki::certificates(&self.given.roots).into_iter().map(|(root, _)| root).collect();
        let (issuer, _) = zen_pki::certificates(&self.issued.chain).into_iter().next()?;
        Some(Holds { roots, issuer })
    }

    /// Whether the hub wants its issuing CA to be beneath another of the roots (T-04).
    pub(super) fn is_beneath_another(&self, ca: &Ca, now: Timestamp) -> bool {
        let Some(due) = self.given.root.as_deref().and_then(|root| TrustRoots::single(&self.given.roots, root)) else {
            return false;
        };
        // One that is of no root at all, or of another time, is not made better by asking again and again.
        let is_good = || TrustRoots::from_pem(&self.given.roots).is_ok_and(|roots| ca.verify(&roots, now).is_ok());
        ca.verify(&due, now).is_err() && is_good()
    }

    pub(super) fn scope(&self) -> Scope {
        Scope::Cluster(self.cluster.clone())
    }
}

/// The key of an issuing CA that waits for its certificate.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) purpose: Purpose,
    /// PKCS #10, PEM.
    pub(super) request: String,
    /// PKCS #8, PEM.
    pub(super) key: zen_model::Secret,
}

/// What a pending key was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Purpose {
    /// To redeem this bundle.
    Bundle(Stamp),
    /// To take the place of the issuing CA with this certificate chain, whose digest this is.
    Renewal(String),
}

impl Pending {
    /// None for anything that is not whole: a key that is made anew costs nothing.
    pub(super) fn of(secret: &Secret) -> Option<Self> {
        let text = |key| entry(secret, key).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let request = text(REQUEST)?;
        SigningRequest::from_pem(request).ok()?;
        let purpose = serde_json::from_str(text(PURPOSE)?).ok()?;
        Some(Self { purpose, request: request.to_owned(), key: zen_model::Secret::new(text(KEY)?) })
    }

    /// The issuing CA of this key and that certificate, if they belong together and it may be used as this cluster's.
    pub(super) fn with(&self, agent: &Agent, domain: &TrustDomain, now: Timestamp) -> Result<Ca, String> {
        usable(&agent.issued.chain, &self.key, PENDING, agent, domain, now)
    }
}

/// An issuing CA of this cluster that verifies under the roots that the hub gave.
pub(super) fn usable(
    chain: &str,
    key: &zen_model::Secret,
    what: &str,
    agent: &Agent,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Ca, String> {
    let words = |error: zen_pki::Error| error.to_string();
    let ca = Ca::from_pem(chain, key, what, domain, now).map_err(words)?;
    if ca.scope() != Some(&agent.scope()) {
        return Err(format!("{what}: it does not vouch for {}", agent.scope()));
    }
    ca.verify(&TrustRoots::from_pem(&agent.given.roots).map_err(words)?, now).map_err(words)?;
    Ok(ca)
}

/// The keys that bundles are opened with.
pub(super) fn keyring(secret: &Secret) -> Result<Keyring, String> {
    let what = || format!("Secret {}", super::MEMBER);
    let text = entry(secret, IDENTITY).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| format!("{} has no {IDENTITY}", what()))?;
    let keys = Identity::parse_file(text).map_err(|error| format!("{}: {error}", what()))?;
    Ok(Keyring::new(keys))
}

pub(super) fn entry<'a>(secret: &'a Secret, key: &str) -> Option<&'a Vec<u8>> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes)
}
