//! The mesh in a cluster, with the user's own identity: through the API server, which decides what this user may see
//! (K-08, C-02).

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, CONTENT_TYPE, WARNING};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::failure::{Context as _, Failure, Outcome};
use crate::output::plain_text;

/// Where the ingesters' API is.
const BASE: &str = "/apis/data.zen-mesh.io/v1alpha1";

/// Which cluster is meant. With any of these, or when the program is called as `kubectl zen`, commands ask the cluster of
/// the kubeconfig.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "In a cluster")]
pub struct InCluster {
    /// The kubeconfig's context [default: the current one].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["dir"])]
    context: Option<String>,
    /// The namespace [default: the context's].
    #[arg(short, long, value_name = "NS", conflicts_with_all = ["dir"])]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["dir", "namespace"])]
    all_namespaces: bool,
}

/// Called as `kubectl zen`: kubectl runs the program `kubectl-zen` on the PATH.
pub fn is_plugin() -> bool {
    let called = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&called).file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl-zen"))
}

impl InCluster {
    /// Of this context, or the current one.
    pub fn of_context(context: Option<String>) -> Self {
        Self { context, ..Self::default() }
    }

    /// Whether the cluster is meant; `local`: a folder was named.
    pub fn is_meant(&self, local: bool) -> bool {
        self.context.is_some() || self.namespace.is_some() || self.all_namespaces || (is_plugin() && !local)
    }

    /// The cluster of the kubeconfig, or of the pod that this runs in. Nothing is sent yet.
    pub async fn connect(&self) -> Outcome<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match Kubeconfig::read() {
            Ok(kubeconfig) => kube::Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(_) if self.context.is_none() => match kube::Config::incluster() {
                Ok(config) => Ok(config),
                Err(_) => kube::Config::from_kubeconfig(&options).await,
            },
            Err(error) => Err(error),
        };
        let config = config.context("failed to read the kubeconfig").map_err(|failure| {
            failure
                .code(2)
                .hint("name its file in KUBECONFIG, and the context with --context; or a local mesh with --dir")
        })?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config).context("failed to use the kubeconfig")?;
        Ok(Cluster { client, namespace, all: self.all_namespaces })
    }
}

/// A cluster, a namespace of it, and what is asked there.
#[derive(Clone)]
pub struct Cluster {
    /// With the user's identity.
    pub client: kube::Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// Listings are of all namespaces.
    pub all: bool,
}

/// How an answer is turned into that of the local admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `status` of each item.
    Items,
    /// `status` of the only item.
    Only,
    /// `status`.
    Status,
    /// `status.events`.
    Events,
}

impl Cluster {
    /// The same request as to the local admin API; none where there is no such thing.
    pub async fn send(&self, method: Method, path_and_query: &str, body: Bytes) -> Outcome<Option<Value>> {
        let (path, shape) = self.translated(path_and_query)?;
        let body = if body.is_empty() {
            Vec::new()
        } else {
            let spec: Value = serde_json::from_slice(&body).context("failed to write the request")?;
            serde_json::to_vec(&json!({"spec": spec})).context("failed to write the request")?
        };
        let request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/json").body(body.into());
        let answer = self.client.send(request.context("failed to build the request")?).await;
        let answer = answer.context("the API server could not be asked")?;
        for warning in answer.headers().get_all(WARNING) {
            eprintln!("zen: {}", plain_text(warning_text(warning), 500));
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.context("the API server's answer broke off")?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            StatusCode::OK | StatusCode::CREATED => Ok(Some(shaped(body, shape))),
            StatusCode::NOT_FOUND if body["message"].as_str().is_some_and(|text| text.starts_with("there is no")) => {
                Ok(None)
            }
            _ => Err(failure(status, &body)),
        }
    }

