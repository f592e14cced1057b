//! What a member's egress tries that is not its to do: each time it gets nothing, learns nothing, and costs nobody anything
//! (T-05, T-06, D-02).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zen_compile::{DeliveryMode, Destination, Enrolled};
use zen_ingester::feed::Carrier;
use zen_ingester::relay::Admitted;
use zen_link::frame::{Behalf, FromEgress, Settled, Token};
use zen_link::proof::prove;
use zen_link::{Claim, Dialer, Error, Metrics, Session};
use zen_model::reason::LinkRefusal;
use zen_model::{Settlement, Timestamp};
use zen_pki::{Identity, mtls_client};

use super::stage::{Hub, cluster, options, streams, versions};
use crate::feed::{Fed, sample};
use crate::fleet::{Load, delivered, id, missing};
use crate::kit::{keys, until};

fn side(claim: Claim) -> zen_link::Egress {
    zen_link::Egress { instance: "egress-0".into(), incarnation: 0, max_leases: u32::MAX, max_bytes: u64::MAX, claim }
}

async fn dial(hub: &Hub, identity: &Identity, claim: Claim) -> Result<Session<zen_link::Egress>, Error> {
    let tls = mtls_client(identity, id("zen-ingester")).unwrap();
    let address = hub.ingesters[0].relay.into();
    Dialer::new(address, tls, side(claim), Metrics::default()).with_options(options()).connect().await
}

fn proven(key: &zen_seal::cluster::ClusterKey) -> Claim {
    let (id, key) = (key.id().to_owned(), key.link());
    Claim::Proven(Arc::new(move |instance, binding| prove(&id, &key, instance, binding)))
}

/// T-05: identity is (tenant, cluster); what a peer says of itself changes nothing. Each refusal is an entry of the audit log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leases_under_another_name() {
    let hub = Hub::new(&["team-a", "team-b", "team-c"], "delivery: {concurrency: 8}", 1).await;
    let (ours, theirs, off) = (hub.member("team-a/eu"), hub.member("team-b/eu"), hub.member("team-c/eu"));
    hub.enroll("team-c/eu", Some(Enrolled { enabled: false, ..hub.enrolled("team-c/eu") }));
    let behalf = |tenant: &str| Claim::Behalf(Behalf { tenant: tenant.into(), cluster: "eu".into(), version: 1 });
    let (egress, peer) = (ours.identity("zen-egress"), hub.identity("zen-ingester"));
    let mut due = Vec::new();
    for (what, identity, claim, reason) in [
        ("no proof", &egress, Claim::Own, LinkRefusal::ProofMissing),
        ("a namesake's key", &egress, proven(&theirs.key(1)), LinkRefusal::ProofWrong),
        ("a version that is not", &egress, proven(&ours.key(2)), LinkRefusal::KeyVersionEnded),
        ("for a namesake", &egress, behalf("team-b"), LinkRefusal::BehalfForbidden),
        ("for a cluster that is off", &peer, behalf("team-c"), LinkRefusal::EnrollmentDisabled),
        ("of one that is off", &off.identity("zen-egress"), proven(&off.key(1)), LinkRefusal::EnrollmentDisabled),
        ("for nobody", &peer, behalf("team-z"), LinkRefusal::EnrollmentUnknown),
        ("an ingester for itself", &peer, Claim::Own, LinkRefusal::BehalfMissing),
    ] {
        let refused = dial(&hub, identity, claim).await;
        assert!(matches!(&refused, Err(Error::Refused(code)) if *code == reason), "{what}: {refused:?}");
        due.push(format!("authorize {} Listener/relay {}", identity.id(), reason.code()));
    }
    let again = dial(&hub, &egress, behalf("team-a")).await;
    assert!(matches!(&again, Err(Error::Refused(LinkRefusal::BehalfForbidden))), "for itself: {again:?}");
    // Others do not get through the handshake: workloads of the member that are no egress, the hub's own egress.
    for identity in [ours.identity("zen-operator"), ours.identity("zen-ingester"), hub.identity("zen-egress")] {
        let refused = dial(&hub, &identity, proven(&ours.key(1))).await;
        assert!(matches!(refused, Err(Error::Tls(_) | Error::Lost(_))), "{}: {refused:?}", identity.id());
    }
    due.push("authenticate Address/127.0.0.1 Listener/relay PeerNotAllowed".to_owned());
    // And the door is open to the right one, so often.
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(dial(&hub, &egress, proven(&ours.key(1))).await.expect("let in"));
    }
    let refused = dial(&hub, &egress, proven(&ours.key(1))).await;
    assert!(matches!(&refused, Err(Error::Refused(LinkRefusal::StreamsTooMany))), "{refused:?}");
    due.push(format!("authorize {} Listener/relay StreamsTooMany", egress.id()));
    // Within a minute what repeats is counted, and no entry of its own.
    let audited = &hub.ingesters[0].audited;
    until("all are entries", || audited.count() == due.len() as u64).await;
    let mut told = audited.told().await;
    told.sort();
    due.sort();
    assert_eq!(told, due);
}

