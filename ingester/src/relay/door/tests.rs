use std::collections::BTreeMap;
use std::time::Duration;

use zen_compile::KeyVersion;
use zen_link::frame::Behalf;
use zen_link::proof::{Binding, prove};
use zen_model::Secret;
use zen_pki::TrustDomain;

use super::*;

const HERE: Binding = Binding::new([1; 32]);
const INSTANCE: &str = "egress-0";

fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("a trust domain")
}

fn cluster(text: &str) -> ClusterId {
    text.parse().expect("a cluster")
}

fn signing() -> SigningKeys {
    SigningKeys::new(Secret::new([7; 32]))
}

fn key(of: &str, version: u32) -> ClusterKey {
    let branch = RootKey::of(signing().branch()).expect("32 bytes");
    ClusterKey::derive(&branch, &cluster(of), version)
}

/// `a/eu` and `b/eu` with version 2 and, for a while or no more, version 1; `a/off` is disabled.
fn door() -> Door {
    let until =
        |until: Timestamp| vec![KeyVersion { version: 2, until: None }, KeyVersion { version: 1, until: Some(until) }];
    let enrolled = |uid: &str, enabled, versions| {
        Arc::new(Enrolled { uid: uid.to_owned(), enabled, joined: true, connected: None, versions })
    };
    let now = Timestamp::now();
    let clusters = BTreeMap::from([
        (cluster("a/eu"), enrolled("uid-a", true, until(now.plus(Duration::from_hours(1))))),
        (cluster("b/eu"), enrolled("uid-b", true, until(Timestamp::from_secs(1)))),
        (cluster("a/off"), enrolled("uid-off", false, until(Timestamp::from_secs(1)))),
    ]);
    let snapshot = Snapshot { clusters, ..Snapshot::default() };
    let mesh = Mesh::new(&domain(), "zen-mesh").expect("a mesh");
    Door::new(mesh, Arc::new(ArcSwap::from_pointee(snapshot)), &signing()).expect("32 bytes")
}

fn member(of: &str, account: &str) -> SpiffeId {
    SpiffeId::member(&domain(), &cluster(of), "anywhere", account).expect("an id")
}

fn hub(account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "zen-mesh", account).expect("an id")
}

fn proven(key: &ClusterKey) -> Hello {
    let proof = prove(key.id(), &key.link(), INSTANCE, &HERE);
    Hello { instance: INSTANCE.to_owned(), proof, ..Hello::default() }
}

fn behalf(of: &str, version: u32) -> Hello {
    let of = cluster(of);
    let behalf = Behalf { tenant: of.tenant().to_string(), cluster: of.cluster().to_string(), version };
    Hello { instance: INSTANCE.to_owned(), behalf: Some(behalf), ..Hello::default() }
}

fn ask(peer: &SpiffeId, hello: &Hello) -> Result<String, LinkRefusal> {
    let presented = Presented { peer: peer.clone(), binding: HERE };
    door().admit(&presented, hello).map(|visitor| match visitor {
        Visitor::Member(admitted) => format!("member {} {}", admitted.cluster, admitted.version),
        Visitor::Peer(admitted) => format!("peer {} {}", admitted.cluster, admitted.version),
    })
}

/// T-05: who gets through the handshake at all.
#[test]
fn members_egresses_and_ingesters_connect_and_nobody_else() {
    let door = door();
    assert!(door.may_connect(&member("a/eu", "zen-egress")));
    // Known or not is said after the handshake, with a reason.
    assert!(door.may_connect(&member("a/none", "zen-egress")));
    assert!(door.may_connect(&hub("zen-ingester")));
    let elsewhere: TrustDomain = "elsewhere.local".parse().expect("a trust domain");
    for refused in [
        hub("zen-egress"),
        hub("zen-operator"),
        SpiffeId::workload(&domain(), "another", "zen-ingester").expect("an id"),
        member("a/eu", "zen-ingester"),
        member("a/eu", "zen-operator"),
        SpiffeId::member(&elsewhere, &cluster("a/eu"), "anywhere", "zen-egress").expect("an id"),
    ] {
        assert!(!door.may_connect(&refused), "{refused}");
    }
}

