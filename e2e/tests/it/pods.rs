//! The pods of ingester and egress, whole, on a real API server (K-04, W-14, D-02, T-05, T-07): only the kubelet's part and the
//! operator's are stood in for.

pub mod load;
pub mod objects;
pub mod source;
pub mod stage;

use std::time::Duration;

use zen_identity::control::{DRAIN, DrainState, DrainStatus, Report, ReportQuery};
use zen_identity::http::{self, Error, Peer};
use zen_identity::{Component, control};
use zen_pki::Ca;
use zen_testkit::Upstream;

use objects::{HOOK, WEBHOOK, ci, enroll};
use source::Source;
use stage::{ANY, Egress, Ingester, Stage, ready, roots, until};

/// From objects to a delivery, reports, a drain and back, a change of configuration, an API server and an operator that go
/// away, and containers that start anew without them.
#[tokio::test(flavor = "multi_thread")]
async fn pods_serve_by_the_objects_and_go_on_without_the_api_server() {
    let upstream = Upstream::http().await;
    let mut stage = Stage::start().await;
    let (mut ingester, mut egress) = (Ingester::new(0), Egress::new(0));
    ingester.start(&stage, &[]).await;
    until("ready without an object", async || ready(ingester.addresses().admin).await.0 == 200).await;

    stage.apply(&[WEBHOOK, &ci(&upstream, "Egress")]).await;
    let mut source = Source::connect(ingester.addresses().intake.unwrap(), stage.roots()).await;
    until("the Webhook is served", async || source.post(HOOK, "1").await == 202).await;
    assert!(upstream.received().is_empty(), "there is no egress yet");

    egress.start(&stage).await;
    until("the egress is ready", async || ready(egress.addresses().admin).await.0 == 200).await;
    stage.egresses(&[&egress]).await;
    upstream.wait_for(1).await;

    reports(&stage, &ingester, &egress).await;
    policy(&stage, &ingester, &egress).await;
    drain(&stage, &ingester, &mut source).await;

    stage.apply(&[&WEBHOOK.replace("spec:\n", "spec:\n  active: false\n")]).await;
    until("the change is in effect", async || source.post(HOOK, "2").await == 503).await;
    stage.apply(&[&WEBHOOK.replace("spec:\n", "spec:\n  active: true\n")]).await;
    until("and back", async || source.post(HOOK, "3").await == 202).await;

    stage.leave();
    let before = upstream.wait_for(2).await.len();
    assert_eq!(source.post(HOOK, "4").await, 202);
    upstream.wait_for(before + 1).await;

    ingester.stop().await;
    egress.stop().await;
    egress.start(&stage).await;
    ingester.start(&stage, &[]).await;
    until("ready again", async || ready(ingester.addresses().admin).await.0 == 200).await;
    let mut source = Source::connect(ingester.addresses().intake.unwrap(), stage.roots()).await;
    assert_eq!(source.post(HOOK, "5").await, 202);
    upstream.wait_for(before + 2).await;
    ingester.stop().await;
    egress.stop().await;
}

fn peer(component: Component, stage: &Stage, address: std::net::SocketAddr) -> Peer {
    Peer { address, id: stage.identity(component).id().clone() }
}

/// The operator hears of both objects, with what it needs to write a status; later only of what changed.
async fn reports(stage: &Stage, ingester: &Ingester, egress: &Egress) {
    let operator = http::Client::new(&stage.identity(Component::Operator));
    let query = ReportQuery::default().path_and_query();
    let of_ingester = peer(Component::Ingester, stage, ingester.addresses().control);
    let report: Report = operator.get(&of_ingester, &query).await.unwrap();
    assert!(report.complete && report.plane == control::Plane::Ingester && report.instance == "zen-ingester-0");
    let webhook = report.objects.iter().find(|object| object.object.kind == "Webhook");
    let webhook = webhook.unwrap_or_else(|| panic!("{report:?}"));
    assert!(webhook.serving && webhook.uid.is_some() && webhook.observed_generation == Some(1), "{webhook:?}");
    // Which secret verified last comes with one of the next changes, and only what changed comes with it.
    let operator = operator.with_timeout(Duration::from_secs(40));
    let (mut after, epoch) = (report.revision, Some(report.epoch));
    let mut verified = webhook.last_verified.clone();
    while verified.is_none() {
        let query = ReportQuery { after, epoch: epoch.clone(), wait: 30 }.path_and_query();
        let later: Report = operator.get(&of_ingester, &query).await.unwrap();
        assert!(!later.complete && later.revision > after, "{later:?}");
        verified = later.objects.iter().find_map(|object| object.last_verified.clone());
        after = later.revision;
    }

    let operator = http::Client::new(&stage.identity(Component::Operator));
    let of_egress = peer(Component::Egress, stage, egress.addresses().control);
    let report: Report = operator.get(&of_egress, &ReportQuery::default().path_and_query()).await.unwrap();
    let kinds: Vec<_> = report.objects.iter().map(|object| (object.object.kind.as_str(), object.serving)).collect();
    assert_eq!(kinds, [("Destination", true)]);
}

