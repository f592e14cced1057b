//! Chains that must not be taken, in the manner of x509-limbo: each differs in one thing from a good one, goes through a real
//! handshake as a client's and as a server's, and has the code that says what is wrong with it (T-02, T-05, D-03).

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

#[tokio::test]
async fn the_issuer_must_be_the_one_that_the_id_calls_for() {
    let (root, anchor) = Authority::root();
    let roots = TrustRoots::from_der(std::slice::from_ref(&anchor)).expect("roots");
    let (hub, eu) = (root.issuing(HUB), root.issuing(EU));
    let organisation = root.ca(ca_params(named("An organisation's"), None));
    let (stranger, _) = Authority::root();
    let (other_root, _) = Authority::root_named("Another root");
    let unscoped = root.ca(ca_params(named("Zen Mesh issuing CA"), Some(0)));
    let same_name = root.issuing(EU);
    let without_above = || Authority { issuer: root.ca(ca_params(named("x"), None)).issuer, above: Vec::new() };
    all(
        &roots,
        vec![
            ("a workload of the hub", hub.leaf(HUB), HUB, Ok(())),
            ("a workload of a member", eu.leaf(EU), EU, Ok(())),
            ("beneath an organisation's CA", organisation.issuing(EU).leaf(EU), EU, Ok(())),
            ("an issuing CA of a release before scopes", unscoped.leaf(HUB), HUB, Ok(())),
            ("two issuing CAs of one scope, around a renewal", same_name.leaf(EU), EU, Ok(())),
            ("straight from the root", root.leaf(HUB), HUB, Err(R::IssuerMissing)),
            ("without its issuing CA", eu.leaf(EU).with(|chain| chain.truncate(1)), EU, Err(R::IssuerMissing)),
            (
                "from the root, with the root",
                root.leaf(HUB).with(|chain| chain.push(anchor.clone())),
                HUB,
                Err(R::IssuerUnfit),
            ),
            ("a member's, by the hub's", hub.leaf(EU), EU, Err(R::IssuerForeign)),
            ("the hub's, by a member's", eu.leaf(HUB), HUB, Err(R::IssuerForeign)),
            ("a sibling's", eu.leaf(US), US, Err(R::IssuerForeign)),
            ("another tenant's cluster of the same name", eu.leaf(NAMESAKE), NAMESAKE, Err(R::IssuerForeign)),
            ("another trust domain's", root.issuing(STAGING).leaf(HUB), HUB, Err(R::IssuerForeign)),
            ("a member's, by one before scopes", unscoped.leaf(EU), EU, Err(R::IssuerForeign)),
            (
                "a member's, under the certificate of the right issuing CA",
                hub.leaf(EU).with(|chain| chain[1] = eu.above[0].clone()),
                EU,
                Err(R::IssuerForeign),
            ),
            (
                "by another key of the right name",
                stranger.issuing(EU).leaf(EU).with(|chain| chain[1] = eu.above[0].clone()),
                EU,
                Err(R::SignatureWrong),
            ),
            ("by another root's", other_root.issuing(EU).leaf(EU), EU, Err(R::IssuerUnknown)),
            ("by another root's of the same name", stranger.issuing(EU).leaf(EU), EU, Err(R::SignatureWrong)),
            ("by nobody's", without_above().issuing(EU).leaf(EU), EU, Err(R::IssuerUnknown)),
            ("by one that an issuing CA made", hub.issuing(EU).leaf(EU), EU, Err(R::IssuerUnfit)),
            (
                "by one that a leaf's key made",
                {
                    let between = eu.ca(ca_params(named("between"), None));
                    between.issuing(NAMESAKE).leaf(NAMESAKE)
                },
                NAMESAKE,
                Err(R::IssuerUnfit),
            ),
            (
                "the same without what gives it away",
                eu.ca(ca_params(named("between"), None))
                    .issuing(NAMESAKE)
                    .leaf(NAMESAKE)
                    .with(|chain| chain.truncate(3)),
                NAMESAKE,
                Err(R::IssuerUnknown),
            ),
            (
                "in another order",
                organisation.issuing(EU).leaf(EU).with(|chain| chain.swap(1, 2)),
                EU,
                Err(R::IssuerUnfit),
            ),
            (
                "more than a chain has",
                eu.leaf(EU).with(|chain| chain.extend(vec![anchor.clone(); 4])),
                EU,
                Err(R::ChainTooLong),
            ),
            (
                "rubbish above it",
                eu.leaf(EU).with(|chain| chain[1] = b"rubbish".to_vec().into()),
                EU,
                Err(R::CertificateUnreadable),
            ),
            ("somebody else's good one", eu.leaf(EU), US, Err(R::PeerNotAllowed)),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_issuing_ca_must_be_one() {
    let (root, anchor) = Authority::root();
    let roots = TrustRoots::from_der(&[anchor]).expect("roots");
    let made = |change: Change| {
        let mut params = ca_params(issuing_subject(EU), Some(0));
        change(&mut params);
        root.ca(params).leaf(EU)
    };
    all(
        &roots,
        vec![
            ("as it is due", made(|_| {}), EU, Ok(())),
            (
                "no path length",
                made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
                EU,
                Err(R::IssuerUnfit),
            ),
            (
                "path length 1",
                made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
                EU,
                Err(R::IssuerUnfit),
            ),
            ("no CA", made(|params| params.is_ca = IsCa::ExplicitNoCa), EU, Err(R::IssuerUnfit)),
            ("not said whether a CA", made(|params| params.is_ca = IsCa::NoCa), EU, Err(R::IssuerUnfit)),
            (
                "a key for something else",
                made(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
                EU,
                Err(R::IssuerUnfit),
            ),
            ("a key for anything", made(|params| params.key_usages.clear()), EU, Err(R::IssuerUnfit)),
            (
                "for another purpose",
                made(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
                EU,
                Err(R::CertificatePurpose),
            ),
            ("ended", made(|params| valid(params, -9, -1)), EU, Err(R::CertificateExpired)),
            ("of the future", made(|params| valid(params, 1, 9)), EU, Err(R::CertificateNotYetValid)),
            (
                "an attribute more",
                made(|params| params.distinguished_name.push(DnType::OrganizationName, "x")),
                EU,
                Err(R::IssuerUnfit),
            ),
        ],
    )
    .await;
    // A root that calls itself an issuing CA anchors no leaf either.
    let key = KeyPair::generate().expect("a key");
    let params = ca_params(issuing_subject(EU), Some(0));
    let own = params.self_signed(&key).expect("signed").der().clone();
    let roots = TrustRoots::from_der(std::slice::from_ref(&own)).expect("roots");
    let authority = Authority { issuer: Issuer::new(params, key), above: vec![own] };
    all(&roots, vec![("a root of an issuing CA's name", authority.leaf(EU), EU, Err(R::IssuerUnfit))]).await;
}

#[tokio::test]
async fn a_leaf_must_name_a_workload_and_nothing_else() {
    let (root, anchor) = Authority::root();
    let roots = TrustRoots::from_der(&[anchor]).expect("roots");
    let eu = root.issuing(EU);
    let made = |change: Change| eu.leaf_with(EU, change);
    all(
        &roots,
        vec![
            ("as it is due", made(|_| {}), EU, Ok(())),
            (
                "a DNS name beside its id",
                made(|params| {
                    params.subject_alt_names.push(SanType::DnsName("peer.example".try_into().expect("ASCII")));
                }),
                EU,
                Err(R::CertificateNames),
            ),
            (
                "an address beside its id",
                made(|params| params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()))),
                EU,
                Err(R::CertificateNames),
            ),
            (
                "a mail address beside its id",
                made(|params| {
                    params.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().expect("ASCII")));
                }),
                EU,
                Err(R::CertificateNames),
            ),
            (
                "another id beside its own",
                made(|params| params.subject_alt_names.push(uri(&format!("{HUB}/ns/n/sa/peer")))),
                EU,
                Err(R::CertificateNames),
            ),
            ("no name", made(|params| params.subject_alt_names.clear()), EU, Err(R::CertificateNames)),
            (
                "a name that is no id",
                made(|params| params.subject_alt_names = vec![uri("https://zen-mesh.local/ns/n/sa/peer")]),
                EU,
                Err(R::IdInvalid),
            ),
            (
                "an id with a query",
                made(|params| params.subject_alt_names = vec![uri(&format!("{EU}/ns/n/sa/peer?x"))]),
                EU,
                Err(R::IdInvalid),
            ),
            (
                "the trust domain itself",
                made(|params| params.subject_alt_names = vec![uri(HUB)]),
                EU,
                Err(R::CertificateNotWorkload),
            ),
            (
                "the cluster itself",
                made(|params| params.subject_alt_names = vec![uri(EU)]),
                EU,
                Err(R::CertificateNotWorkload),
            ),
            (
                "an id deeper than a workload's",
                made(|params| params.subject_alt_names = vec![uri(&format!("{EU}/ns/n/sa/peer/x"))]),
                EU,
                Err(R::CertificateNotWorkload),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_leaf_must_be_for_both_ends_and_for_now() {
    let (root, anchor) = Authority::root();
    let roots = TrustRoots::from_der(&[anchor]).expect("roots");
    let eu = root.issuing(EU);
    let made = |change: Change| eu.leaf_with(EU, change);
    all(
        &roots,
        vec![
            (
                "a CA",
                made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
                EU,
                Err(R::CertificateNotWorkload),
            ),
            (
                "a key that may sign certificates",
                made(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
                EU,
                Err(R::CertificateNotWorkload),
            ),
            (
                "a key that may not sign handshakes",
                made(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
                EU,
                Err(R::CertificateNotWorkload),
            ),
            (
                "for another purpose",
                made(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
                EU,
                Err(R::CertificatePurpose),
            ),
            ("ended", made(|params| valid(params, -9, -1)), EU, Err(R::CertificateExpired)),
            ("of the future", made(|params| valid(params, 1, 9)), EU, Err(R::CertificateNotYetValid)),
            (
                "something critical that nobody knows",
                made(|params| {
                    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                    extension.set_criticality(true);
                    params.custom_extensions.push(extension);
                }),
                EU,
                Err(R::ChainInvalid),
            ),
            (
                "rubbish",
                made(|_| {}).with(|chain| chain[0] = b"rubbish".to_vec().into()),
                EU,
                Err(R::CertificateUnreadable),
            ),
            (
                "bytes after it",
                made(|_| {}).with(|chain| {
                    let mut longer = chain[0].to_vec();
                    longer.push(0);
                    chain[0] = longer.into();
                }),
                EU,
                Err(R::CertificateUnreadable),
            ),
        ],
    )
    .await;
    // One end of a connection each: good for that end alone.
    let client = made(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(client.judged(&roots, EU).await, [Ok(()), Err(R::CertificatePurpose)]);
    let server = made(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(server.judged(&roots, EU).await, [Err(R::CertificatePurpose), Ok(())]);
}

/// T-03: an issuer that is not ours has its own subject; it is trusted by itself, for one scope.
#[tokio::test]
async fn a_pinned_issuer_is_the_only_one_of_its_scope() {
    let (root, anchor) = Authority::root();
    let (corporate, _) = Authority::root();
    let make = |change: Change| {
        let mut params = ca_params(named("cert-manager's"), None);
        change(&mut params);
        corporate.ca(params)
    };
    let (pinned, next, other) = (make(|_| {}), make(|_| {}), make(|_| {}));
    let ended = make(|params| valid(params, -9, -1));
    let early = make(|params| valid(params, 1, 9));
    let eu = Scope::Cluster("team-a/eu".parse().expect("a cluster"));
    let roots = TrustRoots::from_der(&[anchor]).expect("roots");
    let certificates = [&pinned, &next].map(|authority| authority.above[0].clone());
    let pin = |scope: &Scope, certificates: &[CertificateDer<'_>]| {
        roots.clone().pin(scope.clone(), certificates).expect("pinned")
    };
    let both = pin(&eu, &certificates);
    all(
        &both,
        vec![
            ("the one", pinned.leaf(EU), EU, Ok(())),
            ("the next, in the overlap", next.leaf(EU), EU, Ok(())),
            ("the one, without itself in the chain", pinned.leaf(EU).with(|chain| chain.truncate(1)), EU, Ok(())),
            ("one of the same name", other.leaf(EU), EU, Err(R::SignatureWrong)),
            ("our own, where another is pinned", root.issuing(EU).leaf(EU), EU, Err(R::IssuerUnknown)),
            ("for another scope", pinned.leaf(US), US, Err(R::IssuerUnfit)),
            ("our own elsewhere", root.issuing(US).leaf(US), US, Ok(())),
            (
                "beneath it, by a CA that it made",
                pinned.ca(ca_params(named("between"), None)).leaf(EU),
                EU,
                Err(R::IssuerUnknown),
            ),
        ],
    )
    .await;
    let times = pin(&eu, &[ended.above[0].clone(), early.above[0].clone()]);
    all(
        &times,
        vec![
            ("an issuer that ended", ended.leaf(EU), EU, Err(R::CertificateExpired)),
            ("an issuer of the future", early.leaf(EU), EU, Err(R::CertificateNotYetValid)),
        ],
    )
    .await;
    all(&pin(&eu, &[]), vec![("no issuer at all", pinned.leaf(EU), EU, Err(R::IssuerUnknown))]).await;
    let leaf = pinned.leaf(EU).chain[0].clone();
    assert!(roots.clone().pin(eu, &[leaf]).is_err(), "a leaf is no issuer");
}

/// What a pod takes for its own is what its peers would take.
#[test]
fn a_certificate_is_verified_as_peers_would() {
    let (root, anchor) = Authority::root();
    let roots = TrustRoots::from_der(&[anchor]).expect("roots");
    let now = zen_model::Timestamp::now();
    let pair = |peer: &Peer| {
        let pem: String = peer.chain.iter().map(|der| pem(der)).collect();
        KeyPairAndChain::from_pem(&pem, &zen_model::Secret::new(peer.key.serialize_pem())).expect("usable")
    };
    pair(&root.issuing(EU).leaf(EU)).verify(&roots, now).expect("verifies");
    let foreign = pair(&root.issuing(US).leaf(EU));
    let Err(zen_pki::Error::Tls(error)) = foreign.verify(&roots, now) else { panic!("refused by TLS") };
    assert!(matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(_))), "{error}");
    assert_eq!(zen_pki::refusal_reason(&error), Some(R::IssuerForeign));
    let one_end = root.issuing(EU).leaf_with(EU, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(pair(&one_end).verify(&roots, now).is_err(), "a workload needs both ends");
}

fn pem(der: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
