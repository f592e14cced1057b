//! The control plane never sees payloads (T-08; issue 6, point 10): words are planted in events that are delivered, refused by their
//! target and refused at the intake; then everything that the operator holds, wrote or heard is searched for them.
//!
//! The operator is whole and on a real API server, as its ServiceAccount with the chart's roles. The same search finds the words where
//! they belong: at the target, and in what the data plane shows to people who may see it.

mod log;
mod needle;
mod structure;
mod tap;

use std::net::SocketAddr;

use http::Method;
use http_body_util::Full;
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client};
use serde_json::{Value, json};
use zen_identity::http::Peer;
use zen_identity::{Component, Mesh, http as mtls};
use zen_pki::TrustRoots;
use zen_testkit::{Answer, Upstream};

use crate::pods::Issued;
use crate::pods::objects::{HOOK, WEBHOOK, destination};
use crate::pods::source::Source;
use crate::pods::stage::{get, until};
use crate::rights;
use crate::rights::stage::{NAMESPACE, Stage};
use needle::Needle;
use tap::Tap;

const GRANTS: &str = r#"mesh.grants=[{"namespace":"team-a","cidrs":["127.0.0.0/8"]}]"#;
const DATA: &str = "/apis/data.zen-mesh.io/v1alpha1";

/// One for each place of a request or an answer that somebody outside decides.
struct Planted {
    body: Needle,
    header: Needle,
    query: Needle,
    path: Needle,
    cloud_event: Needle,
    /// An event that comes as a `CloudEvent` brings its own id, which the data plane names in its log.
    id: Needle,
    response: Needle,
    refused: Needle,
}

impl Planted {
    fn new() -> Self {
        let [body, header, query, path, cloud_event, id, response, refused] =
            ["Body", "Header", "Query", "Path", "CloudEvent", "Id", "Response", "Refused"].map(Needle::new);
        Self { body, header, query, path, cloud_event, id, response, refused }
    }

    fn all(&self) -> [&Needle; 8] {
        let Self { body, header, query, path, cloud_event, id, response, refused } = self;
        [body, header, query, path, cloud_event, id, response, refused]
    }