/// T-06: so is the end of a stream that counts no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_ended_is_an_entry() {
    let hub = Hub::new(&["team-a"], "delivery: {concurrency: 8}", 1).await;
    let member = hub.member("team-a/eu");
    let egress = member.identity("zen-egress");
    let mut session = dial(&hub, &egress, proven(&member.key(1))).await.expect("let in");
    hub.enroll("team-a/eu", Some(Enrolled { uid: "another".to_owned(), ..hub.enrolled("team-a/eu") }));
    while let Some(Ok(_)) = session.receiver.next().await {}
    let audited = &hub.ingesters[0].audited;
    until("it is an entry", || audited.count() == 1).await;
    assert_eq!(audited.told().await, [format!("authorize {} Listener/relay EnrollmentUnknown", egress.id())]);
}

/// A member's certificate is worth nothing where the hub's ingesters dial its egresses, at either end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_no_ingester_of_the_hub() {
    let hub = Hub::new(&["team-a"], "delivery: {concurrency: 8}", 1).await;
    let member = hub.member("team-a/eu");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = zen_pki::mtls_server(&hub.identity("zen-egress"), vec![id("zen-ingester")]).unwrap();
    let listening = zen_link::serve(
        listener,
        tls,
        side(Claim::Own),
        options(),
        Metrics::default(),
        async |_| {},
        std::future::pending(),
    );
    let dialling = async {
        for identity in [member.identity("zen-ingester"), member.identity("zen-egress")] {
            let tls = mtls_client(&identity, id("zen-egress")).unwrap();
            let ingester = zen_link::Ingester { instance: "x".into(), term: Duration::from_mins(1), judge: None };
            // As an alert, or as a closed connection where the first frame was faster.
            let refused = Dialer::new(address.into(), tls, ingester, Metrics::default()).connect().await;
            assert!(matches!(refused, Err(Error::Tls(_) | Error::Lost(_))), "{refused:?}");
        }
    };
    tokio::select! {
        () = listening => panic!("it listens for ever"),
        () = dialling => {}
    }
}

/// Two tenants call their clusters alike; each gets its own events and nothing of the other's, at every ingester.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_of_one_name_are_two_clusters() {
    let hub = Hub::new(&["team-a", "team-b"], "delivery: {concurrency: 16}", 3).await;
    let (a, b) = (hub.member("team-a/eu"), hub.member("team-b/eu"));
    let egresses = [a.egress("egress-0", hub.front.address), b.egress("egress-0", hub.front.address)];
    streams(&hub, 2).await;
    let loads = [Load::at(&hub.intakes(), "/team-a/hook", 3), Load::at(&hub.intakes(), "/team-b/hook", 3)];
    a.upstream.wait_for(300).await;
    b.upstream.wait_for(300).await;
    for (load, (member, egress)) in loads.into_iter().zip([&a, &b].into_iter().zip(&egresses)) {
        let accepted = load.end().await;
        hub_emptied(&hub, &member.cluster).await;
        let times = delivered(&member.upstream);
        assert_eq!(missing(&accepted, &times), Vec::<&String>::new());
        let prefix = format!("/{}/", member.cluster.tenant());
        assert!(times.keys().all(|id| id.starts_with(&prefix)), "{}", member.cluster);
        assert_eq!(egress.metric("zen_egress_foreign_leases_total"), 0);
    }
}

