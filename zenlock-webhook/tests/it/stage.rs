//! A control plane, an identity service that only signs, and the running webhook, registered by its address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use zen_e2e::ControlPlane;
use zen_identity::client::{Answering, Error, Issuer, Options, StaticResolver};
use zen_identity::wire::{Certificate, CertificateRequest, Usage, Who};
use zen_identity::{Component, Mesh};
use zen_lock::Identity;
use zen_model::Timestamp;
use zen_pki::{Ca, Names, SigningRequest};
use zen_pod::Platform;
use zen_runtime::Shutdown;
use zen_testkit::Reserved;
use zenlock_webhook::audit::{Auditor, Entry, Recording};
use zenlock_webhook::serve::{self, Pod as Webhook};

/// Far more than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Everything around the webhook.
pub struct Stage {
    pub control_plane: ControlPlane,
    pub client: Client,
    pub ca: Arc<Ca>,
    pub folder: TempDir,
    /// Where the webhook listens.
    pub https: Reserved,
    /// Health and metrics of the webhook.
    #[allow(dead_code, reason = "the bench reads it")]
    pub admin: SocketAddr,
    pub age: Identity,
    pub audit: Arc<Kept>,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<Result<(), serve::Error>>,
}

/// Signs what the webhook is due.
#[derive(Debug)]
struct Signer(Arc<Ca>);

impl Issuer for Signer {
    fn who<'a>(&'a self, _: Option<&'a zen_pki::Identity>) -> Answering<'a, Who> {
        let id = mesh().id(Component::ZenLock).to_string();
        Box::pin(async {
            Ok(Who {
                spiffe_id: id,
                serving_names: vec!["localhost".to_owned()],
                lifetime_seconds: 3600,
                issuer: None,
                serving_since: None,
            })
        })
    }

    fn certificate<'a>(
        &'a self,
        _: Option<&'a zen_pki::Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(async move {
            let due = match request.usage {
                Usage::Workload => Names::Workload(mesh().id(Component::ZenLock).clone()),
                Usage::Serving => Names::Server(["localhost".to_owned()].into()),
            };
            let csr = SigningRequest::from_pem(&request.csr).map_err(|error| Error::Answer(error.to_string()))?;
            let signed = self.0.sign_csr(&csr, &due, Timestamp::now(), HOUR);
            let signed = signed.map_err(|error| Error::Answer(error.to_string()))?;
            let roots = self.0.certificate_pem().to_owned();
            Ok(Certificate { chain: signed.chain_pem, roots, not_after: signed.validity.until })
        })
    }
}

/// Entries of the audit, for assertions.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<Entry>>);

impl Auditor for Kept {
    fn record(&self, entry: Entry) -> Recording<'_> {
        self.0.lock().unwrap().push(entry);
        Box::pin(async { Ok(()) })
    }
}

impl Kept {
    /// The last entry of somebody: object, allowed, reason.
    pub fn last_of(&self, who: &str) -> (String, bool, &'static str) {
        let entries = self.0.lock().unwrap();
        let entry = entries.iter().rev().find(|entry| entry.who == who).unwrap_or_else(|| panic!("nothing of {who}"));
        (entry.object.clone(), entry.allowed, entry.reason)
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Everything as text, for a search.
    pub fn text(&self) -> String {
        format!("{:?}", self.0.lock().unwrap())
    }
}

pub fn mesh() -> Mesh {
    Mesh::new(&"zen-mesh.local".parse().unwrap(), "zen-mesh").unwrap()
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    arguments: serve::Arguments,
}

fn arguments(folder: &Path, port: u16) -> serve::Arguments {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let line = [
        ("--pod-name", "zenlock-webhook-0".to_owned()),
        ("--admin", "127.0.0.1:0".to_owned()),
        ("--listen", format!("127.0.0.1:{port}")),
        ("--unseal-url", format!("https://localhost:{port}")),
        ("--trust", path("ca.crt")),
        ("--run", path("run")),
        ("--age", path("age")),
        ("--image", "zenlock-webhook:test".to_owned()),
        ("--secret-delivery", "true".to_owned()),
    ];
    let line = line.iter().flat_map(|(flag, value)| [*flag, value.as_str()]);
    Program::try_parse_from(std::iter::once("test").chain(line)).unwrap().arguments
}

/// Puts an identity where the webhook finds it.
pub fn put_age(folder: &Path, name: &str, identity: &Identity) {
    let file = identity.to_file(jiff::Timestamp::now());
    std::fs::write(folder.join("age").join(name), file.expose()).unwrap();
}

impl Stage {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With another audit log than the one for assertions.
    pub async fn start_with(log: Option<Arc<dyn Auditor>>) -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in zen_crds::yaml() {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            control_plane.kubectl(&["apply", "-f", file.to_str().unwrap()]).await.unwrap();
        }
        control_plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).await.unwrap();
        for namespace in ["zen-mesh", "team-a", "team-b", "strict"] {
            control_plane.kubectl(&["create", "namespace", namespace]).await.unwrap();
        }
        let enforce = "pod-security.kubernetes.io/enforce=restricted";
        control_plane.kubectl(&["label", "namespace", "strict", enforce]).await.unwrap();
        for (namespace, account) in
            [("team-a", "ci"), ("team-a", "web"), ("team-b", "ci"), ("strict", "ci"), ("zen-mesh", "zen-ingester")]
        {
            control_plane.kubectl(&["-n", namespace, "create", "serviceaccount", account]).await.unwrap();
        }
        // As the program makes its own: a burst does not open a connection for each request.
        let client = zen_live::cluster::client(control_plane.config().await.unwrap()).unwrap();

