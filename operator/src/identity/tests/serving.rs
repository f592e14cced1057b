//! The API: who gets a certificate, and every way not to (T-02, T-05).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use zen_identity::client::{Options, Remote, StaticResolver};
use zen_identity::wire::{Certificate, CertificateRequest, Usage, Who};
use zen_identity::{Client, Component};
use zen_model::reason::TrustRefusal;
use zen_pki::{KeyPairAndChain, Names, SpiffeId, TrustRoots, signing_request};
use zen_testkit::api_server::{Call, Reply};

use super::super::{Source, service};
use super::cluster::{Cluster, REVIEWS, Replica, mesh};

fn review(account: &str) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["zen-mesh-identity"],
        "user": {
            "username": format!("system:serviceaccount:zen-mesh:{account}"),
            "extra": {
                "authentication.kubernetes.io/pod-name": [format!("{account}-0")],
                "authentication.kubernetes.io/pod-uid": [format!("uid-{account}")],
            },
        },
    })
}

fn reviewed(status: &Value) -> Reply {
    Reply::ok(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                     "spec": {"token": ""}, "status": status}))
}

/// A replica that issues; tokens are the names of the accounts.
pub(super) async fn ready() -> (Cluster, Replica, Router) {
    let cluster = Cluster::new();
    for account in ["zen-ingester", "zen-egress", "zen-audit", "zen-operator", "default"] {
        let of = Call::post(REVIEWS).body(move |body| {
            body["spec"]["token"] == account && body["spec"]["audiences"] == json!(["zen-mesh-identity"])
        });
        cluster.server.allow(of, reviewed(&review(account)));
    }
    let replica = cluster.start(Source::Secret, true);
    replica.service.identity().await;
    let router = service::router(Arc::clone(&replica.service.0));
    (cluster, replica, router)
}

pub(super) fn post(account: &str, csr: &str, usage: Usage) -> Request<Body> {
    let body = serde_json::to_vec(&CertificateRequest { csr: csr.to_owned(), usage }).expect("JSON");
    raw(account, body)
}

pub(super) fn raw(account: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("/v1/certificates").header("authorization", format!("Bearer {account}"));
    request.body(body.into()).expect("a request")
}

pub(super) fn csr(component: Component) -> (String, zen_model::Secret) {
    signing_request(&Names::Workload(mesh().id(component).clone())).expect("a request")
}

pub(super) async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let retry = response.headers().contains_key("retry-after");
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let code = body["code"].as_str().and_then(TrustRefusal::from_code);
    assert_eq!(retry, code.is_some_and(|code| code.retry_after().is_some()));
    (status, body)
}