/// T-05: who may speak with whom, at the handshake and at each route.
async fn policy(stage: &Stage, ingester: &Ingester, egress: &Egress) {
    let query = ReportQuery::default().path_and_query();
    let of_ingester = peer(Component::Ingester, stage, ingester.addresses().control);
    let of_egress = peer(Component::Egress, stage, egress.addresses().control);
    let as_egress = http::Client::new(&stage.identity(Component::Egress));
    let refused = as_egress.get::<Report>(&of_ingester, &query).await.unwrap_err();
    assert!(matches!(refused, Error::Exchange(_)), "an egress has no business there: {refused:?}");
    let as_ingester = http::Client::new(&stage.identity(Component::Ingester));
    for to in [&of_ingester, &of_egress] {
        let refused = as_ingester.get::<Report>(to, &query).await.unwrap_err();
        assert_eq!(refused.status().map(|status| status.as_u16()), Some(403), "{refused:?}");
    }
    let refused = as_ingester.post::<DrainStatus>(&of_ingester, DRAIN, &()).await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(403), "{refused:?}");
    let status: serde_json::Value = as_ingester.get(&of_ingester, "/v1/admin/status").await.unwrap();
    assert!(status["webhooks"].is_array(), "{status}");
    let as_operator = http::Client::new(&stage.identity(Component::Operator));
    let refused = as_operator.get::<serde_json::Value>(&of_ingester, "/v1/admin/status").await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(403), "{refused:?}");
}

async fn drain(stage: &Stage, ingester: &Ingester, source: &mut Source) {
    let operator = http::Client::new(&stage.identity(Component::Operator));
    let pod = peer(Component::Ingester, stage, ingester.addresses().control);
    let begun: DrainStatus = operator.post(&pod, DRAIN, &()).await.unwrap();
    assert!(matches!(begun.state, DrainState::Serving | DrainState::Draining), "{begun:?}");
    until("it drains", async || {
        let status: DrainStatus = operator.get(&pod, DRAIN).await.unwrap();
        status.state == DrainState::Drained
    })
    .await;
    let (status, why) = ready(ingester.addresses().admin).await;
    assert!(status == 503 && why.contains("drain"), "{why}");
    assert_eq!(source.post(HOOK, "refused").await, 503);
    let resumed: DrainStatus = operator.delete(&pod, DRAIN).await.unwrap();
    assert!(resumed.dead_letters == 0 && resumed.waiting == 0, "{resumed:?}");
    until("it serves again", async || ready(ingester.addresses().admin).await.0 == 200).await;
}

/// W-14: the certificate of a Secret is in effect without a restart and without the loss of a connection; one that is bad or
/// gone changes nothing, and readiness says what is missing where there never was one. Mode Direct needs no egress (D-02).
#[tokio::test(flavor = "multi_thread")]
async fn the_intakes_certificate_follows_its_secret() {
    let upstream = Upstream::http().await;
    let stage = Stage::start().await;
    stage.apply(&[WEBHOOK, &ci(&upstream, "Direct")]).await;
    let mut ingester = Ingester::new(0);
    ingester.start(&stage, &["--intake-secret", "intake-tls"]).await;
    until("what is missing is said", async || {
        let (status, why) = ready(ingester.addresses().admin).await;
        status == 503 && why.contains("Secret zen-mesh/intake-tls does not exist")
    })
    .await;

    let intake = ingester.addresses().intake.unwrap();
    let (first, second) = (Issued::new(), Issued::new());
    stage.apply(&[&first.secret()]).await;
    until("it is ready", async || ready(ingester.addresses().admin).await.0 == 200).await;
    let mut old = Source::connect(intake, first.roots()).await;
    until("the Webhook is served", async || old.post(HOOK, "1").await == 202).await;

    stage.apply(&[&second.secret()]).await;
    until("the new certificate is in effect", async || Source::try_connect(intake, second.roots()).await.is_some())
        .await;
    let mut new = Source::connect(intake, second.roots()).await;
    assert_ne!(old.certificate(), new.certificate());
    assert_eq!((old.post(HOOK, "2").await, new.post(HOOK, "3").await), (202, 202), "both connections live on");

    let broken = "
apiVersion: v1
kind: Secret
metadata: {name: intake-tls, namespace: zen-mesh}
type: kubernetes.io/tls
stringData: {tls.crt: nonsense, tls.key: nonsense}
";
    stage.apply(&[broken]).await;
    stage.kubectl(&["delete", "secret", "-n", "zen-mesh", "intake-tls"]).await;
    // What comes later in the same watch has been heard; a third certificate shows it.
    assert_eq!(new.post(HOOK, "4").await, 202);
    assert_eq!(Source::connect(intake, second.roots()).await.certificate(), new.certificate());
    let third = Issued::new();
    stage.apply(&[&third.secret()]).await;
    until("the third is in effect", async || Source::try_connect(intake, third.roots()).await.is_some()).await;
    assert_eq!((old.post(HOOK, "5").await, new.post(HOOK, "6").await), (202, 202));
    upstream.wait_for(6).await;
    ingester.stop().await;
}

