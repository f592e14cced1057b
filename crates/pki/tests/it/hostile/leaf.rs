//! What stands in a certificate of a workload.

use super::*;

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
