//! A server in place of the unseal API: what it is asked, and what is made of its answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use zen_compile::Plane;
use zen_crds::SubjectKind;
use zen_identity::client::StaticResolver;
use zen_identity::server::serve_tls;
use zen_pki::{Ca, HotCertificate, intake_server};

use super::*;

/// What the server says, and what it heard: `Authorization` and the body.
#[derive(Debug)]
struct Script {
    says: Mutex<(StatusCode, Value)>,
    heard: Mutex<Vec<(String, Value)>>,
}

impl Script {
    fn say(&self, status: StatusCode, body: Value) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    }

    fn heard(&self) -> Vec<(String, Value)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let token = headers[AUTHORIZATION].to_str().expect("text").to_owned();
    let body = serde_json::from_slice(&body).expect("JSON");
    script.heard.lock().unwrap_or_else(PoisonError::into_inner).push((token, body));
    let (status, says) = script.says.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (status, says.to_string())
}

struct Stage {
    api: Api,
    script: Arc<Script>,
    folder: TempDir,
    _server: AbortOnDropHandle<()>,
}

fn ca() -> Ca {
    Ca::ephemeral(&"zen-mesh.local".parse().expect("a domain")).expect("a CA")
}

/// The server has a certificate of this CA, and the client trusts that one.
async fn stage(server: &Ca, trusted: &Ca) -> Stage {
    let lifetime = Duration::from_hours(1);
    let certificate = server.issue_server(&["unseal.example".to_owned()], lifetime).expect("issued");
    let tls = intake_server(&HotCertificate::new(&certificate).expect("a certificate")).expect("a configuration");
    let script = Script { says: Mutex::new((StatusCode::OK, Value::Null)), heard: Mutex::default() };
    let script = Arc::new(script);
    let router = Router::new().route(BATCH, post(answer)).with_state(Arc::clone(&script));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = serve_tls(listener, tls, router, CancellationToken::new(), |_, _| {});
    let server = AbortOnDropHandle::new(tokio::spawn(serving));
    let folder = tempfile::tempdir().expect("a folder");
    let (token, trust) = (folder.path().join("token"), folder.path().join("ca.crt"));
    std::fs::write(&token, "first\n").expect("writes");
    std::fs::write(&trust, trusted.certificate_pem()).expect("writes");
    let local = HashMap::from([("unseal.example".to_owned(), vec![[127, 0, 0, 1].into()])]);
    let url = format!("https://unseal.example:{port}");
    let api = Api::new(&url, &token, &trust, Arc::new(StaticResolver(local))).expect("an address");
    Stage { api, script, folder, _server: server }
}

fn used(kind: SubjectKind, name: &str, lock: &str) -> LockUse {
    LockUse { lock: ObjectKey::new("team-a", lock), kind, name: name.into(), plane: Plane::Ingester }
}

fn uses() -> Vec<LockUse> {
    vec![
        used(SubjectKind::Webhook, "github", "hook"),
        used(SubjectKind::Destination, "ci", "hook"),
        used(SubjectKind::Webhook, "github", "other"),
    ]
}

fn good() -> Value {
    json!({
        "locks": [{
            "namespace": "team-a", "name": "hook", "resourceVersion": "7",
            "data": {"secret": "TUFSS0VS"}, "failed": {"old": "CorruptCiphertext", "new": "OfAnotherRelease"},
        }],
        "verdicts": [
            null,
            {"code": "SubjectNotAllowed", "message": "not listed"},
            {"code": "OfAnotherRelease", "message": "who knows"},
        ],
    })
}