/// T-06: a stream's cluster is its certificate's, and its key that cluster's, in a version that counts.
#[test]
fn who_is_let_in_as_whom() {
    let (own, namesake) = (member("a/eu", "zen-egress"), member("b/eu", "zen-egress"));
    let mut elsewhere = proven(&key("a/eu", 2));
    elsewhere.proof = prove(key("a/eu", 2).id(), &key("a/eu", 2).link(), INSTANCE, &Binding::new([2; 32]));
    let mut renamed = proven(&key("a/eu", 2));
    renamed.instance = "egress-1".to_owned();
    let mut both = proven(&key("a/eu", 2));
    both.behalf = behalf("b/eu", 2).behalf;
    let foreign_id =
        Hello { proof: prove(key("a/eu", 2).id(), &key("b/eu", 2).link(), INSTANCE, &HERE), ..proven(&key("a/eu", 2)) };
    for (what, peer, hello, due) in [
        ("its own", &own, proven(&key("a/eu", 2)), Ok("member a/eu 2")),
        ("in the overlap", &own, proven(&key("a/eu", 1)), Ok("member a/eu 1")),
        ("the overlap is over", &namesake, proven(&key("b/eu", 1)), Err(LinkRefusal::KeyVersionEnded)),
        ("a version that never was", &own, proven(&key("a/eu", 9)), Err(LinkRefusal::KeyVersionEnded)),
        ("a namesake's key", &own, proven(&key("b/eu", 2)), Err(LinkRefusal::ProofWrong)),
        ("a namesake with our key", &namesake, proven(&key("a/eu", 2)), Err(LinkRefusal::ProofWrong)),
        ("our key's id, another key", &own, foreign_id, Err(LinkRefusal::ProofWrong)),
        ("another session's", &own, elsewhere, Err(LinkRefusal::ProofWrong)),
        ("another process's", &own, renamed, Err(LinkRefusal::ProofWrong)),
        ("no proof", &own, Hello::default(), Err(LinkRefusal::ProofMissing)),
        ("a member for another", &own, both, Err(LinkRefusal::BehalfForbidden)),
        ("a member for itself", &own, behalf("a/eu", 2), Err(LinkRefusal::BehalfForbidden)),
        ("disabled", &member("a/off", "zen-egress"), proven(&key("a/off", 2)), Err(LinkRefusal::EnrollmentDisabled)),
        ("unknown", &member("a/no", "zen-egress"), proven(&key("a/no", 2)), Err(LinkRefusal::EnrollmentUnknown)),
        ("another account", &member("a/eu", "app"), proven(&key("a/eu", 2)), Err(LinkRefusal::LeaseNotPermitted)),
        ("the hub's egress", &hub("zen-egress"), proven(&key("a/eu", 2)), Err(LinkRefusal::LeaseNotPermitted)),
        ("an ingester", &hub("zen-ingester"), behalf("b/eu", 2), Ok("peer b/eu 2")),
        ("an ingester for itself", &hub("zen-ingester"), Hello::default(), Err(LinkRefusal::BehalfMissing)),
        ("for a version that ended", &hub("zen-ingester"), behalf("b/eu", 1), Err(LinkRefusal::KeyVersionEnded)),
        ("for a disabled one", &hub("zen-ingester"), behalf("a/off", 2), Err(LinkRefusal::EnrollmentDisabled)),
        ("the hub's egress for a member", &hub("zen-egress"), behalf("a/eu", 2), Err(LinkRefusal::LeaseNotPermitted)),
    ] {
        assert_eq!(ask(peer, &hello), due.map(str::to_owned), "{what}");
    }
}

/// T-06: what was let in stands as long as enrollment and version do.
#[test]
fn a_stream_stands_with_its_enrollment() {
    let door = door();
    let snapshot = door.snapshot.load_full();
    let presented = Presented { peer: member("a/eu", "zen-egress"), binding: HERE };
    let Ok(Visitor::Member(admitted)) = door.admit(&presented, &proven(&key("a/eu", 1))) else { panic!("let in") };
    let now = Timestamp::now();
    assert_eq!(admitted.standing(&snapshot, now), Ok(()));
    let later = now.plus(Duration::from_hours(2));
    assert_eq!(admitted.standing(&snapshot, later), Err(LinkRefusal::KeyVersionEnded));
    let changed = |change: fn(&mut Enrolled)| {
        let mut enrolled = (*snapshot.clusters[&cluster("a/eu")]).clone();
        change(&mut enrolled);
        let clusters = BTreeMap::from([(cluster("a/eu"), Arc::new(enrolled))]);
        admitted.standing(&Snapshot { clusters, ..Snapshot::default() }, now)
    };
    assert_eq!(changed(|_| {}), Ok(()));
    assert_eq!(changed(|enrolled| enrolled.enabled = false), Err(LinkRefusal::EnrollmentDisabled));
    assert_eq!(changed(|enrolled| enrolled.uid = "another".to_owned()), Err(LinkRefusal::EnrollmentUnknown));
    assert_eq!(changed(|enrolled| enrolled.versions.truncate(1)), Err(LinkRefusal::KeyVersionEnded));
    assert_eq!(admitted.standing(&Snapshot::default(), now), Err(LinkRefusal::EnrollmentUnknown));
}