/// DESIGN 13: a volume whose replica is gone is emptied by a pod that takes nothing in; what it cannot deliver goes to a peer,
/// which delivers it when it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_a_replica_is_emptied_into_a_peer() {
    let upstream = Upstream::http().await;
    let stage = Stage::start().await;
    let paused = ci(&upstream, "Direct").replace("spec:\n", "spec:\n  paused: true\n");
    stage.apply(&[WEBHOOK, &paused]).await;
    let (mut gone, mut stays) = (Ingester::new(1), Ingester::new(0));
    gone.start(&stage, &[]).await;
    let mut source = Source::connect(gone.addresses().intake.unwrap(), stage.roots()).await;
    until("the Webhook is served", async || source.post(HOOK, "1").await == 202).await;
    for number in 2..=20 {
        assert_eq!(source.post(HOOK, &number.to_string()).await, 202);
    }
    gone.stop().await;

    stays.start(&stage, &[]).await;
    stage.peer(&stays).await;
    gone.empty(&stage).await;
    let operator = http::Client::new(&stage.identity(Component::Operator));
    let peer = peer(Component::Ingester, &stage, stays.addresses().control);
    let status: DrainStatus = operator.get(&peer, DRAIN).await.unwrap();
    assert_eq!((status.state, status.waiting), (DrainState::Serving, 20));
    assert!(upstream.received().is_empty());

    stage.apply(&[&ci(&upstream, "Direct").replace("spec:\n", "spec:\n  paused: false\n")]).await;
    let received = upstream.wait_for(20).await;
    let bodies: std::collections::BTreeSet<_> = received.iter().map(|request| request.body.clone()).collect();
    assert_eq!((received.len(), bodies.len()), (20, 20), "each of them, and each once");
    stays.stop().await;
}

/// A certificate of a CA of its own, as a user's Secret holds it.
pub struct Issued {
    ca: Ca,
    pub chain: String,
    pub key: String,
}

impl Issued {
    pub fn new() -> Self {
        let ca = Ca::ephemeral(&"example.com".parse().unwrap()).unwrap();
        let issued = ca.issue_server(&[stage::INTAKE.to_owned()], Duration::from_hours(1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pair.pem");
        issued.store(&path).unwrap();
        let pair = std::fs::read_to_string(path).unwrap();
        let at = pair.find("-----BEGIN CERTIFICATE-----").unwrap();
        Self { ca, chain: pair[at..].to_owned(), key: pair[..at].to_owned() }
    }

    pub fn roots(&self) -> rustls::RootCertStore {
        roots(self.ca.certificate_pem())
    }

    pub fn secret(&self) -> String {
        let block = |text: &str| text.trim().replace('\n', "\n    ");
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: intake-tls, namespace: zen-mesh}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
",
            block(&self.chain),
            block(&self.key)
        )
    }
}

/// D-02, T-06: the egress pod of a member listens for nobody, dials the hub, and delivers what the hub took in; its stream is
/// closed when its enrollment is disabled, and comes back with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_egress_dials_its_hub_and_delivers() {
    let upstream = Upstream::http().await;
    let stage = Stage::start().await;
    let (mut ingester, mut egress) = (Ingester::new(0), Egress::new(0));
    ingester.start(&stage, &["--relay", ANY]).await;
    enroll(&stage).await;
    stage.apply(&[WEBHOOK, &ci(&upstream, "Relay\n  cluster: eu")]).await;
    let mut source = Source::connect(ingester.addresses().intake.unwrap(), stage.roots()).await;
    until("the Webhook is served", async || source.post(HOOK, "1").await == 202).await;

    egress.start_in_member(&stage, ingester.addresses().relay.unwrap()).await;
    assert!(egress.addresses().link.is_none(), "nothing listens in a member");
    upstream.wait_for(1).await;

    let sessions = async || {
        let told = stage::metric(ingester.addresses().admin, "zen_link_sessions", &[("role", "ingester")]).await;
        told.expect("it is told")
    };
    until("the hub counts it", async || sessions().await > 0.5).await;
    let patch = ["-n", "team-a", "patch", "clusterenrollment", "eu", "--type=merge"];
    stage.kubectl(&[&patch[..], &["-p", r#"{"spec": {"disabled": true}}"#]].concat()).await;
    let began = tokio::time::Instant::now();
    until("its stream is closed", async || sessions().await < 0.5).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let before = upstream.received().len();
    assert_eq!(source.post(HOOK, "2").await, 202, "events wait");
    stage.kubectl(&[&patch[..], &["-p", r#"{"spec": {"disabled": false}}"#]].concat()).await;
    upstream.wait_for(before + 1).await;
    egress.stop().await;
    ingester.stop().await;
}
