//! Whose signature stands beneath a certificate.

use super::*;

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
