//! Signing requests come from outside: exactly what is due is signed, everything else refused (T-02).

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use zen_model::Timestamp;
use zen_pki::{Ca, CsrRefused, KeyPairAndChain, Names, SignError, SigningRequest, signing_request};

use crate::support::{HOUR, domain, id};

fn due() -> Names {
    Names::Workload(id("zen-egress"))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id("zen-egress").as_str())];
    params
}

fn issuer() -> Ca {
    Ca::new_root(&domain(), Timestamp::now()).and_then(|root| root.issue_intermediate(Timestamp::now())).expect("a CA")
}

fn pem(params: &CertificateParams, key: &KeyPair) -> String {
    params.serialize_request(key).expect("a request").pem().expect("PEM")
}

fn refused(params: &CertificateParams) -> CsrRefused {
    let pem = pem(params, &KeyPair::generate().expect("a key"));
    SigningRequest::from_pem(&pem).and_then(|request| request.check(&due())).expect_err("refused")
}

#[test]
fn our_own_request_is_signed_and_nothing_of_it_but_the_key_is_copied() {
    let issuer = issuer();
    let (pem, key) = signing_request(&due()).expect("a request");
    let request = SigningRequest::from_pem(&pem).expect("readable");
    let now = Timestamp::now();
    let signed = issuer.sign_csr(&request, &due(), now, HOUR).expect("signed");
    let pair = KeyPairAndChain::from_pem(&signed.chain_pem, &key).expect("belongs to the key");
    assert_eq!(pair.names(), Some(due()));
    assert_eq!((signed.validity.until, pair.chain().len()), (now.plus(HOUR), 2));
    let (_, leaf) = x509_parser::parse_x509_certificate(&pair.chain()[0]).expect("a certificate");
    assert_eq!(format!("{:x}", leaf.serial), signed.serial);
    assert!(leaf.extended_key_usage().expect("one").expect("there").value.client_auth);
    // The same request again: another serial number.
    assert_ne!(issuer.sign_csr(&request, &due(), now, HOUR).expect("signed").serial, signed.serial);
}

#[test]
fn a_subject_is_not_copied() {
    let mut params = good();
    params.distinguished_name.push(DnType::CommonName, "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-operator");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let pem = pem(&params, &KeyPair::generate().expect("a key"));
    let request = SigningRequest::from_pem(&pem).expect("readable");
    let signed = issuer().sign_csr(&request, &due(), Timestamp::now(), HOUR).expect("signed");
    let der = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
        signed.chain_pem.as_bytes(),
    );
    let der = der.expect("a certificate");
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    assert_eq!(leaf.subject().to_string(), "CN=Zen Mesh workload");
    let names: Vec<_> = leaf
        .iter_extensions()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(names, [GeneralName::URI(id("zen-egress").as_str())]);
}

#[test]
fn serving_names_are_a_set_and_exact() {
    let due = Names::Server(["a.example", "b.example"].map(str::to_owned).into());
    let ask = |names: &[&str]| {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| SanType::DnsName((*name).try_into().expect("ASCII"))).collect();
        let pem = pem(&params, &KeyPair::generate().expect("a key"));
        SigningRequest::from_pem(&pem).and_then(|request| request.check(&due))
    };
    assert_eq!(ask(&["a.example", "b.example"]), Ok(()));
    assert_eq!(ask(&["b.example", "a.example"]), Ok(()));
    for other in [
        &["a.example"][..],
        &["a.example", "b.example", "c.example"],
        &["a.example", "a.example"],
        &["a.example", "a.example", "b.example"],
        &["A.example", "b.example"],
        &["a.example", "*.example"],
        &[],
    ] {
        assert_eq!(ask(other), Err(CsrRefused::NamesDiffer), "{other:?}");
    }
    let empty = Names::Server([].into());
    let pem = pem(&CertificateParams::default(), &KeyPair::generate().expect("a key"));
    let nothing = SigningRequest::from_pem(&pem).expect("readable");
    assert_eq!(nothing.check(&empty), Err(CsrRefused::NamesDiffer), "a certificate of nobody");
}

#[test]
fn other_names_are_refused() {
    let with = |names: Vec<SanType>| {
        let mut params = good();
        params.subject_alt_names = names;
        params
    };
    let own = || uri(id("zen-egress").as_str());
    for names in [
        vec![],
        vec![uri(id("zen-operator").as_str())],
        vec![own(), uri(id("zen-operator").as_str())],
        vec![own(), own()],
        vec![own(), SanType::DnsName("zen-operator.zen-mesh.svc".try_into().expect("ASCII"))],
        vec![own(), SanType::IpAddress("127.0.0.1".parse().expect("an address"))],
        vec![own(), SanType::Rfc822Name("a@b.example".try_into().expect("ASCII"))],
        vec![uri("spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-egress/")],
        vec![uri("SPIFFE://zen-mesh.local/ns/zen-mesh/sa/zen-egress")],
        vec![SanType::DnsName("zen-egress".try_into().expect("ASCII"))],
    ] {
        assert_eq!(refused(&with(names.clone())), CsrRefused::NamesDiffer, "{names:?}");
    }
}