    /// Nothing of any event stands in it, and `known` does, which is how it is known that it was read.
    fn are_not_in(&self, what: &str, hay: &[u8], known: &str) {
        assert!(memchr::memmem::find(hay, known.as_bytes()).is_some(), "{what} says nothing of {known}");
        let found: Vec<_> = self.all().into_iter().filter(|needle| needle.is_in(hay)).map(Needle::word).collect();
        assert!(found.is_empty(), "{what} has {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_event_reaches_the_control_plane() {
    log::keep();
    let planted = Planted::new();
    let (takes, refuses) = (Upstream::http().await, Upstream::http().await);
    takes.always(Answer::status(200).body(planted.response.word().to_owned()));
    refuses.always(Answer::status(400).body(planted.response.word().to_owned()));
    let mut stage = Stage::with_records(&["--set-json", GRANTS]).await;
    let certificate = Issued::new();
    stage.apply(&certificate.secret()).await;
    let between = stage.between_operator_and_ingester();
    stage.start_operator().await;
    let mesh = Mesh::new(&"zen-mesh.local".parse().unwrap(), NAMESPACE).unwrap();
    let tap = Tap::start(&stage.issuer().await, stage.bundle(), &mesh, between);
    stage.start_pods().await;
    stage.serve_link().await;
    let webhook = WEBHOOK.replace("[{name: ci}]", "[{name: takes}, {name: refuses}]");
    let [takes_it, refuses_it] = [("takes", &takes), ("refuses", &refuses)]
        .map(|(name, upstream)| destination(name, upstream, "headers: {forward: [X-Planted]}"));
    stage.apply(&[webhook, takes_it, refuses_it].join("---")).await;

    let intake = stage.ingester().intake.unwrap();
    let mut source = None;
    until("the intake has its certificate", async || {
        source = Source::try_connect(intake, certificate.roots()).await;
        source.is_some()
    })
    .await;
    post(&planted, source.unwrap()).await;
    let requests = [takes.wait_for(2).await, refuses.wait_for(2).await];
    for needle in [&planted.body, &planted.header, &planted.cloud_event] {
        for received in &requests {
            let parts = received.iter().flat_map(|it| it.headers.iter().map(|(_, value)| &**value).chain([&*it.body]));
            assert!(needle.is_in(&parts.collect::<Vec<_>>().concat()), "{} did not reach the target", needle.word());
        }
    }

    people_see_it(&stage, &planted).await;
    the_operator_may_not_ask(&stage).await;
    the_operator_is_no_peer(&stage, &mesh, between.1).await;
    the_operator_takes_no_event(&stage, &planted).await;
    // What else it does while events are there.
    rights::rotation(&stage).await;
    until("it has heard of both", async || {
        ["\"hook\"", "\"takes\"", "\"refuses\""]
            .iter()
            .all(|said| memchr::memmem::find(&tap.heard(), said.as_bytes()).is_some())
    })
    .await;
    is_in_nothing(&stage, &planted, &tap).await;
    stage.stop().await;
}

/// Delivered and refused by the target; refused at the intake for want of a secret, and for want of a Webhook.
async fn post(planted: &Planted, mut source: Source) {
    let good = "authorization: Bearer correct-horse";
    let header = format!("x-planted: {}", planted.header.word());
    let (path, body) = (format!("{HOOK}?q={}", planted.query.word()), json!({"id": "1", "data": planted.body.word()}));
    let headers = format!("{good}\r\n{header}\r\ncontent-type: application/json");
    until("the Webhook is served", async || source.post_with(&path, &headers, &body.to_string()).await == 202).await;
    let word = planted.cloud_event.word();
    let event = json!({
        "specversion": "1.0", "id": planted.id.word(), "source": format!("/{word}"), "type": word, "subject": word, "data": {"a": word},
    });
    let headers = format!("{good}\r\n{header}\r\ncontent-type: application/cloudevents+json");
    assert_eq!(source.post_with(&path, &headers, &event.to_string()).await, 202);
    let (word, body) = (planted.refused.word(), json!({"data": planted.refused.word()}).to_string());
    let headers = format!("authorization: Bearer {word}\r\nx-planted: {word}\r\ncontent-type: application/{word}");
    assert_eq!(source.post_with(&format!("{HOOK}?q={word}"), &headers, &body).await, 401);
    let path = format!("/team-a/{}", planted.path.word());
    assert_eq!(source.post_with(&path, good, &body).await, 404);
}

/// Those whom RBAC lets, through the API server, from the data plane.
async fn people_see_it(stage: &Stage, planted: &Planted) {
    rights::aggregated_api(stage).await;
    let read = async |path: String| -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        serde_json::from_str(&stage.admin().request_text(request).await.unwrap()).unwrap()
    };
    let letters = format!("{DATA}/namespaces/team-a/deadletters");
    until("both are dead letters", async || read(letters.clone()).await["items"].as_array().unwrap().len() == 2).await;
    let mut seen = String::new();
    for letter in read(letters.clone()).await["items"].as_array().unwrap() {
        let name = letter["metadata"]["name"].as_str().unwrap();
        seen += &read(format!("{letters}/{name}/payload")).await.to_string();
    }
    for needle in [&planted.body, &planted.cloud_event] {
        assert!(needle.is_in(seen.as_bytes()), "people do not see {}: {seen}", needle.word());
    }
}

/// The same requests with the operator's token.
async fn the_operator_may_not_ask(stage: &Stage) {
    let operator = stage.client("zen-operator");
    let within = format!("{DATA}/namespaces/team-a");
    for path in ["deadletters", "deadletters/x", "deadletters/x/payload", "webhookevents", "webhookevents/x", "replays"]
    {
        let request = http::Request::get(format!("{within}/{path}")).body(Vec::new()).unwrap();
        let refused = operator.request_text(request).await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{path}: {refused:?}");
    }
}

/// What replicas show each other is not shown to the operator, whatever its certificate (T-05).
async fn the_operator_is_no_peer(stage: &Stage, mesh: &Mesh, ingester: SocketAddr) {
    let operator = tap::identity(&stage.issuer().await, stage.bundle(), mesh, Component::Operator);
    let client = mtls::Client::new(&operator);
    let peer = |component, address| Peer { address, id: mesh.id(component).clone() };
    let (ingester, egress) = (peer(Component::Ingester, ingester), peer(Component::Egress, stage.egress().control));
    for (method, path) in [
        (Method::GET, "/v1/admin/status"),
        (Method::GET, "/v1/admin/events"),
        (Method::GET, "/v1/admin/events/x"),
        (Method::GET, "/v1/admin/dead-letters"),
        (Method::GET, "/v1/admin/dead-letters/x?payload=true"),
        (Method::POST, "/v1/admin/replays"),
        (Method::GET, zen_identity::control::ADOPT),
        (Method::POST, zen_identity::control::ADOPT),
    ] {
        for (peer, refused) in [(&ingester, 403), (&egress, 404)] {
            let answer = client.request(peer, method.clone(), path, Some("{}".into())).await.unwrap();
            assert_eq!(answer.status(), refused, "{method} {path} at {}: {answer:?}", peer.id);
        }
    }
}

/// Events that somebody posts to where it listens: nobody serves such a path, and nothing of them is kept.
async fn the_operator_takes_no_event(stage: &Stage, planted: &Planted) {
    let tls = zen_pki::named_client(&TrustRoots::from_pem(stage.bundle()).unwrap(), None).unwrap();
    let host = format!("zen-operator.{NAMESPACE}.svc");
    let body = json!({"specversion": "1.0", "data": planted.body.word()}).to_string();
    for address in [stage.identity_service(), stage.hub.address()] {
        for path in [HOOK, "/v1/events", "/v1/enrollments/a/b", "/v1/identity"] {
            let uri = format!("{path}?q={}", planted.query.word());
            let request = http::Request::post(uri).header("host", &host).header("x-planted", planted.header.word());
            let request = request.body(Full::from(body.clone())).unwrap();
            let name = rustls_pki_types::ServerName::try_from(host.clone()).unwrap();
            let patience = std::time::Duration::from_secs(10);
            let answer = zen_identity::exchange::exchange(address, name, tls.clone(), request, patience, 1 << 20).await;
            let answer = answer.unwrap();
            assert!(answer.status().is_client_error(), "{address} {path}: {answer:?}");
            assert!(planted.all().iter().all(|needle| !needle.is_in(answer.body())), "{path}: {answer:?}");
        }
    }
    let (status, _) = get(stage.operator_admin(), &format!("/metrics/{}", planted.path.word())).await;
    assert_eq!(status, 404);
}

async fn is_in_nothing(stage: &Stage, planted: &Planted, tap: &Tap) {
    planted.are_not_in("what the operator and the ingester told each other", &tap.heard(), "\"hook\"");
    planted.are_not_in("the API server's audit log", &stage.recorded(), "\"name\":\"hook\"");
    planted.are_not_in("what the API server has", &objects(stage.admin()).await, "zen-mesh-trust");
    let forms: Vec<_> = planted.all().into_iter().flat_map(Needle::forms).collect();
    let found: Vec<_> = stage.found_in_etcd(&forms).into_iter().map(String::from_utf8_lossy).collect();
    assert!(found.is_empty(), "etcd has {found:?}");
    assert_eq!(stage.found_in_etcd(&[b"correct-horse"]).len(), 1, "the search finds what is there");
    for (what, admin) in [
        ("operator", stage.operator_admin()),
        // The operator reads them.
        ("ingester", stage.ingester_admin()),
        ("egress", stage.egress_admin()),
    ] {
        planted.are_not_in(&format!("metrics of the {what}"), get(admin, "/metrics").await.1.as_bytes(), "# EOF");
    }
    planted.are_not_in("the operator's audit log", &content(&stage.operator_files()), "certificate.issue");
    planted.are_not_in("the audit store", &content(&stage.entries()), "certificate.issue");
    planted.are_not_in("the operator's log", &log::of_control_plane(), "zen_operator");
}

/// Every object of every kind, but for those that the data plane serves itself.
async fn objects(client: Client) -> Vec<u8> {
    let mut all = Vec::new();
    let discovery = Discovery::new(client.clone()).exclude(&["data.zen-mesh.io"]).run().await.unwrap();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::LIST) {
                let api: Api<kube::core::DynamicObject> = Api::all_with(client.clone(), &resource);
                all.extend(serde_json::to_vec(&api.list(&kube::api::ListParams::default()).await.unwrap()).unwrap());
            }
        }
    }
    all
}

/// Of every file of a folder.
fn content(folder: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { content(&path) } else { std::fs::read(&path).unwrap() });
    }
    all
}
