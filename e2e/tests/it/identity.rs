//! The identity service on a real API server: what the API server says of tokens, and of Secrets that two make at one time
//! (T-02, T-03).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zen_e2e::ControlPlane;
use zen_identity::client::{Error, Issuer as _, Options, Remote, StaticResolver};
use zen_identity::{Component, Mesh};
use zen_operator::identity::{CA, ISSUER, Service, Settings, Source};
use zen_operator::writer::{Metrics, Writer};
use zen_runtime::lease::Leadership;

pub const NAMESPACE: &str = "zen-mesh";
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn mesh() -> Mesh {
    Mesh::new(&"zen-mesh.local".parse().unwrap(), NAMESPACE).unwrap()
}

fn replica(client: &Client) -> Service {
    replica_with(client, Settings::new(mesh(), Duration::from_hours(1), []))
}

/// A replica that holds itself for the leader; ends with the runtime of the test.
pub fn replica_with(client: &Client, settings: Settings) -> Service {
    // Nobody changes the settings here.
    let (_, settings) = watch::channel(settings);
    let service = Service::new(client.clone(), Source::Secret, settings, &mut Registry::default());
    let writer = Writer::new(client.clone(), Leadership::unguarded(), "zen-operator-0", Metrics::default());
    let running = service.clone();
    tokio::spawn(async move { Box::pin(running.run()).await });
    let keeping = service.clone();
    tokio::spawn(async move { keeping.keep(&writer, None).await });
    service
}

pub async fn make_namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

/// An account with a pod; the pod's UID.
pub async fn make_pod(client: &Client, namespace: &str, account: &str) -> String {
    let made: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": account}})).unwrap();
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &made).await.unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": account},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]},
    }))
    .unwrap();
    let pod = Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &pod).await.unwrap();
    pod.metadata.uid.unwrap()
}

/// A token as the kubelet projects it, or without a pod.
pub async fn token(client: &Client, namespace: &str, account: &str, audience: &str, uid: Option<&str>) -> String {
    let bound = uid.map(|uid| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(account.to_owned()),
        uid: Some(uid.to_owned()),
    });
    let spec = TokenRequestSpec {
        audiences: Some(vec![audience.to_owned()]),
        bound_object_ref: bound,
        expiration_seconds: Some(600),
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token.unwrap()
}

pub fn remote(folder: &Path, port: u16) -> (Options, Remote) {
    let mut options = Options::new(format!("https://zen-operator.zen-mesh.svc:{port}"));
    options.token = folder.join("token");
    options.roots = folder.join("ca.crt");
    options.folder = folder.join("identity");
    let names = HashMap::from([("zen-operator.zen-mesh.svc".to_owned(), vec![[127, 0, 0, 1].into()])]);
    let remote = Remote::with_resolver(&options, Arc::new(StaticResolver(names))).unwrap();
    (options, remote)
}

#[tokio::test]
async fn pods_of_the_mesh_get_certificates_by_their_tokens_and_nobody_else_does() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    for namespace in [NAMESPACE, "team-a"] {
        make_namespace(&client, namespace).await;
    }
    let service = replica(&client);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (serving, end) = (service.clone(), CancellationToken::new());
    let ended = end.clone();
    tokio::spawn(async move { serving.serve(listener, ended).await });
    timeout(PATIENCE, service.identity()).await.expect("a CA in time");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), service.bundle().unwrap().as_ref()).unwrap();
    let (options, remote) = remote(folder.path(), port);
    let use_token = |token: &str| std::fs::write(&options.token, token).unwrap();
    let uid = make_pod(&client, NAMESPACE, "zen-ingester").await;
    let other = make_pod(&client, NAMESPACE, "default-like").await;
    let foreign = make_pod(&client, "team-a", "zen-ingester").await;

    let ours = "zen-mesh-identity";
    let cases = [
        ("no pod", token(&client, NAMESPACE, "zen-ingester", ours, None).await, "TokenNotPodBound"),
        (
            "for the API server",
            token(&client, NAMESPACE, "zen-ingester", "https://kubernetes.default.svc.cluster.local", Some(&uid)).await,
            "TokenInvalid",
        ),
        ("another account", token(&client, NAMESPACE, "default-like", ours, Some(&other)).await, "AccountNotPermitted"),
        (
            "another namespace",
            token(&client, "team-a", "zen-ingester", ours, Some(&foreign)).await,
            "AccountNotPermitted",
        ),
        ("nonsense", "nonsense".to_owned(), "TokenInvalid"),
    ];
    for (what, token, code) in cases {
        use_token(&token);
        match remote.who(None).await {
            Err(Error::Refused(refused)) => assert_eq!(refused.code, code, "{what}"),
            answer => panic!("{what}: {answer:?}"),
        }
    }

    use_token(&token(&client, NAMESPACE, "zen-ingester", ours, Some(&uid)).await);
    let pod = zen_identity::Client::with_issuer(options.clone(), Arc::new(remote));
    let identity = timeout(PATIENCE, pod.obtain()).await.expect("in time");
    assert_eq!(identity.id(), mesh().id(Component::Ingester));
    timeout(PATIENCE, pod.obtain_serving(&identity)).await.expect("in time");

    // The pod is gone: its token is worth nothing any more.
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.delete("zen-ingester", &DeleteParams::default().grace_period(0)).await.unwrap();
    let (_, remote) = self::remote(folder.path(), port);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // The API server remembers a token for some seconds.
        match remote.who(Some(&identity)).await {
            Err(Error::Refused(refused)) if refused.code == "TokenInvalid" => break,
            answer => assert!(tokio::time::Instant::now() < deadline, "{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    end.cancel();
}

#[tokio::test]
async fn of_many_that_begin_at_one_time_one_ca_remains() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    make_namespace(&client, NAMESPACE).await;
    // No election here: all of them believe that they lead.
    let replicas = [(); 4].map(|()| replica(&client));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    for replica in &replicas {
        timeout(PATIENCE, replica.identity()).await.expect("a CA in time");
    }
    let root = secrets.get(CA).await.unwrap();
    let issuer = secrets.get(ISSUER).await.unwrap();
    let text = String::from_utf8(root.data.as_ref().unwrap()["tls.crt"].0.clone()).unwrap();
    for replica in &replicas {
        assert_eq!(replica.bundle().as_deref(), Some(text.as_str()));
        assert_eq!(replica.problem(), None);
    }
    // Written once each, whoever it was.
    for secret in [&root, &issuer] {
        let managers = secret.metadata.managed_fields.as_ref().unwrap();
        assert_eq!(managers.len(), 1, "{managers:?}");
    }
    // A root that exists cannot be changed by mistake.
    let patch = json!({"data": {"tls.key": "AAAA"}});
    let merge = kube::api::Patch::Merge(&patch);
    assert!(secrets.patch(CA, &kube::api::PatchParams::default(), &merge).await.is_err());
}