    fn translated(&self, path_and_query: &str) -> Outcome<(String, Shape)> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let path = path.strip_prefix("/api/v1/").unwrap_or(path);
        let (first, name) = path.split_once('/').unwrap_or((path, ""));
        let (resource, shape) = match (first, name.is_empty()) {
            ("status", true) => ("meshstatuses", Shape::Only),
            ("events", true) => ("webhookevents", Shape::Items),
            ("events", false) => ("webhookevents", Shape::Events),
            ("dead-letters", true) => ("deadletters", Shape::Items),
            ("dead-letters", false) => ("deadletters", Shape::Status),
            ("replays", _) => ("replays", Shape::Status),
            ("signing-keys", false) => ("signingkeys", Shape::Status),
            _ => return Err(Failure::new(format!("the cluster does not know {path}"))),
        };
        let is_list = matches!(shape, Shape::Items | Shape::Only);
        if self.all && !is_list {
            return Err(Failure::usage("this is done in one namespace").hint("name it with -n instead of -A"));
        }
        let scope = if self.all { String::new() } else { format!("/namespaces/{}", self.namespace) };
        let mut translated = format!("{BASE}{scope}/{resource}");
        if !name.is_empty() {
            translated.extend(["/", name]);
        }
        if query.split('&').any(|pair| pair == "payload=true") {
            translated.push_str("/payload");
        } else if is_list && !query.is_empty() {
            translated.extend(["?", query]);
        }
        Ok((translated, shape))
    }
}

fn shaped(mut body: Value, shape: Shape) -> Value {
    let mut items = || match body["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    match shape {
        Shape::Items => items().into_iter().map(|mut item| item["status"].take()).collect(),
        Shape::Only => items().into_iter().next().map(|mut item| item["status"].take()).unwrap_or_default(),
        Shape::Status => body["status"].take(),
        Shape::Events => body["status"]["events"].take(),
    }
}

/// The text of `299 - "text"`.
fn warning_text(value: &HeaderValue) -> &str {
    let text = value.to_str().unwrap_or_default();
    text.split_once('"').map_or(text, |(_, text)| text.trim_end_matches('"'))
}

fn failure(status: StatusCode, body: &Value) -> Failure {
    let message = plain_text(body["message"].as_str().unwrap_or("no reason given"), 500);
    let failure = Failure::new(format!("the cluster answered {}: {message}", status.as_u16()));
    match status {
        StatusCode::FORBIDDEN => failure
            .hint("ask for a role: the ClusterRoles zen-mesh-view, -edit, -admin and -owner are there to be bound"),
        StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => {
            failure.hint("is the mesh installed and ready? kubectl get apiservice v1alpha1.data.zen-mesh.io says more")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(all: bool) -> Cluster {
        let service = tower::service_fn(async |_: Request<kube::client::Body>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        Cluster { client: kube::Client::new(service, "default"), namespace: "team-a".to_owned(), all }
    }

    #[tokio::test]
    async fn each_request_has_its_resource() {
        let translated = |path| cluster(false).translated(path).expect("known").0;
        let base = "/apis/data.zen-mesh.io/v1alpha1/namespaces/team-a";
        assert_eq!(translated("/api/v1/status"), format!("{base}/meshstatuses"));
        assert_eq!(translated("/api/v1/events?limit=5"), format!("{base}/webhookevents?limit=5"));
        assert_eq!(translated("/api/v1/events/e1"), format!("{base}/webhookevents/e1"));
        assert_eq!(translated("/api/v1/dead-letters/1-2?payload=false"), format!("{base}/deadletters/1-2"));
        assert_eq!(translated("/api/v1/dead-letters/1-2?payload=true"), format!("{base}/deadletters/1-2/payload"));
        assert_eq!(translated("/api/v1/replays"), format!("{base}/replays"));
        assert_eq!(translated("/api/v1/signing-keys/ci"), format!("{base}/signingkeys/ci"));
        assert!(cluster(false).translated("/api/v1/none").is_err());
    }

    #[tokio::test]
    async fn all_namespaces_are_listed_only() {
        let all = cluster(true);
        assert_eq!(all.translated("/api/v1/events").expect("lists").0, "/apis/data.zen-mesh.io/v1alpha1/webhookevents");
        assert!(all.translated("/api/v1/replays").is_err());
    }

    #[test]
    fn answers_are_those_of_the_local_mesh() {
        let list = json!({"items": [{"status": {"id": "1"}}, {"status": {"id": "2"}}]});
        assert_eq!(shaped(list.clone(), Shape::Items), json!([{"id": "1"}, {"id": "2"}]));
        assert_eq!(shaped(list, Shape::Only), json!({"id": "1"}));
        assert_eq!(shaped(json!({"status": {"events": [1]}}), Shape::Events), json!([1]));
        assert_eq!(warning_text(&HeaderValue::from_static("299 - \"not complete\"")), "not complete");
    }
}
