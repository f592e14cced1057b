//! A root, an issuing CA beneath it, and leaves of both kinds (T-02, T-03): what verifies, and what must not.

use std::sync::Arc;
use std::time::Duration;

use zen_model::{Secret, Timestamp};
use zen_pki::{
    Ca, CsrRefused, Error, Identity, KeyPairAndChain, Names, Scope, SignError, SigningRequest, SpiffeId, TrustRoots,
    issuer_request, mtls_client, mtls_server, mtls_server_by,
};

use crate::support::{HOUR, connect, domain, id, refusal};

const DAY: Duration = Duration::from_hours(24);

fn root() -> Ca {
    Ca::new_root(&domain(), Timestamp::now()).expect("a root")
}

fn issuing(root: &Ca) -> Ca {
    root.issue_intermediate(Timestamp::now()).expect("an issuing CA")
}

fn identity(issuer: &Ca, root: &Ca, account: &str) -> Identity {
    let leaf = issuer.issue_workload(&id(account), HOUR).expect("issued");
    Identity::new(&leaf, &root.roots().expect("roots")).expect("an identity")
}

#[tokio::test]
async fn a_handshake_with_an_issuing_ca_between() {
    let root = root();
    let (one, other) = (issuing(&root), issuing(&root));
    // Two issuing CAs with one name and two keys, as around a renewal: each leaf brings its own.
    let server = mtls_server(&identity(&one, &root, "egress"), vec![id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&other, &root, "ingester"), id("egress")).expect("configured");
    connect(client, server).await.expect("connected");
    // As under `zen up`: what a root is asked for, an issuing CA in memory signs.
    let server = mtls_server(&identity(&root, &root, "egress"), vec![id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&one, &root, "ingester"), id("egress")).expect("configured");
    connect(client, server).await.expect("connected");
}

#[tokio::test]
async fn an_issuing_ca_of_another_root_is_refused() {
    let (ours, theirs) = (root(), root());
    let server = mtls_server(&identity(&issuing(&ours), &ours, "egress"), vec![id("ingester")]).expect("configured");
    let stranger = identity(&issuing(&theirs), &ours, "ingester");
    let text = refusal(mtls_client(&stranger, id("egress")).expect("configured"), server).await;
    assert!(text.contains("server: invalid peer certificate"), "{text}");
}

#[test]
fn what_verifies_when() {
    let now = Timestamp::now();
    let root = Ca::new_root(&domain(), now).expect("a root");
    let issuer = root.issue_intermediate(now).expect("an issuing CA");
    let roots = root.roots().expect("roots");
    let leaf = issuer.issue_workload_at(&id("a"), now, HOUR).expect("issued");
    for (at, good) in [
        (now, true),
        (Timestamp(now.0 - 4 * 60_000), true),
        (Timestamp(now.0 - 6 * 60_000), false),
        (now.plus(Duration::from_mins(59)), true),
        (now.plus(Duration::from_mins(61)), false),
    ] {
        assert_eq!(leaf.verify(&roots, at).is_ok(), good, "{at}");
    }
    assert!(leaf.verify(&self::root().roots().expect("roots"), now).is_err(), "another root");
    // Without its issuer nothing connects the leaf to the root.
    let bare = leaf.chain_pem().split_inclusive("-----END CERTIFICATE-----\n").next().expect("a leaf");
    let bare = KeyPairAndChain::from_pem(bare, &key_pem(&leaf)).expect("usable");
    assert!(bare.verify(&roots, now).is_err());
    assert!(issuer.verify(&roots, now).is_ok());
    assert!(issuer.verify(&self::root().roots().expect("roots"), now).is_err());
}

#[test]
fn nothing_outlives_its_issuer_and_nothing_is_signed_after_its_end() {
    let now = Timestamp::now();
    let root = Ca::new_root(&domain(), now).expect("a root");
    assert_eq!(root.validity().until, now.plus(3650 * DAY));
    let issuer = root.issue_intermediate(now).expect("an issuing CA");
    assert_eq!(issuer.validity().until, now.plus(90 * DAY));
    assert_eq!(issuer.validity().renew_at(), now.plus(60 * DAY));
    let leaf =
        issuer.issue_workload_at(&id("a"), now.plus(Duration::from_mins(90 * 24 * 60 - 10)), HOUR).expect("issued");
    assert_eq!(leaf.validity().until, issuer.validity().until);
    let late = issuer.issue_workload_at(&id("a"), now.plus(91 * DAY), HOUR).expect_err("too late");
    assert!(matches!(late, Error::Expired { .. }), "{late}");
    let last = root.issue_intermediate(now.plus(3649 * DAY)).expect("an issuing CA");
    assert_eq!(last.validity().until, root.validity().until);
}