        let ca = Arc::new(Ca::ephemeral(mesh().trust_domain()).unwrap());
        std::fs::write(folder.path().join("ca.crt"), ca.certificate_pem()).unwrap();
        std::fs::create_dir(folder.path().join("age")).unwrap();
        let age = Identity::generate();
        put_age(folder.path(), "2026-01-01.txt", &age);

        let https = Reserved::loopback();
        let mut options = Options::new("https://nobody");
        options.roots = folder.path().join("ca.crt");
        options.folder = folder.path().join("run/identity");
        let identity = zen_identity::Client::with_issuer(options, Arc::new(Signer(Arc::clone(&ca))));
        let platform = Platform { client: client.clone(), identity, names: Arc::new(StaticResolver(HashMap::new())) };
        let audit = Arc::new(Kept::default());
        let log = log.unwrap_or_else(|| Arc::clone(&audit) as _);
        let webhook = Webhook::start(arguments(folder.path(), https.port()), platform, Some(log)).await.unwrap();
        let admin = webhook.addresses().admin;
        let deadline = Instant::now() + PATIENCE;
        while !webhook.missing().is_empty() {
            assert!(Instant::now() < deadline, "not ready: {:?}", webhook.missing());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let shutdown = Shutdown::manual();
        let ended = shutdown.clone();
        let running = tokio::spawn(async move { webhook.serve(&ended).await });
        let stage = Self { control_plane, client, ca, folder, https, admin, age, audit, shutdown, running };
        stage.register().await;
        stage
    }

    /// As the operator registers them, by address in place of a Service.
    async fn register(&self) {
        let config = |path: &str| {
            let ca = zenlock_webhook::fetch::Arguments::encode_roots(self.ca.certificate_pem());
            json!({"url": format!("https://localhost:{}{path}", self.https.port()), "caBundle": ca})
        };
        let annotated = "has(object.metadata.annotations) && 'zen-mesh.io/inject' in object.metadata.annotations";
        let common = json!({"admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "timeoutSeconds": 5});
        let mut pods = common.clone();
        pods["name"] = "pods.zenlock.zen-mesh.io".into();
        pods["clientConfig"] = config("/v1/admit/pods");
        pods["rules"] =
            json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
        pods["matchConditions"] = json!([{"name": "annotated", "expression": annotated}]);
        pods["sideEffects"] = "None".into();
        pods["reinvocationPolicy"] = "IfNeeded".into();
        let mut locks = common;
        locks["name"] = "zenlocks.zenlock.zen-mesh.io".into();
        locks["clientConfig"] = config("/v1/admit/zenlocks");
        locks["rules"] = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["zen-mesh.io"],
                                 "apiVersions": ["v1alpha1"], "resources": ["zenlocks"]}]);
        locks["sideEffects"] = "None".into();
        for (kind, webhook) in [("MutatingWebhookConfiguration", pods), ("ValidatingWebhookConfiguration", locks)] {
            self.apply(&json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": "zenlock-webhook.zen-mesh.io"}, "webhooks": [webhook],
            }))
            .await
            .unwrap();
        }
        // In effect a moment later.
        let probe = crate::kube_objects::pod("probe", &[("inject", "no-such")]);
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.dry_run(&probe).await, Err(message) if message.contains("ZenLockNotFound")) {
            assert!(Instant::now() < deadline, "the webhook is not asked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &kind));
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Server-side apply; the refusal's message.
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject, String> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("test").force();
        self.api(object).patch(name, &params, &Patch::Apply(object)).await.map_err(message)
    }

    /// A new pod as it is stored; the refusal's message.
    pub async fn create(&self, pod: &Value) -> Result<Pod, String> {
        self.post(pod, false).await
    }

    /// What would be stored.
    pub async fn dry_run(&self, pod: &Value) -> Result<Pod, String> {
        self.post(pod, true).await
    }

    async fn post(&self, pod: &Value, dry_run: bool) -> Result<Pod, String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod["metadata"]["namespace"].as_str().unwrap());
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        api.create(&PostParams { dry_run, ..PostParams::default() }, &pod).await.map_err(message)
    }

    /// Deletes at once: there is no kubelet to wait for.
    pub async fn delete(&self, namespace: &str, pod: &str) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        api.delete(pod, &DeleteParams::default().grace_period(0)).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while api.get_opt(pod).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "the pod stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A token as the kubelet projects it, or without a pod.
    pub async fn token(&self, namespace: &str, account: &str, audience: &str, pod: Option<&Pod>) -> String {
        let bound = pod.map(|pod| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        });
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]),
            bound_object_ref: bound,
            expiration_seconds: Some(600),
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token.unwrap()
    }

    pub async fn end(self) {
        self.shutdown.begin();
        self.running.await.unwrap().unwrap();
    }
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