async fn hub_emptied(hub: &Hub, of: &zen_model::ClusterId) {
    let waiting = || -> u64 {
        let of_pod = |pod: &super::stage::Pod| {
            let stats = pod.replica.queue.stats();
            let own = stats.destinations.iter().filter(|(key, _)| key.namespace == *of.tenant());
            own.map(|(_, destination)| destination.waiting).sum::<u64>()
        };
        hub.ingesters.iter().map(of_pod).sum()
    };
    until("the tenant's queue is empty", || waiting() == 0).await;
}

/// What it does not hold it cannot end, prolong or begin, however well it guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_others_are_worth_nothing_over_the_wire() {
    let hub = Hub::new(&["team-a", "team-b"], "delivery: {concurrency: 8}", 2).await;
    let (a, b) = (hub.member("team-a/eu"), hub.member("team-b/eu"));
    let hostile = dial(&hub, &a.identity("zen-egress"), proven(&a.key(1))).await.expect("let in");
    let load = Load::at(&hub.intakes(), "/team-b/hook", 2);
    until("events of the other tenant wait", || hub.waiting() > 40).await;
    for seq in 0..50 {
        let tokens: Vec<_> =
            (0..4).flat_map(|destination| (0..60).map(move |lease| Token { seq, destination, lease })).collect();
        let settled = tokens.iter().map(|token| Settled::new(*token, &Settlement::Ack, None)).collect();
        let frame = FromEgress { settled, renew: tokens.clone(), begin: tokens, ..FromEgress::default() };
        hostile.sender.send(frame).await.expect("up");
    }
    let accepted = load.end().await;
    let _egress = b.egress("egress-0", hub.front.address);
    hub.emptied().await;
    assert_eq!(missing(&accepted, &delivered(&b.upstream)), Vec::<&String>::new());
}

fn relayed(name: &str, change: impl FnOnce(&mut Destination)) -> Destination {
    sample(name, |destination| {
        destination.mode = DeliveryMode::Relay;
        destination.cluster = Some(cluster("a/eu"));
        change(destination);
    })
}

fn admitted(of: &str) -> Carrier {
    Carrier::Relay(Admitted { cluster: cluster(of), uid: "uid".into(), version: 1, keys: keys() })
}

fn enroll(fed: &Fed, clusters: &[&str]) {
    let enrolled =
        Enrolled { uid: "uid".into(), enabled: true, joined: true, connected: None, versions: versions(&[(1, None)]) };
    let before = fed.intake.snapshot.load_full();
    let snapshot = zen_compile::Snapshot {
        generation: before.generation + 1,
        destinations: before.destinations.clone(),
        clusters: clusters.iter().map(|of| (cluster(of), Arc::new(enrolled.clone()))).collect(),
        ..zen_compile::Snapshot::default()
    };
    fed.intake.snapshot.store(Arc::new(snapshot));
    fed.handle.configured(true);
}

/// A session is given what names its cluster, of its tenant, and nothing else; hub sessions get nothing of it.
#[tokio::test(start_paused = true)]
async fn each_session_is_given_its_own_scope() {
    let fed = Fed::with([
        relayed("own", |_| {}),
        relayed("other", |d| d.cluster = Some(cluster("a/us"))),
        // As no compilation gives it: the cluster of another tenant.
        relayed("foreign", |d| d.cluster = Some(cluster("b/eu"))),
        relayed("nowhere", |d| d.cluster = None),
        sample("linked", |_| {}),
        sample("direct", |d| d.mode = DeliveryMode::Direct),
    ]);
    enroll(&fed, &["a/eu", "a/us", "b/eu"]);
    let names = ["a/own", "a/other", "a/foreign", "a/nowhere", "a/linked", "a/direct"];
    fed.intake.queue.put("a", &names, b"x");
    let mut sessions = BTreeMap::new();
    for (name, carrier) in [
        ("a/eu", admitted("a/eu")),
        ("a/us", admitted("a/us")),
        ("b/eu", admitted("b/eu")),
        ("link", Carrier::Link),
        ("direct", Carrier::InProcess),
    ] {
        sessions.insert(name, fed.connect_as(carrier, name, 1000));
    }
    let mut got = BTreeMap::new();
    for (name, session) in &mut sessions {
        got.insert(*name, session.held().await.into_keys().collect::<Vec<_>>());
    }
    let due = BTreeMap::from([
        ("a/eu", vec!["a/own".to_owned()]),
        ("a/us", vec!["a/other".to_owned()]),
        ("b/eu", vec![]),
        ("link", vec!["a/linked".to_owned()]),
        ("direct", vec!["a/direct".to_owned()]),
    ]);
    assert_eq!(got, due);
}

