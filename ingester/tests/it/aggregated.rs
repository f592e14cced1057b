//! The aggregated API over two replicas: who may, what a namespace sees, one answer of several (K-08, C-02, T-08).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;
use zen_identity::policy::Action;
use zen_identity::server::{self, PeerCertificates, require};
use zen_ingester::admin;
use zen_ingester::aggregated::{FrontProxy, Parts, Replicas, Reviewer, router};
use zen_model::signing::{Older, Versions};
use zen_model::{DeadReason, Secret, Timestamp};
use zen_pki::{Ca, Identity, SpiffeId};
use zen_queue::Queue as _;
use zen_testkit::api_server::{ApiServer, Call, Reply};
use zen_verify::SigningKeys;

use crate::kit::{Audited, Intake};

const BASE: &str = "/apis/data.zen-mesh.io/v1alpha1";

/// Two replicas behind one API, and an API server that lets `mary` do everything in namespace `a`, and `root` anywhere.
struct Cluster {
    replicas: [Intake; 2],
    api: Router,
    certificate: PeerCertificates,
    server: ApiServer,
    peer: CancellationToken,
    audited: Audited,
    _end: DropGuard,
}

fn replica(intake: &Intake) -> Router {
    let verdicts = Arc::new(ArcSwap::from_pointee(intake.verdicts.clone()));
    admin::replica(&intake.ingester, admin::Parts { verdicts, token: Secret::new("none"), durability: "fsynced" })
}

fn front_proxy() -> (FrontProxy, PeerCertificates) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "front-proxy");
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let proxy = FrontProxy::default();
    let data = [
        ("requestheader-client-ca-file", ca.pem()),
        ("requestheader-allowed-names", r#"["front-proxy"]"#.to_owned()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
    ];
    proxy.configure(&data.map(|(key, value)| (key.to_owned(), value)).into()).unwrap();
    (proxy, PeerCertificates([leaf.der().clone()].into()))
}

impl Cluster {
    async fn start() -> Self {
        let replicas = [Intake::usual(), Intake::usual()];
        // No two replicas give out one delivery id.
        replicas[1].queue.with(|state| state.seq = 1000);
        let ca = Ca::ephemeral(&"zen-mesh.local".parse().unwrap()).unwrap();
        let id: SpiffeId = "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-ingester".parse().unwrap();
        let issued = ca.issue_workload(&id, Duration::from_hours(1)).unwrap();
        let identity = Identity::new(&issued, &ca.roots().unwrap()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Router::new().nest("/v1/admin", replica(&replicas[1]).layer(require(Action::Peer)));
        let peer = CancellationToken::new();
        let (own, end) = (identity.clone(), peer.clone());
        tokio::spawn(async move { server::serve(listener, &own, control, end).await.unwrap() });

        let server = ApiServer::new();
        let review = Call::post("/apis/authorization.k8s.io/v1/subjectaccessreviews");
        server.allow(
            review,
            Reply::with(|call| {
                let spec = &call.body["spec"];
                let allowed = match spec["user"].as_str() {
                    Some("root") => true,
                    Some("mary") => spec["resourceAttributes"]["namespace"] == "a",
                    _ => false,
                };
                json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}, "status": {"allowed": allowed}})
            }),
        );
        let (proxy, certificate) = front_proxy();
        let audited = Audited::new();
        let api = router(Parts {
            front_proxy: Arc::new(proxy),
            reviewer: Reviewer::new(server.client()),
            replicas: Replicas {
                own: replica(&replicas[0]),
                client: zen_identity::http::Client::new(&identity).with_timeout(Duration::from_secs(5)),
                peers: watch::channel(Arc::new(vec![address])).1,
            },
            signing_keys: Arc::new(signing_keys()),
            notes: audited.notes(),
        });
        let end = peer.clone().drop_guard();
        Self { replicas, api, certificate, server, peer, audited, _end: end }
    }

    async fn ask(&self, user: &str, method: Method, path: &str, body: Value) -> (u16, http::HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !user.is_empty() {
            request = request.header("x-remote-user", user);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(self.certificate.clone());
        let response = self.api.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}"));
        (head.status.as_u16(), head.headers, body)
    }

    async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        let (status, _, body) = self.ask(user, Method::GET, &format!("{BASE}/{path}"), Value::Null).await;
        (status, body)
    }

    /// So many dead letters of `a/ci` at each replica.
    async fn bury(&self, counts: [usize; 2]) {
        for (intake, count) in self.replicas.iter().zip(counts) {
            for _ in 0..count {
                intake.good("/a/hook", &[], b"MARKER").await;
            }
            intake.queue.bury("a/ci".parse().unwrap(), None, DeadReason::HoldExceeded).await.unwrap();
        }
    }
}