#[test]
fn an_issuing_ca_makes_no_other_and_a_leaf_none_at_all() {
    let root = root();
    let issuer = issuing(&root);
    assert!(issuer.issue_intermediate(Timestamp::now()).is_err());
    let leaf = issuer.issue_workload(&id("a"), HOUR).expect("issued");
    let error = load(leaf.chain_pem(), &key_pem(&leaf)).expect_err("a leaf is no CA").to_string();
    assert!(error.contains("may not sign certificates"), "{error}");
}

fn load(pem: &str, key: &Secret) -> Result<Ca, Error> {
    Ca::from_pem(pem, key, "Secret zen-mesh/zen-mesh-ca", &domain(), Timestamp::now())
}

fn key_pem(leaf: &KeyPairAndChain) -> Secret {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("leaf.pem");
    leaf.store(&path).expect("stored");
    let text = std::fs::read_to_string(&path).expect("read");
    Secret::new(&text[..text.find("-----BEGIN CERTIFICATE").expect("a chain")])
}

#[test]
fn both_levels_come_back_from_their_texts() {
    let root = root();
    let again = load(root.certificate_pem(), &root.key_pem()).expect("loaded");
    let issuer = again.issue_intermediate(Timestamp::now()).expect("an issuing CA");
    let again = load(issuer.certificate_pem(), &issuer.key_pem()).expect("loaded");
    assert_eq!(again.validity().until.as_secs(), issuer.validity().until.as_secs());
    let leaf = again.issue_workload(&id("a"), HOUR).expect("issued");
    leaf.verify(&root.roots().expect("roots"), Timestamp::now()).expect("verifies");
    assert_eq!(leaf.chain().len(), 2);
}

#[test]
fn a_ca_that_could_not_sign_is_refused_in_words() {
    let (one, other) = (root(), root());
    for (pem, key, word) in [
        ("", one.key_pem(), "not a certificate in PEM"),
        ("hello", one.key_pem(), "not a certificate in PEM"),
        (one.certificate_pem(), other.key_pem(), "belongs to another certificate"),
        (one.certificate_pem(), Secret::new("MARKER"), "not an ECDSA P-256 or P-384 key"),
    ] {
        let error = load(pem, &key).expect_err("refused").to_string();
        assert!(error.contains(word) && error.contains("zen-mesh-ca") && !error.contains("MARKER"), "{error}");
    }
    let old = Ca::new_root(&domain(), Timestamp(0)).expect("a root");
    let error = load(old.certificate_pem(), &old.key_pem()).expect_err("expired");
    assert!(matches!(error, Error::Expired { .. }), "{error}");
}

/// An organisation's own CA: another subject, other attributes, P-384.
#[test]
fn a_ca_from_elsewhere_signs() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair, KeyUsagePurpose};
    let make = |constraints| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().expect("ASCII")));
        params.distinguished_name.push(DnType::OrganizationName, "Bücher & Söhne");
        params.distinguished_name.push(DnType::CommonName, "Corporate CA");
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        (params.self_signed(&key).expect("signed").pem(), Secret::new(key.serialize_pem()))
    };
    for constraints in [BasicConstraints::Unconstrained, BasicConstraints::Constrained(1)] {
        let (pem, key) = make(constraints);
        let root = load(&pem, &key).expect("loaded");
        let leaf = issuing(&root).issue_workload(&id("a"), HOUR).expect("issued");
        leaf.verify(&TrustRoots::from_pem(&pem).expect("roots"), Timestamp::now()).expect("verifies");
    }
    let (pem, key) = make(BasicConstraints::Constrained(0));
    let error = load(&pem, &key).expect("loaded").issue_intermediate(Timestamp::now()).expect_err("no room");
    assert!(error.to_string().contains("path length is 0"), "{error}");
}