/// As a session of the dispatcher: even with the very token of another's lease.
#[tokio::test(start_paused = true)]
async fn a_lease_of_another_session_cannot_be_touched() {
    let fed = Fed::with([relayed("ci", |_| {}), sample("linked", |d| d.idempotent = false)]);
    enroll(&fed, &["a/eu"]);
    fed.intake.queue.put("a", &["a/linked"], b"x");
    let mut holder = fed.connect(1000);
    let leases = holder.take().await;
    let tokens: Vec<_> = leases.iter().map(|lease| lease.token).collect();
    let mut hostile = fed.connect_as(admitted("a/eu"), "hostile", 1000);
    let settled = |settlement: &Settlement| tokens.iter().map(|token| Settled::new(*token, settlement, None)).collect();
    let dead = Settlement::Dead { reason: zen_model::DeadReason::Rejected };
    for settlement in [&Settlement::Ack, &dead] {
        let frame = FromEgress {
            settled: settled(settlement),
            begin: tokens.clone(),
            renew: tokens.clone(),
            ..FromEgress::default()
        };
        hostile.sender.send(frame).await.unwrap();
    }
    hostile.take().await;
    let queue = &fed.intake.queue;
    assert_eq!((queue.open("a/linked"), queue.dead("a/linked").len()), (1, 0), "neither ended nor dead");
    assert_eq!(queue.with(|state| state.begun.len()), 0, "nor begun");
    assert!(fed.intake.metrics().contains("zen_ingester_foreign_tokens_total 4"), "{}", fed.intake.metrics());
    holder.ack(&leases).await;
    holder.take().await;
    assert_eq!(queue.open("a/linked"), 0, "it is its holder's still");
}

/// A window is what the hub says it is at most, and one that is not read is not filled again.
#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_read_has_its_window_and_no_more() {
    let fed = Fed::with([relayed("ci", |d| d.concurrency = 100_000)]);
    enroll(&fed, &["a/eu"]);
    for _ in 0..3000 {
        fed.intake.queue.put("a", &["a/ci"], &[7; 100]);
    }
    // Its channel takes four frames; nothing reads them.
    let silent = fed.connect_as(admitted("a/eu"), "silent", 500);
    let leased = || fed.intake.queue.with(|state| state.deliveries.values().filter(|d| d.lease.is_some()).count());
    let mut most = 0;
    // A few frames more lie in the channel, as they would in the connection.
    for _ in 0..900 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(leased());
    }
    assert!((1..=501).contains(&most), "{most} leases for a window of 500");
    assert!(silent.sender.is_closed(), "and then it is closed");
    // Answers are no way around it.
    let mut asking = fed.connect_as(admitted("a/eu"), "asking", 10);
    let begin: Vec<_> = (0..1000).map(|lease| Token { seq: 1, destination: 0, lease: lease + 1_000_000 }).collect();
    let mut sent = 0;
    while asking.sender.send(FromEgress { begin: begin.clone(), ..FromEgress::default() }).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "its questions are answered without end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asking.take().await;
}

/// Keys of a lease are the session's: what a hub session's ring does not know, a member's does.
#[tokio::test(start_paused = true)]
async fn leases_are_signed_with_the_key_of_the_session() {
    let fed = Fed::with([relayed("ci", |_| {})]);
    enroll(&fed, &["a/eu"]);
    let own = zen_model::Secret::new([9; 32]);
    let ring = zen_verify::zen_signature::Keys::new(vec![("cluster-1".into(), own)]).unwrap();
    let Carrier::Relay(admitted) = admitted("a/eu") else { panic!("a member's") };
    let ring = Arc::new(ring);
    let carrier = Carrier::Relay(Admitted { keys: Arc::clone(&ring), ..admitted });
    let mut egress = fed.connect_as(carrier, "egress", 10);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let lease = egress.take().await.remove(0);
    let event = <zen_model::Event as prost::Message>::decode(lease.record.clone()).unwrap();
    let verify = |keys: &zen_verify::zen_signature::Keys| {
        keys.verify(&lease.signature, &event.id, &event.content_hash, Timestamp::now(), Duration::from_mins(1))
    };
    assert_eq!(verify(&ring), Ok(()));
    assert!(verify(&keys()).is_err());
}