#[tokio::test]
async fn one_answer_of_two_replicas() {
    let cluster = Cluster::start().await;
    cluster.bury([2, 3]).await;
    let (status, list) = cluster.get("mary", "namespaces/a/deadletters").await;
    assert_eq!((status, list["kind"].as_str()), (200, Some("DeadLetterList")));
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 5);
    assert!(
        items.iter().all(|item| item["metadata"]["namespace"] == "a" && item["status"]["reason"] == "HoldExceeded")
    );
    assert!(!list.to_string().contains("MARKER"));
    assert_eq!(cluster.get("mary", "namespaces/a/deadletters?limit=4").await.1["items"].as_array().unwrap().len(), 4);
    assert_eq!(cluster.get("mary", "namespaces/a/webhookevents").await.1["items"].as_array().unwrap().len(), 5);
    let (_, mesh) = cluster.get("mary", "namespaces/a/meshstatuses").await;
    assert_eq!(mesh["items"][0]["status"]["destinations"][0]["dead"], 5);
    assert_eq!(mesh["items"][0]["status"]["webhooks"][0]["counts"]["accepted"], 5);
    assert_eq!(mesh["items"][0]["status"]["queue"]["committed"], 0, "that is not this tenant's");
    // Everything, for whom it is allowed.
    assert_eq!(cluster.get("root", "deadletters").await.1["items"].as_array().unwrap().len(), 5);
    assert_eq!(cluster.get("root", "meshstatuses").await.1["items"][0]["status"]["queue"]["committed"], 5);
    assert_eq!(cluster.get("mary", "deadletters").await.0, 403);
}

/// A drain that is taken back may leave a dead letter at two replicas (DESIGN 13).
#[tokio::test]
async fn what_two_replicas_have_is_listed_once() {
    let cluster = Cluster::start().await;
    cluster.replicas[1].queue.with(|state| state.seq = 0);
    cluster.bury([2, 3]).await;
    let (_, list) = cluster.get("mary", "namespaces/a/deadletters").await;
    let names: BTreeSet<_> =
        list["items"].as_array().unwrap().iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    assert_eq!((names.len(), list["items"].as_array().unwrap().len()), (3, 3));
}

#[tokio::test]
async fn payloads_are_shown_where_they_are_asked_for() {
    let cluster = Cluster::start().await;
    cluster.bury([1, 0]).await;
    let list = cluster.get("mary", "namespaces/a/deadletters").await.1;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let (_, plain) = cluster.get("mary", &format!("namespaces/a/deadletters/{name}")).await;
    assert!(plain["status"]["stored"]["content_hash"].is_string() && plain["status"]["stored"]["payload"].is_null());
    let (_, full) = cluster.get("mary", &format!("namespaces/a/deadletters/{name}/payload")).await;
    assert_eq!(full["status"]["stored"]["payload"], "TUFSS0VS");
    let resources: Vec<_> =
        cluster.server.received().iter().map(|call| call.body["spec"]["resourceAttributes"].clone()).collect();
    assert!(resources.iter().any(|asked| asked["subresource"] == "payload" && asked["name"] == name.as_str()));
}

/// C-02: another tenant's objects do not exist; whoever is not allowed learns nothing.
#[tokio::test]
async fn tenants_are_kept_apart() {
    let cluster = Cluster::start().await;
    cluster.bury([1, 1]).await;
    let name = cluster.get("mary", "namespaces/a/deadletters").await.1["items"][0]["metadata"]["name"].clone();
    let name = name.as_str().unwrap();
    for path in [
        "namespaces/b/deadletters".to_owned(),
        "namespaces/b/webhookevents".to_owned(),
        "namespaces/b/meshstatuses".to_owned(),
        "namespaces/b/replays".to_owned(),
        "namespaces/b/signingkeys/ci".to_owned(),
        format!("namespaces/b/deadletters/{name}/payload"),
    ] {
        let (status, body) = cluster.get("mary", &path).await;
        assert_eq!(
            (status, body["kind"].as_str(), body["reason"].as_str()),
            (403, Some("Status"), Some("Forbidden")),
            "{path}"
        );
    }
    // Who may look into b does not find there what is of a.
    assert_eq!(cluster.get("root", &format!("namespaces/b/deadletters/{name}/payload")).await.0, 404);
    assert_eq!(cluster.get("root", "namespaces/b/deadletters").await.1["items"], json!([]));
    assert_eq!(cluster.get("root", "namespaces/b/webhookevents/generated-1").await.0, 404);
    let other = json!({"spec": {"filter": {"destination": "a/ci"}}});
    let (status, _, _) = cluster.ask("root", Method::POST, &format!("{BASE}/namespaces/b/replays"), other).await;
    assert_eq!(status, 400);
    let all = json!({"spec": {"filter": {}, "dry_run": true}});
    let (_, _, dry) = cluster.ask("root", Method::POST, &format!("{BASE}/namespaces/b/replays"), all).await;
    assert_eq!(dry["status"]["count"], 0);
}