#[tokio::test]
async fn each_use_is_asked_for_with_the_token_of_the_moment() {
    let ca = ca();
    let stage = stage(&ca, &ca).await;
    stage.script.say(StatusCode::OK, good());
    let answer = stage.api.unseal(&uses()).await.expect("an answer");
    let hook = &answer.opened[&ObjectKey::new("team-a", "hook")];
    assert_eq!(hook["secret"].as_ref().expect("open").expose(), b"MARKER");
    assert_eq!(hook["old"], Err(LockReason::CorruptCiphertext));
    assert_eq!(hook["new"], Err(LockReason::UnknownKey), "a code of another release");
    let refused = |index: usize| answer.refused.get(&uses()[index]).map(|refused| refused.reason);
    assert_eq!([refused(0), refused(1), refused(2)], [None, Some(Some(LockRefusal::SubjectNotAllowed)), Some(None)]);
    std::fs::write(stage.folder.path().join("token"), "second").expect("writes");
    stage.api.unseal(&uses()).await.expect("an answer");
    assert_eq!(stage.api.metrics.requests.get_or_create(&[("result", "answered")]).get(), 2);
    let heard = stage.script.heard();
    assert_eq!((heard[0].0.as_str(), heard[1].0.as_str()), ("Bearer first", "Bearer second"));
    let github = json!({"kind": "Webhook", "namespace": "team-a", "name": "github"});
    assert_eq!(heard[0].1["uses"][0], json!({"subject": github, "lock": "hook"}));
}

/// Whoever is not of the mesh gets no token.
#[tokio::test]
async fn a_stranger_is_told_nothing() {
    let stage = stage(&ca(), &ca()).await;
    stage.script.say(StatusCode::OK, good());
    let error = stage.api.unseal(&uses()).await.expect_err("a stranger").to_string();
    assert!(error.contains("https://unseal.example") && error.contains("TLS"), "{error}");
    assert!(stage.script.heard().is_empty());
    assert_eq!(stage.api.metrics.requests.get_or_create(&[("result", "unanswered")]).get(), 1);
}

#[tokio::test]
async fn an_answer_that_is_none_says_what_was_asked_and_no_value() {
    let ca = ca();
    let stage = stage(&ca, &ca).await;
    let refusal = |code: &str| json!({"code": code, "message": "it says why", "request_id": "r-1"});
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut answer = good();
        change(&mut answer);
        answer
    };
    for (status, says, expected) in [
        (StatusCode::UNAUTHORIZED, refusal("TokenInvalid"), "refuses to answer (TokenInvalid): it says why"),
        (StatusCode::SERVICE_UNAVAILABLE, refusal("ApiUnavailable"), "refuses to answer (ApiUnavailable): it says why"),
        // A release before it knew of batches.
        (StatusCode::NOT_FOUND, json!("nothing here"), "gives no answer: 404 Not Found"),
        (StatusCode::OK, json!({"locks": [{"data": "TUFSS0VS"}]}), "it is malformed at line 1"),
        (
            StatusCode::OK,
            changed(&|it| it["locks"][0]["data"]["secret"] = "MARKER!".into()),
            "it is malformed at line 1",
        ),
        (StatusCode::OK, changed(&|it| it["verdicts"][2] = Value::Null), "it is about other ZenLocks"),
        (StatusCode::OK, changed(&|it| it["verdicts"] = json!([null])), "it is about other ZenLocks"),
    ] {
        stage.script.say(status, says);
        let error = stage.api.unseal(&uses()).await.expect_err(expected).to_string();
        assert!(error.starts_with("https://unseal.example") && error.contains(expected), "{error}");
        assert!(!error.contains("MARKER") && !error.contains("TUFS") && !error.contains("first"), "{error}");
    }
    for file in ["token", "ca.crt"] {
        std::fs::remove_file(stage.folder.path().join(file)).expect("removes");
        let error = stage.api.unseal(&uses()).await.expect_err("no file").to_string();
        assert!(error.contains(file), "{error}");
        std::fs::write(stage.folder.path().join(file), "x").expect("writes");
    }
}

#[test]
fn without_an_address_nothing_opens_them() {
    let of = |url: Option<&str>| {
        let arguments = Arguments { unseal_url: url.map(str::to_owned), unseal_token: PathBuf::new() };
        arguments.zen_locks(Path::new("ca.crt"), Arc::new(StaticResolver(HashMap::new())), &Metrics::default())
    };
    assert!(matches!(of(None), Ok(ZenLocks::Unsupported)) && matches!(of(Some("")), Ok(ZenLocks::Unsupported)));
    assert!(matches!(of(Some("https://zenlock-webhook.zen-mesh.svc")), Ok(ZenLocks::Opened(_))));
    for url in ["http://zenlock-webhook.zen-mesh.svc", "nonsense"] {
        assert!(of(Some(url)).is_err(), "{url}");
    }
}
