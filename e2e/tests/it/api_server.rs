//! One control plane for all tests of this program, with our four kinds established.

use http::Request;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};
use zen_crds::{API_VERSION, KINDS};
use zen_e2e::ControlPlane;

/// What the API server says to an object.
#[derive(Debug)]
pub enum Verdict {
    /// It is taken; this is how it would be stored.
    Taken(Value),
    /// Field and message of each cause. A refusal without causes has an empty field.
    Refused(Vec<(String, String)>),
}

/// The API server, as one test uses it.
pub struct ApiServer {
    pub control_plane: &'static ControlPlane,
    client: kube::Client,
}

/// The shared API server. It ends with this process.
pub async fn api_server() -> ApiServer {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let control_plane = SHARED
        .get_or_init(|| async {
            let control_plane = ControlPlane::start().await.unwrap();
            install(&control_plane.client().await.unwrap()).await;
            control_plane
        })
        .await;
    // A client of its own: connections belong to the runtime of one test.
    ApiServer { control_plane, client: control_plane.client().await.unwrap() }
}

/// Applies the committed manifests and waits until each kind is served. This is the test of the CEL budget too: the API
/// server refuses a definition whose rules may cost too much.
pub async fn install(client: &kube::Client) {
    let api = ApiServerClient(client);
    for (file, text) in zen_crds::yaml() {
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        api.apply(&path, &manifest).await.unwrap_or_else(|refused| panic!("{file}: {refused:#?}"));
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let found = api.get(&path).await;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let problem = conditions.iter().find(|it| it["type"] == "NonStructuralSchema" && it["status"] == "True");
            assert!(problem.is_none(), "{file}: {problem:?}");
            if conditions.iter().any(|it| it["type"] == "Established" && it["status"] == "True") {
                break;
            }
            assert!(Instant::now() < deadline, "{file} is not established: {conditions:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Established definitions are served a moment later.
    let deadline = Instant::now() + Duration::from_mins(1);
    for kind in KINDS {
        let object = json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": { "name": "probe" } });
        while matches!(api.create(&object).await, Verdict::Refused(causes) if causes.iter().all(|(field, _)| field.is_empty()))
        {
            assert!(Instant::now() < deadline, "{kind} is not served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl ApiServer {
    /// What it would say to a new object, with unknown fields refused. Nothing is stored.
    pub async fn create(&self, object: &Value) -> Verdict {
        ApiServerClient(&self.client).create(object).await
    }

    /// Server-side apply; the stored object.
    pub async fn apply(&self, object: &Value) -> Result<Value, String> {
        let path = format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap());
        ApiServerClient(&self.client).apply(&path, object).await
    }

    /// Writes an object's status.
    pub async fn patch_status(&self, object: &Value, status: &Value) -> Result<Value, String> {
        let path = format!("{}/{}/status", collection(object), object["metadata"]["name"].as_str().unwrap());
        ApiServerClient(&self.client)
            .send("PATCH", &path, "application/merge-patch+json", &json!({ "status": status }))
            .await
    }

    /// Makes a namespace unless it is there.
    pub async fn namespace(&self, name: &str) {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.apply(&object).await.unwrap();
    }
}

/// Path of the collection that an object belongs to. Only kinds that examples use.
fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let kind = object["kind"].as_str().unwrap();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    if kind == "Namespace" {
        return format!("{root}/namespaces");
    }
    format!("{root}/namespaces/{namespace}/{}s", kind.to_lowercase())
}

struct ApiServerClient<'a>(&'a kube::Client);

impl ApiServerClient<'_> {
    async fn create(&self, object: &Value) -> Verdict {
        let mut path = collection(object);
        path.push_str("?dryRun=All&fieldManager=test&fieldValidation=Strict");
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
        match self.0.request::<Value>(request).await {
            Ok(stored) => Verdict::Taken(stored),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
                if causes.is_empty() {
                    return Verdict::Refused(vec![(String::new(), status.message.clone())]);
                }
                Verdict::Refused(causes.into_iter().map(|cause| (cause.field, cause.message)).collect())
            }
            Err(error) => panic!("failed to ask the API server: {error}"),
        }
    }

    async fn apply(&self, path: &str, object: &Value) -> Result<Value, String> {
        let path = format!("{path}?fieldManager=test&force=true&fieldValidation=Strict");
        self.send("PATCH", &path, "application/apply-patch+yaml", object).await
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, object: &Value) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
        self.0.request::<Value>(request).await.map_err(|error| error.to_string())
    }

    async fn get(&self, path: &str) -> Value {
        self.0.request::<Value>(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
    }
}