#[test]
fn other_extensions_and_attributes_are_refused() {
    let mut ca = good();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut signer = good();
    signer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut purpose = good();
    purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let mut odd = good();
    odd.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
    for params in [ca, signer, purpose, odd] {
        assert_eq!(refused(&params), CsrRefused::AsksTooMuch);
    }
    // A challenge password (RFC 2985, 5.4.1) beside the names.
    let password = rcgen::Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 7],
        values: vec![0x31, 0x05, 0x0c, 0x03, b'a', b'b', b'c'],
    };
    let key = KeyPair::generate().expect("a key");
    let request = good().serialize_request_with_attributes(&key, vec![password]).expect("a request");
    assert_eq!(SigningRequest::from_der(request.der()).expect_err("refused"), CsrRefused::AsksTooMuch);
}

#[test]
fn other_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let error = SigningRequest::from_pem(&pem(&good(), &key)).expect_err("refused");
        assert_eq!(error, CsrRefused::KeyNotSupported);
    }
}

#[test]
fn possession_is_proven() {
    let (one, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut der = good().serialize_request(&one).expect("a request").der().to_vec();
    let theirs = good().serialize_request(&other).expect("a request").der().to_vec();
    // Another key's public half in a request that this key signed.
    let point = |der: &[u8], key: &KeyPair| {
        let raw = key.public_key_raw();
        der.windows(raw.len()).position(|window| window == raw).expect("the key is in it")
    };
    let at = point(&der, &one);
    der[at..at + 65].copy_from_slice(other.public_key_raw());
    assert_eq!(SigningRequest::from_der(&der).expect_err("refused"), CsrRefused::NotProven);
    assert!(SigningRequest::from_der(&theirs).is_ok());
    // One bit of a name.
    let mut der = theirs.clone();
    let name = b"zen-egress";
    let at = der.windows(name.len()).position(|window| window == name).expect("the name is in it");
    der[at] ^= 1;
    assert_eq!(SigningRequest::from_der(&der).expect_err("refused"), CsrRefused::NotProven);
}

#[test]
fn malformed_texts_are_refused() {
    let key = KeyPair::generate().expect("a key");
    let good = pem(&good(), &key);
    let certificate = CertificateParams::default().self_signed(&key).expect("signed").pem();
    for text in [
        String::new(),
        "hello".to_owned(),
        certificate,
        key.serialize_pem(),
        format!("{good}{good}"),
        good.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        format!("{good}{}", " ".repeat(24 << 10)),
        good[..good.len() - 60].to_owned(),
    ] {
        let error = SigningRequest::from_pem(&text).expect_err("refused");
        assert!(matches!(error, CsrRefused::Malformed(_)), "{error}: {text}");
    }
    let (text, _) = signing_request(&due()).expect("a request");
    let mut der =
        <rustls_pki_types::CertificateSigningRequestDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            text.as_bytes(),
        )
        .expect("a request")
        .to_vec();
    der.push(0);
    assert!(matches!(SigningRequest::from_der(&der), Err(CsrRefused::Malformed(_))));
}

#[test]
fn a_foreign_domain_is_not_signed_even_where_it_was_due() {
    let foreign = Names::Workload("spiffe://other.local/ns/a/sa/b".parse().expect("valid"));
    let (pem, _) = signing_request(&foreign).expect("a request");
    let request = SigningRequest::from_pem(&pem).expect("readable");
    let error = issuer().sign_csr(&request, &foreign, Timestamp::now(), HOUR).expect_err("refused");
    assert!(matches!(error, SignError::Ca(zen_pki::Error::Foreign { .. })), "{error}");
}

#[test]
fn refusals_show_nothing_of_the_request() {
    let text = "-----BEGIN CERTIFICATE REQUEST-----\nTUFSS0VS\n-----END CERTIFICATE REQUEST-----\n";
    let error = SigningRequest::from_pem(text).expect_err("refused");
    assert!(!format!("{error} {error:?}").contains("MARKER"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        prop_assert!(SigningRequest::from_der(&bytes).is_err());
        prop_assert!(SigningRequest::from_pem(&String::from_utf8_lossy(&bytes)).is_err());
    }

    /// A good request with bytes changed is refused, or asks for what it asked for before.
    #[test]
    fn damage_is_refused(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let request = good().serialize_request(&KeyPair::generate().expect("a key")).expect("a request");
        let mut der = request.der().to_vec();
        for (at, byte) in damage {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if let Ok(request) = SigningRequest::from_der(&der) {
            prop_assert_eq!(request.check(&due()), Ok(()));
        }
    }
}