#[tokio::test]
async fn strangers_hear_nothing() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("", "namespaces/a/deadletters").await.0, 401);
    let request = Request::get(format!("{BASE}/namespaces/a/deadletters")).header("x-remote-user", "root");
    let response = cluster.api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 401, "without the front proxy's certificate");
    assert_eq!(cluster.server.received().len(), 0, "nobody was asked about them");
}

/// A-01: who was shown a payload or a key, who replayed, who was refused and why, is in the audit log; that the list was read is not.
#[tokio::test]
async fn who_was_shown_what_and_refused_what_is_audited() {
    let cluster = Cluster::start().await;
    cluster.bury([2, 0]).await;
    let list = cluster.get("mary", "namespaces/a/deadletters").await.1;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    for path in ["deadletters/NAME", "deadletters/NAME/payload", "deadletters/9-9/payload", "signingkeys/ci"] {
        cluster.get("mary", &format!("namespaces/a/{}", path.replace("NAME", name))).await;
    }
    let replays = format!("{BASE}/namespaces/a/replays");
    let spec = |dry: bool| json!({"spec": {"filter": {"destination": "a/ci"}, "dry_run": dry}});
    cluster.ask("mary", Method::POST, &replays, spec(true)).await;
    let started = cluster.ask("mary", Method::POST, &replays, spec(false)).await.2;
    let replay = started["metadata"]["name"].as_str().unwrap();
    cluster.ask("mary", Method::POST, &format!("{replays}/{replay}/cancel"), Value::Null).await;
    let mut refused = Vec::new();
    // The same again is counted, and no entry of its own.
    for _ in 0..3 {
        refused.push(cluster.get("eve", &format!("namespaces/a/deadletters/{name}/payload")).await);
        refused.push(cluster.get("", "namespaces/a/deadletters").await);
    }
    let codes: Vec<_> = refused[..2].iter().map(|it| (it.0, &it.1["details"]["causes"][0]["reason"])).collect();
    assert_eq!(codes, [(403, &json!("CallerForbidden")), (401, &json!("CallerUnproven"))], "told as it is recorded");
    let due = [
        format!("secret.access User/mary DeadLetter/a/{name}"),
        "secret.access User/mary SigningKey/a/ci".to_owned(),
        format!("administer User/mary Replay/a/{replay} start"),
        format!("administer User/mary Replay/a/{replay} cancel"),
        "authorize User/eve Listener/api CallerForbidden".to_owned(),
        "authenticate unknown Listener/api CallerUnproven".to_owned(),
    ];
    assert_eq!(cluster.audited.told().await, due);
}