pub(super) async fn refused(router: &Router, request: Request<Body>) -> &'static str {
    let (status, body) = answer(router, request).await;
    let reason = body["code"].as_str().and_then(TrustRefusal::from_code).expect("a code of the table");
    assert_eq!(status.as_u16(), reason.status());
    assert!(!body["request_id"].as_str().unwrap_or_default().is_empty());
    reason.code()
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_what_is_due_and_nothing_else() {
    let (cluster, replica, router) = ready().await;
    let request = Request::get("/v1/identity").header("authorization", "bearer zen-ingester");
    let (status, body) = answer(&router, request.body(Body::empty()).expect("a request")).await;
    let who: Who = serde_json::from_value(body).expect("who");
    assert_eq!((status.as_u16(), who.spiffe_id.as_str()), (200, mesh().id(Component::Ingester).as_str()));
    assert_eq!(who.lifetime_seconds, 3600);

    let (request, key) = csr(Component::Ingester);
    let (status, body) = answer(&router, post("zen-ingester", &request, Usage::Workload)).await;
    assert_eq!(status.as_u16(), 200, "{body}");
    let certificate: Certificate = serde_json::from_value(body).expect("a certificate");
    let pair = KeyPairAndChain::from_pem(&certificate.chain, &key).expect("of the key");
    let now = (cluster.clock)();
    pair.verify(&TrustRoots::from_pem(&certificate.roots).expect("roots"), now).expect("verifies");
    assert_eq!(pair.names(), Some(Names::Workload(mesh().id(Component::Ingester).clone())));
    let validity = pair.validity();
    let lifetime = validity.until.since(now);
    assert!(lifetime <= Duration::from_hours(1) && lifetime > Duration::from_mins(59), "{lifetime:?}");
    assert!(now.since(validity.from) >= Duration::from_mins(5));

    let names: BTreeSet<_> = who.serving_names.into_iter().collect();
    assert!(names.contains("hooks.example.com") && names.contains("zen-ingester-api.zen-mesh.svc"));
    let (request, _) = signing_request(&Names::Server(names)).expect("a request");
    let (status, _) = answer(&router, post("zen-ingester", &request, Usage::Serving)).await;
    assert_eq!(status.as_u16(), 200);
    let (request, _) = signing_request(&Names::Server(["a.example".to_owned()].into())).expect("a request");
    assert_eq!(refused(&router, post("zen-egress", &request, Usage::Serving)).await, "UsageNotPermitted");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &replica.registry).expect("encoded");
    for line in [
        "certificates_issued_total{account=\"zen-ingester\",usage=\"serving\"} 1",
        "identity_refusals_total{code=\"UsageNotPermitted\"} 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_code() {
    let (_cluster, _replica, router) = ready().await;
    let (good, _) = csr(Component::Egress);
    let get = |path: &str| Request::get(path.to_owned()).body(Body::empty()).expect("a request");
    assert_eq!(refused(&router, get("/v1/identity")).await, "TokenMissing");
    assert_eq!(refused(&router, get("/v1/other")).await, "NotFound");
    assert_eq!(refused(&router, get("/v1/certificates")).await, "NotFound");
    for header in ["Basic zen-egress", "zen-egress", "Bearer"] {
        let request = Request::get("/v1/identity").header("authorization", header);
        assert_eq!(refused(&router, request.body(Body::empty()).expect("a request")).await, "TokenMissing", "{header}");
    }
    let twice = Request::get("/v1/identity").header("authorization", "Bearer a").header("authorization", "Bearer b");
    assert_eq!(refused(&router, twice.body(Body::empty()).expect("a request")).await, "TokenMissing");
    let long = "x".repeat(20 << 10);
    assert_eq!(refused(&router, post(&long, &good, Usage::Workload)).await, "TokenInvalid");
    for account in ["zen-operator", "default"] {
        assert_eq!(refused(&router, post(account, &good, Usage::Workload)).await, "AccountNotPermitted");
    }
    for body in ["", "{}", "null", "[]", r#"{"csr":"","usage":"signing"}"#, r#"{"csr":"","usage":"workload","x":1}"#] {
        assert_eq!(refused(&router, raw("zen-egress", body)).await, "BadRequest", "{body}");
    }
    assert_eq!(refused(&router, raw("zen-egress", " ".repeat(33 << 10))).await, "RequestTooLarge");
    assert_eq!(refused(&router, post("zen-egress", "nonsense", Usage::Workload)).await, "CsrMalformed");
    let (theirs, _) = csr(Component::Operator);
    assert_eq!(refused(&router, post("zen-egress", &theirs, Usage::Workload)).await, "CsrNamesDiffer");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_presented_must_be_the_pods() {
    let (_cluster, _replica, router) = ready().await;
    let (good, _) = csr(Component::Egress);
    let with = |peer: Component| {
        let mut request = post("zen-egress", &good, Usage::Workload);
        request.extensions_mut().insert::<SpiffeId>(mesh().id(peer).clone());
        request
    };
    assert_eq!(answer(&router, with(Component::Egress)).await.0.as_u16(), 200);
    assert_eq!(refused(&router, with(Component::Ingester)).await, "CertificateMismatch");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_too_often_waits() {
    let (_cluster, _replica, router) = ready().await;
    let (good, _) = csr(Component::Egress);
    let mut answers = Vec::new();
    for _ in 0..25 {
        answers.push(answer(&router, post("zen-egress", &good, Usage::Workload)).await.0.as_u16());
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 20, "{answers:?}");
    assert_eq!(answers.last(), Some(&429));
    let (other, _) = csr(Component::Ingester);
    assert_eq!(answer(&router, post("zen-ingester", &other, Usage::Workload)).await.0.as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_nobody_is_believed() {
    let (cluster, _replica, router) = ready().await;
    let (good, _) = csr(Component::Egress);
    for reply in [Reply::unavailable(), Reply::forbidden(), Reply::never(), Reply::ok(json!({"kind": "Other"}))] {
        cluster.server.allow(Call::post(REVIEWS), reply);
        assert_eq!(refused(&router, post("zen-egress", &good, Usage::Workload)).await, "ReviewUnavailable");
    }
}

#[tokio::test(start_paused = true)]
async fn before_there_is_a_ca_nothing_is_issued() {
    let cluster = Cluster::new();
    let replica = cluster.start(Source::Secret, false);
    let router = service::router(Arc::clone(&replica.service.0));
    let (good, _) = csr(Component::Egress);
    assert_eq!(refused(&router, post("zen-egress", &good, Usage::Workload)).await, "IssuerUnavailable");
    assert!(replica.service.problem().is_some());
}

/// The pod's client against the service over real TLS: the first certificate, then one more with the first presented.
#[tokio::test]
async fn a_pod_obtains_and_renews_over_tls() {
    let (_cluster, replica, _) = ready().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn({
        let (service, shutdown) = (replica.service.clone(), shutdown.clone());
        async move { service.serve(listener, shutdown).await }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(format!("https://zen-operator.zen-mesh.svc:{}", address.port()));
    options.token = folder.path().join("token");
    options.roots = folder.path().join("ca.crt");
    options.folder = folder.path().join("identity");
    std::fs::write(&options.token, "zen-ingester").expect("written");
    std::fs::write(&options.roots, replica.service.bundle().expect("a bundle").as_ref()).expect("written");
    let names = HashMap::from([("zen-operator.zen-mesh.svc".to_owned(), vec![address.ip()])]);
    let remote = Remote::with_resolver(&options, Arc::new(StaticResolver(names))).expect("an address");
    let client = Client::with_issuer(options, Arc::new(remote));
    let identity = client.obtain().await;
    assert_eq!(identity.id(), mesh().id(Component::Ingester));
    client.obtain_serving(&identity).await;
    assert_eq!(client.problem(), None);
    shutdown.cancel();
    serving.await.expect("no panic").expect("served");
}