/// The CA is itself an intermediate of an organisation's: the chain goes on up to what clients trust.
#[test]
fn a_ca_below_an_organisations_root_signs() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let top_key = KeyPair::generate().expect("a key");
    let top = params("Top").self_signed(&top_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let middle = params("Middle").signed_by(&key, &Issuer::new(params("Top"), top_key)).expect("signed");
    let ca = load(&middle.pem(), &Secret::new(key.serialize_pem())).expect("loaded");
    let leaf = issuing(&ca).issue_workload(&id("a"), HOUR).expect("issued");
    assert_eq!(leaf.chain().len(), 3);
    assert_eq!(ca.scope(), None);
    leaf.verify(&TrustRoots::from_pem(&top.pem()).expect("roots"), Timestamp::now()).expect("verifies");
}

#[test]
fn key_and_chain_survive_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = root();
    let leaf = issuing(&root).issue_workload(&id("a"), HOUR).expect("issued");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("identity/workload.pem");
    assert!(KeyPairAndChain::load(&path).expect("none yet").is_none());
    leaf.store(&path).expect("stored");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let again = KeyPairAndChain::load(&path).expect("loaded").expect("there");
    assert_eq!((again.chain_pem(), again.key()), (leaf.chain_pem(), leaf.key()));
    assert_eq!(again.names(), Some(Names::Workload(id("a"))));
    assert!(!again.chain_pem().contains("PRIVATE"), "the chain must not carry the key");
    for damage in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, damage).expect("written");
        assert!(KeyPairAndChain::load(&path).is_err());
    }
}

#[test]
fn names_are_of_one_kind() {
    let issuer = issuing(&root());
    let server = issuer.issue_server(&["a.example".to_owned(), "b.example".to_owned()], HOUR).expect("issued");
    let names = ["a.example", "b.example"].map(str::to_owned).into();
    assert_eq!(server.names(), Some(Names::Server(names)));
    let address = issuer.issue_server(&["a.example".to_owned(), "127.0.0.1".to_owned()], HOUR).expect("issued");
    assert_eq!(address.names(), None);
    let id: SpiffeId = id("a");
    assert_eq!(issuer.issue_workload(&id, HOUR).expect("issued").names(), Some(Names::Workload(id)));
}

/// T-01: each cluster of each tenant has an issuing CA, whose key the hub need not have.
#[tokio::test]
async fn a_members_issuing_ca_vouches_for_its_own_workloads() {
    let (root, now) = (root(), Timestamp::now());
    let scope = Scope::Cluster("team-a/eu".parse().expect("a cluster"));
    let (pem, key) = issuer_request(&domain(), &scope).expect("a request");
    let request = SigningRequest::from_pem(&pem).expect("readable");
    let signed = root.sign_issuer(&request, &scope, now, 30 * DAY).expect("signed");
    assert_eq!(signed.validity.until, now.plus(30 * DAY));
    let other = Scope::Cluster("team-b/eu".parse().expect("a cluster"));
    for wrong in [other, Scope::Hub] {
        let refused = root.sign_issuer(&request, &wrong, now, DAY).expect_err("another scope's");
        assert!(matches!(refused, SignError::Refused(CsrRefused::NamesDiffer)), "{refused}");
    }
    let issuer = load(&signed.chain_pem, &key).expect("loaded");
    assert_eq!(issuer.scope(), Some(&scope));
    assert!(root.sign_issuer(&request, &scope, root.validity().until, DAY).is_err(), "after the root's end");
    assert!(issuer.sign_issuer(&request, &scope, now, DAY).is_err(), "an issuing CA makes no other");

    let member = scope.workload(&domain(), "zen-mesh", "zen-egress").expect("an id");
    let foreign = issuer.issue_workload(&id("zen-egress"), HOUR).expect_err("the hub's");
    assert!(matches!(foreign, Error::Foreign { .. }), "{foreign}");
    let leaf = issuer.issue_workload(&member, HOUR).expect("issued");
    let member_end = Identity::new(&leaf, &root.roots().expect("roots")).expect("an identity");
    let hub_end = identity(&issuing(&root), &root, "zen-ingester");
    let server = mtls_server_by(&hub_end, Arc::new(|id| id.path().ends_with("/sa/zen-egress"))).expect("configured");
    let client = mtls_client(&member_end, id("zen-ingester")).expect("configured");
    connect(client, server).await.expect("connected");
    let server = mtls_server_by(&hub_end, Arc::new(|_| false)).expect("configured");
    let client = mtls_client(&member_end, id("zen-ingester")).expect("configured");
    let text = refusal(client, server).await;
    assert!(text.contains("zen-egress is not allowed here"), "{text}");
}
