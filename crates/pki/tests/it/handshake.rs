//! Who gets in, and who does not (D-03, T-02, T-05). Every refusal runs through a real handshake.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zen_model::Timestamp;
use zen_pki::{Ca, Identity, KeyPairAndChain, mtls_client, mtls_server, peer_id};

use crate::hostile::issuing_subject;
use crate::support::{HOUR, ca, connect, domain, id, identity, refusal};

#[tokio::test]
async fn the_right_ids_get_in_and_know_each_other() {
    let ca = ca();
    let server = mtls_server(&identity(&ca, "egress"), vec![id("other"), id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured");
    let (client, server) = connect(client, server).await.expect("connected");
    assert_eq!(peer_id(client.get_ref().1.peer_certificates()), Ok(id("egress")));
    assert_eq!(peer_id(server.get_ref().1.peer_certificates()), Ok(id("ingester")));
    assert_eq!(client.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
}

#[tokio::test]
async fn a_wrong_id_is_refused_on_either_side() {
    let ca = ca();
    let (egress, ingester) = (identity(&ca, "egress"), identity(&ca, "ingester"));
    let server = |allowed| mtls_server(&egress, allowed).expect("configured");
    let client = |expected| mtls_client(&ingester, expected).expect("configured");
    let text = refusal(client(id("egress")), server(vec![id("operator")])).await;
    assert!(text.contains("ingester is not allowed here"), "{text}");
    let text = refusal(client(id("egress")), server(vec![])).await;
    assert!(text.contains("not allowed here"), "default deny: {text}");
    let text = refusal(client(id("operator")), server(vec![id("ingester")])).await;
    assert!(text.contains("egress is not allowed here"), "{text}");
}

#[tokio::test]
async fn another_ca_is_refused_on_either_side() {
    let (ours, theirs) = (ca(), ca());
    let server = mtls_server(&identity(&ours, "egress"), vec![id("ingester")]).expect("configured");
    let stranger = identity(&theirs, "ingester");
    let client = mtls_client(&stranger, id("egress")).expect("configured");
    let text = refusal(client, Arc::clone(&server)).await;
    assert!(text.contains("client: invalid peer certificate"), "{text}");
    // The same stranger, who trusts us: now it is our side that refuses.
    stranger.replace_roots(&ours.roots().expect("roots")).expect("replaced");
    let client = mtls_client(&stranger, id("egress")).expect("configured");
    let text = refusal(client, server).await;
    assert!(text.contains("server: invalid peer certificate"), "{text}");
}

#[tokio::test]
async fn time_counts_on_either_side() {
    let ca = ca();
    let now = Timestamp::now();
    let roots = ca.roots().expect("roots");
    let issue = |account, at| {
        let certificate = ca.issue_workload_at(&id(account), at, HOUR).expect("issued");
        Identity::new(&certificate, &roots).expect("an identity")
    };
    let (yesterday, tomorrow) = (Timestamp(now.0 - 86_400_000), Timestamp(now.0 + 86_400_000));
    for (at, word) in [(yesterday, "expired"), (tomorrow, "not valid yet")] {
        let server = mtls_server(&issue("egress", now), vec![id("ingester")]).expect("configured");
        let client = mtls_client(&issue("ingester", at), id("egress")).expect("configured");
        let text = refusal(client, server).await;
        assert!(text.contains("server: ") && text.contains(word), "{text}");
        let server = mtls_server(&issue("egress", at), vec![id("ingester")]).expect("configured");
        let client = mtls_client(&issue("ingester", now), id("egress")).expect("configured");
        let text = refusal(client, server).await;
        assert!(text.contains("client: ") && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let ca = ca();
    let server = mtls_server(&identity(&ca, "egress"), vec![id("ingester")]).expect("configured");
    let mut client = (*mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured")).clone();
    client.client_auth_cert_resolver = Arc::new(Nothing);
    let text = refusal(Arc::new(client), server).await;
    assert!(text.contains("peer sent no certificates"), "{text}");
}

#[tokio::test]
async fn tls_1_2_is_refused_on_either_side() {
    let ca = ca();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = mtls_server(&identity(&ca, "egress"), vec![id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured");
    let old = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("supported")
        .with_root_certificates(ca.roots().expect("roots").store())
        .with_no_client_auth();
    let text = refusal(Arc::new(old), server).await;
    assert!(text.contains("incompatible"), "{text}");
    let old = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("supported")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(identity(&ca, "egress")));
    let text = refusal(client, Arc::new(old)).await;
    assert!(text.contains("incompatible") || text.contains("ProtocolVersion"), "{text}");
}

/// Certificates that the CA of this module signs, and our own would not: each must fail as a client's and as a server's.
#[tokio::test]
async fn certificates_of_another_shape_are_refused() {
    let authority = Authority::new();
    let uri = |account: &str| SanType::URI(id(account).as_str().try_into().expect("ASCII"));
    let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let good = || {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("peer")];
        params.extended_key_usages.clone_from(&both);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params
    };
    authority.peers(good()).await.expect("the good shape, or the others prove nothing");

    let mut two_uris = good();
    two_uris.subject_alt_names.push(uri("other"));
    authority.refuses(two_uris, "has 2 URI names").await;

    let mut no_uri = good();
    no_uri.subject_alt_names = vec![SanType::DnsName("peer".try_into().expect("ASCII"))];
    authority.refuses(no_uri, "has 0 URI names").await;

    let mut no_spiffe = good();
    no_spiffe.subject_alt_names = vec![SanType::URI("https://zen-mesh.local/ns/a".try_into().expect("ASCII"))];
    authority.refuses(no_spiffe, "does not start with spiffe://").await;

    let mut domain = good();
    domain.subject_alt_names = vec![SanType::URI("spiffe://zen-mesh.local".try_into().expect("ASCII"))];
    authority.refuses(domain, "names a trust domain").await;

    let mut authority_as_leaf = good();
    authority_as_leaf.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.refuses(authority_as_leaf, "invalid peer certificate").await;

    let mut signer = good();
    signer.key_usages.push(KeyUsagePurpose::KeyCertSign);
    authority.refuses(signer, "may sign certificates").await;

    let mut agreement = good();
    agreement.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    authority.refuses(agreement, "may not sign handshakes").await;

    let mut other_purpose = good();
    other_purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    authority.refuses(other_purpose, "invalid peer certificate").await;
}

#[tokio::test]
async fn purposes_are_not_mixed() {
    let ca = ca();
    // The intake's certificate, by the same CA: no client certificate, and no workload's.
    let intake = ca.issue_server(&["localhost".to_owned(), "127.0.0.1".to_owned()], HOUR).expect("issued");
    assert!(Identity::new(&intake, &ca.roots().expect("roots")).is_err());
    let server = mtls_server(&identity(&ca, "egress"), vec![id("ingester")]).expect("configured");
    let mut client = (*mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured")).clone();
    client.client_auth_cert_resolver = Arc::new(Fixed(certified(&intake)));
    let text = refusal(Arc::new(client), server).await;
    assert!(text.contains("server: invalid peer certificate"), "{text}");
    // And a client must not take it for the egress.
    let hot = zen_pki::HotCertificate::new(&intake).expect("usable");
    let server = zen_pki::intake_server(&hot).expect("configured");
    let client = mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured");
    let text = refusal(client, server).await;
    assert!(text.contains("has 0 URI names"), "{text}");
}

/// Another session ticket must not stand in for a certificate that is no longer taken.
#[tokio::test]
async fn nothing_is_resumed() {
    let ca = ca();
    let server = mtls_server(&identity(&ca, "egress"), vec![id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured");
    for _ in 0..3 {
        let (client, _server) = connect(Arc::clone(&client), Arc::clone(&server)).await.expect("connected");
        assert_eq!(client.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

/// The hub's issuing CA, beneath a root, that signs any shape.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    issuer_pem: String,
    root_pem: String,
}

impl Authority {
    fn new() -> Self {
        let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
        let ca = root.issue_intermediate(Timestamp::now()).expect("an issuing CA");
        let key = String::from_utf8(ca.key_pem().expose().to_vec()).expect("PEM");
        let mut params = CertificateParams::default();
        params.distinguished_name = issuing_subject("spiffe://zen-mesh.local");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = Issuer::new(params, KeyPair::from_pem(&key).expect("a key"));
        Self { issuer, issuer_pem: ca.certificate_pem().to_owned(), root_pem: root.certificate_pem().to_owned() }
    }

    fn sign(&self, params: &CertificateParams) -> (String, Arc<CertifiedKey>) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let issuer = CertificateDer::from_pem_slice(self.issuer_pem.as_bytes()).expect("a certificate");
        let certified =
            CertifiedKey::from_der(vec![certificate.der().clone(), issuer], private, &provider).expect("usable");
        (certificate.pem() + &self.issuer_pem + &key.serialize_pem(), Arc::new(certified))
    }

    /// The certificate as a client's, then as a server's; our end has a good one.
    async fn peers(&self, params: CertificateParams) -> Result<(), [String; 2]> {
        let own = self.ours();
        let (_, peer) = self.sign(&params);
        let server = mtls_server(&own, vec![id("peer"), id("other")]).expect("configured");
        let client = mtls_client(&own, id("peer")).expect("configured");
        let mut stranger = (*mtls_client(&own, id("own")).expect("configured")).clone();
        stranger.client_auth_cert_resolver = Arc::new(Fixed(Arc::clone(&peer)));
        let as_client = connect(Arc::new(stranger), server).await;
        let mut stranger = (*mtls_server(&own, vec![id("own")]).expect("configured")).clone();
        stranger.cert_resolver = Arc::new(Fixed(peer));
        let as_server = connect(client, Arc::new(stranger)).await;
        match (as_client, as_server) {
            (Ok(_), Ok(_)) => Ok(()),
            (as_client, as_server) => Err([
                as_client.err().unwrap_or_else(|| "taken as a client".to_owned()),
                as_server.err().unwrap_or_else(|| "taken as a server".to_owned()),
            ]),
        }
    }

    async fn refuses(&self, params: CertificateParams, why: &str) {
        for text in self.peers(params).await.expect_err("refused") {
            assert!(text.contains(why), "{why}: {text}");
        }
    }

    fn ours(&self) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id("own").as_str().try_into().expect("ASCII"))];
        let (pem, _) = self.sign(&params);
        let at = pem.find("-----BEGIN PRIVATE KEY").expect("a key");
        let key = zen_model::Secret::new(&pem.as_bytes()[at..]);
        let certificate = KeyPairAndChain::from_pem(&pem[..at], &key).expect("usable");
        Identity::new(&certificate, &zen_pki::TrustRoots::from_pem(&self.root_pem).expect("roots"))
            .expect("an identity")
    }
}

fn certified(certificate: &KeyPairAndChain) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.key().expose().to_vec()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Arc::new(CertifiedKey::from_der(certificate.chain().to_vec(), key, &provider).expect("usable"))
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
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

impl rustls::server::ResolvesServerCert for Fixed {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = ca();
    let issue = || ca.issue_workload(&id("a"), Duration::from_mins(1)).expect("issued");
    let (one, other) = (issue(), issue());
    let pem = |der: &[u8]| KeyPair::try_from(der).expect("a key").serialize_pem();
    let good = KeyPairAndChain::from_pem(one.chain_pem(), &zen_model::Secret::new(pem(one.key().expose())));
    assert_eq!(good.expect("belongs").validity().until.as_secs(), one.validity().until.as_secs());
    let bad = KeyPairAndChain::from_pem(one.chain_pem(), &zen_model::Secret::new(pem(other.key().expose())));
    assert!(bad.is_err());
}
