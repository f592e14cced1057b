//! Another issuer's certificates (T-03): in the trust bundle, and judged before a pod gets them.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use zen_model::Timestamp;
use zen_pki::bundle::with_hub_issuers;
use zen_pki::{Ca, KeyPairAndChain, Names, SigningRequest, TrustRoots, mtls_client, mtls_server, signing_request};

use crate::support::{HOUR, connect, domain, id, identity};

struct Stage {
    ours: Ca,
    theirs: Ca,
    bundle: String,
}

fn stage() -> Stage {
    let root = |now| Ca::new_root(&domain(), now).expect("a root");
    let (ours, now) = (root(Timestamp::now()), Timestamp::now());
    let theirs = root(now).issue_intermediate(now).expect("an issuing CA");
    let bundle = with_hub_issuers(ours.certificate_pem(), theirs.certificate_pem()).expect("a bundle");
    Stage { ours, theirs, bundle }
}

#[tokio::test]
async fn a_bundle_names_the_only_issuer_of_the_hubs_workloads() {
    let Stage { ours, theirs, bundle } = stage();
    let roots = TrustRoots::from_pem(&bundle).expect("readable");
    let from = |ca: &Ca, account: &str| {
        let certificate = ca.issue_workload(&id(account), HOUR).expect("issued");
        zen_pki::Identity::new(&certificate, &roots).expect("an identity")
    };
    let meet = async |client: &zen_pki::Identity, server: &zen_pki::Identity| {
        let client = mtls_client(client, id("server")).expect("a client");
        connect(client, mtls_server(server, vec![id("client")]).expect("a server")).await.map(drop)
    };
    let (client, server) = (from(&theirs, "client"), from(&theirs, "server"));
    meet(&client, &server).await.expect("both are of the issuer that is named");
    let issuing = ours.issue_intermediate(Timestamp::now()).expect("an issuing CA");
    assert!(meet(&from(&issuing, "client"), &server).await.is_err(), "ours issues to nobody of the hub");
    // Who reads the roots alone sees what there was before.
    let certificates = bundle.matches("BEGIN CERTIFICATE").count();
    assert_eq!(certificates, 1);
    let other = Ca::ephemeral(&domain()).expect("a CA");
    assert!(meet(&identity(&other, "client"), &server).await.is_err());
}

#[test]
fn a_bundle_is_made_of_certificates_of_cas() {
    let Stage { ours, theirs, .. } = stage();
    let leaf = theirs.issue_workload(&id("client"), HOUR).expect("issued");
    for wrong in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", leaf.chain_pem()] {
        assert!(with_hub_issuers(ours.certificate_pem(), wrong).is_err(), "{wrong}");
    }
    let both = theirs.certificate_pem().to_owned() + stage().theirs.certificate_pem();
    let bundle = with_hub_issuers(ours.certificate_pem(), &both).expect("an overlap");
    assert_eq!(bundle.matches("BEGIN ZEN MESH HUB ISSUER").count(), 2);
    let torn = bundle.replacen("-----END ZEN MESH HUB ISSUER-----", "", 1);
    assert!(TrustRoots::from_pem(&torn).is_err(), "never fewer than somebody named");
}

#[test]
fn what_an_issuer_gives_is_exactly_what_was_asked_for() {
    let Stage { theirs, bundle, .. } = stage();
    let (roots, now) = (TrustRoots::from_pem(&bundle).expect("readable"), Timestamp::now());
    let due = Names::Workload(id("client"));
    let (pem, key) = signing_request(&due).expect("a request");
    let request = SigningRequest::from_pem(&pem).expect("readable");
    let sign = |ca: &Ca, request: &SigningRequest, names: &Names, lifetime: Duration| {
        ca.sign_csr(request, names, now, lifetime).expect("signed").chain_pem
    };
    let good = sign(&theirs, &request, &due, HOUR);
    let signed = request.accept(&good, &due, &roots, now, HOUR).expect("right");
    let pair = KeyPairAndChain::from_pem(&signed.chain_pem, &key).expect("a pair");
    assert_eq!((pair.validity(), signed.serial.is_empty()), (signed.validity, false));

    let refused = |chain: &str, at: Timestamp| {
        request.accept(chain, &due, &roots, at, HOUR).expect_err("not what was asked for").to_string()
    };
    let another = |names: &Names| SigningRequest::from_pem(&signing_request(names).expect("made").0).expect("readable");
    let server = Names::Server(["hooks.example.com".to_owned()].into());
    let longer = HOUR + Duration::from_mins(6);
    let of_another_ca = stage().theirs;
    let authority = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::from_pem(std::str::from_utf8(key.expose()).expect("PEM")).expect("a key");
        params.self_signed(&key).expect("signed").pem()
    };
    for (what, chain, words) in [
        ("nothing", String::new(), "there is none"),
        ("another key", sign(&theirs, &another(&due), &due, HOUR), "its key"),
        ("a CA", authority, "a CA's"),
        ("another name", sign(&theirs, &another(&server), &server, HOUR), "its key"),
        ("longer", sign(&theirs, &request, &due, longer), "longer than was asked for"),
        ("of an issuer that nobody trusts", sign(&of_another_ca, &request, &due, HOUR), "BadSignature"),
    ] {
        let said = refused(&chain, now);
        assert!(said.contains(words), "{what}: {said}");
    }
    assert!(refused(&good, now.plus(2 * HOUR)).contains("xpired"), "too late");
    let said = request.accept(&good, &Names::Workload(id("server")), &roots, now, HOUR).expect_err("another name");
    assert!(said.to_string().contains("its names"), "{said}");
}