#[tokio::test]
async fn a_replay_runs_at_every_replica() {
    let cluster = Cluster::start().await;
    cluster.bury([2, 3]).await;
    let path = format!("{BASE}/namespaces/a/replays");
    let spec = |dry: bool| json!({"spec": {"filter": {"destination": "a/ci"}, "dry_run": dry}});
    let (status, _, dry) = cluster.ask("mary", Method::POST, &path, spec(true)).await;
    assert_eq!((status, dry["status"]["count"].as_u64()), (200, Some(5)));
    let (status, _, started) = cluster.ask("mary", Method::POST, &path, spec(false)).await;
    assert_eq!((status, started["status"]["total"].as_u64()), (201, Some(5)));
    let name = started["metadata"]["name"].as_str().unwrap();
    loop {
        let (_, replay) = cluster.get("mary", &format!("namespaces/a/replays/{name}")).await;
        if replay["status"]["state"] == "done" {
            assert_eq!(replay["status"]["replayed"], 5);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.get("mary", "namespaces/a/replays").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(cluster.get("root", &format!("namespaces/b/replays/{name}")).await.0, 404);
    assert_eq!(cluster.get("mary", "namespaces/a/deadletters").await.1["items"], json!([]));
    let (_, _, cancelled) = cluster.ask("mary", Method::POST, &format!("{path}/{name}/cancel"), Value::Null).await;
    assert_eq!(cancelled["status"]["state"], "done");
    let nonsense = json!({"spec": {"filters": {}}});
    assert_eq!(cluster.ask("mary", Method::POST, &path, nonsense).await.0, 400);
}

#[tokio::test]
async fn a_replica_that_is_away_is_counted_and_not_named() {
    let cluster = Cluster::start().await;
    cluster.bury([1, 1]).await;
    cluster.peer.cancel();
    let (status, headers, list) = loop {
        let path = format!("{BASE}/namespaces/a/deadletters");
        let answer = cluster.ask("mary", Method::GET, &path, Value::Null).await;
        if answer.1.contains_key("warning") {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((status, list["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(headers["warning"], "299 - \"this answer is not complete: 1 of 2 replicas did not answer\"");
    // It may be there: not "no such thing".
    for path in ["deadletters/9-9", "webhookevents/none", "replays/none"] {
        let (status, body) = cluster.get("mary", &format!("namespaces/a/{path}")).await;
        assert_eq!((status, body["message"].as_str()), (503, Some("1 of 2 replicas did not answer")), "{path}");
    }
    let replays = format!("{BASE}/namespaces/a/replays");
    let spec = |dry: bool| json!({"spec": {"filter": {}, "dry_run": dry}});
    assert_eq!(cluster.ask("mary", Method::POST, &replays, spec(true)).await.0, 503);
    // The others' share is replayed, and the caller is told of the rest.
    let (status, headers, _) = cluster.ask("mary", Method::POST, &replays, spec(false)).await;
    assert_eq!((status, headers.contains_key("warning")), (201, true));
}

#[tokio::test]
async fn kubectl_finds_its_way() {
    let cluster = Cluster::start().await;
    cluster.bury([1, 0]).await;
    let (_, list) = cluster.get("nobody", "").await;
    assert_eq!(list["reason"], "NotFound");
    let (status, _, resources) = cluster.ask("nobody", Method::GET, BASE, Value::Null).await;
    assert_eq!((status, resources["kind"].as_str()), (200, Some("APIResourceList")));
    let resources = resources["resources"].as_array().unwrap();
    assert!(resources.iter().all(|resource| !resource["verbs"].to_string().contains("delete")));

    let mut request = Request::get(format!("{BASE}/namespaces/a/deadletters?limit=500")).body(Body::empty()).unwrap();
    request.headers_mut().insert("x-remote-user", HeaderValue::from_static("mary"));
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    request.headers_mut().insert("accept", HeaderValue::from_static(accept));
    request.extensions_mut().insert(cluster.certificate.clone());
    let response = cluster.api.clone().oneshot(request).await.unwrap();
    let table: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        (table["kind"].as_str(), table["columnDefinitions"][1]["name"].as_str()),
        (Some("Table"), Some("Destination"))
    );
    assert_eq!(table["rows"][0]["cells"][1], "a/ci");

    for (path, expected) in [
        ("namespaces/a/deadletters?labelSelector=a%3Db", 400),
        ("namespaces/a/deadletters?watch=true", 405),
        ("namespaces/a/deadletters?reason=Nonsense", 400),
        ("namespaces/a/deadletters/1-1?x=y", 404),
        ("namespaces/a/nonsense", 404),
    ] {
        assert_eq!(cluster.get("mary", path).await.0, expected, "{path}");
    }
    let (status, _, body) =
        cluster.ask("mary", Method::DELETE, &format!("{BASE}/namespaces/a/deadletters"), Value::Null).await;
    assert_eq!((status, body["reason"].as_str()), (405, Some("MethodNotAllowed")));
}

/// In the time in which targets may have either.
fn signing_keys() -> SigningKeys {
    let older = vec![Older { version: 1, until: Timestamp::from_secs(1_700_000_000) }];
    SigningKeys::of_pod(Secret::new([7; 32]), "zen-ingester-0", Versions { current: 2, next: None, older })
}

/// D-09: who administers a target is shown each key that it may have, and until when.
#[tokio::test]
async fn the_keys_of_a_target_are_shown_with_their_versions_and_ends() {
    let cluster = Cluster::start().await;
    let (status, key) = cluster.get("mary", "namespaces/a/signingkeys/ci").await;
    let (status_of, keys) = (&key["status"], key["status"]["keys"].as_array().unwrap());
    assert_eq!(
        (status, status_of["destination"].as_str(), status_of["key_id"].as_str()),
        (200, Some("a/ci"), Some("2"))
    );
    assert_eq!(keys[0], json!({"key_id": "2", "key": status_of["key"], "until": null}));
    assert_eq!(
        (keys.len(), &keys[1]["key_id"], &keys[1]["until"]),
        (2, &json!("1"), &json!("2023-11-14T22:13:20.000Z"))
    );
    assert_ne!(keys[0]["key"], keys[1]["key"]);
}
