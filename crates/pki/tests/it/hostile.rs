//! Chains that must not be taken, in the manner of x509-limbo: each differs in one thing from a good one, goes through a real
//! handshake as a client's and as a server's, and has the code that says what is wrong with it (T-02, T-05, D-03).

mod issuer;
mod leaf;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zen_model::reason::PeerReason as R;
use zen_pki::{KeyPairAndChain, Scope, SpiffeId, TrustRoots, mtls_client, mtls_server};

use crate::support::{ca, id, identity, reason};

const HUB: &str = "spiffe://zen-mesh.local";
const EU: &str = "spiffe://zen-mesh.local/tenant/team-a/cluster/eu";
const US: &str = "spiffe://zen-mesh.local/tenant/team-a/cluster/us";
const NAMESAKE: &str = "spiffe://zen-mesh.local/tenant/team-b/cluster/eu";
const STAGING: &str = "spiffe://staging.local";
const DAY: Duration = Duration::from_hours(24);

/// The subject of the issuing CA of everything that begins with `prefix`.
pub fn issuing_subject(prefix: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Zen Mesh issuing CA");
    subject.push(DnType::CustomDnType(vec![2, 5, 4, 13]), prefix);
    subject
}

/// A CA, and those above it up to below the root.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    above: Vec<CertificateDer<'static>>,
}

type Change = fn(&mut CertificateParams);

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn ca_params(subject: DistinguishedName, path_length: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// `from` and `until` in days from now.
fn valid(params: &mut CertificateParams, from: i32, until: i32) {
    let now = std::time::SystemTime::now();
    let at = |days: i32| {
        let distance = DAY * days.unsigned_abs();
        if days < 0 { now - distance } else { now + distance }
    };
    (params.not_before, params.not_after) = (at(from).into(), at(until).into());
}

impl Authority {
    fn root() -> (Self, CertificateDer<'static>) {
        Self::root_named("A root")
    }

    fn root_named(name: &str) -> (Self, CertificateDer<'static>) {
        let params = ca_params(named(name), None);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        (Self { issuer: Issuer::new(params, key), above: Vec::new() }, certificate)
    }

    fn ca(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        let above = std::iter::once(certificate).chain(self.above.iter().cloned()).collect();
        Self { issuer: Issuer::new(params, key), above }
    }

    fn issuing(&self, prefix: &str) -> Self {
        self.ca(ca_params(issuing_subject(prefix), Some(0)))
    }

    fn leaf_with(&self, prefix: &str, change: Change) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("a workload");
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = vec![uri(&format!("{prefix}/ns/n/sa/peer"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Peer { chain: std::iter::once(leaf).chain(self.above.iter().cloned()).collect(), key }
    }

    fn leaf(&self, prefix: &str) -> Peer {
        self.leaf_with(prefix, |_| {})
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// A leaf, and what it brings.
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Peer {
    fn with(mut self, change: impl FnOnce(&mut Vec<CertificateDer<'static>>)) -> Self {
        change(&mut self.chain);
        self
    }

    fn presented(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key).expect("a key");
        // Not `CertifiedKey::from_der`: that already reads the leaf.
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }

    /// What an end with these roots says to it as a client, and as a server.
    async fn judged(&self, roots: &TrustRoots, prefix: &str) -> [Result<(), R>; 2] {
        let own_ca = ca();
        let own = identity(&own_ca, "own");
        let theirs = own_ca.roots().expect("roots");
        own.replace_roots(roots).expect("replaced");
        let expected: SpiffeId = format!("{prefix}/ns/n/sa/peer").parse().expect("an id");
        // The stranger takes anybody: only our end judges.
        let stranger = identity(&own_ca, "stranger");
        stranger.replace_roots(&theirs).expect("replaced");
        let mut client = (*mtls_client(&stranger, id("own")).expect("configured")).clone();
        client.client_auth_cert_resolver = Arc::new(Fixed(self.presented()));
        let server = mtls_server(&own, vec![expected.clone()]).expect("configured");
        let as_client = reason(Arc::new(client), server).await;
        let mut server = (*mtls_server(&stranger, vec![id("own")]).expect("configured")).clone();
        server.cert_resolver = Arc::new(Fixed(self.presented()));
        let as_server = reason(mtls_client(&own, expected).expect("configured"), Arc::new(server)).await;
        [as_client, as_server]
    }
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A row: what it is, the peer, the prefix of the id that would be let in, and what both ends say.
type Row = (&'static str, Peer, &'static str, Result<(), R>);

async fn all(roots: &TrustRoots, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for (what, peer, prefix, expected) in rows {
        let judged = peer.judged(roots, prefix).await;
        if judged != [expected, expected] {
            wrong.push(format!("{what}: {judged:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
