//! Ten thousand Webhooks on an API server, and what they name.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request;
use serde_json::{Value, json};
use tokio::time::Instant;
use zen_model::ObjectKey;

/// Namespaces that the objects are spread over.
pub const TENANTS: usize = 20;
/// Of each Service.
pub const ADDRESSES: usize = 10;
/// Requests at one time while the objects are made.
const WRITERS: usize = 16;

/// Name of Webhook `n`, which names Secret `n` modulo their number, so that the tenants divide both.
pub fn webhook_key(number: usize) -> ObjectKey {
    ObjectKey::new(format!("tenant-{}", number % TENANTS), format!("w{number}"))
}

/// Where the API server has it.
pub fn webhook_path(key: &ObjectKey) -> String {
    format!("/apis/zen-mesh.io/v1alpha1/namespaces/{}/webhooks/{}", key.namespace, key.name)
}

/// The API server, as an administrator uses it.
pub struct Api(pub kube::Client);

impl Api {
    /// Our kinds, tenants, the mesh configuration, Secrets, one Destination for each tenant, and the Webhooks.
    pub async fn install(&self, webhooks: usize, secrets: usize) -> Result<()> {
        for (_, text) in zen_crds::yaml() {
            let manifest: Value = serde_saphyr::from_str(&text)?;
            self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &manifest).await?;
        }
        let namespaces = (0..TENANTS).map(|number| format!("tenant-{number}")).chain(["zen-mesh".to_owned()]);
        for name in namespaces {
            self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
        }
        let mesh = json!({"metadata": {"name": "zen-mesh"}, "data": {"mesh.yaml": "{}"}});
        self.post("/api/v1/namespaces/zen-mesh/configmaps", &mesh).await?;
        ensure!(secrets.is_multiple_of(TENANTS), "the number of Secrets must be a multiple of {TENANTS}");
        let secrets_made = stream::iter(0..secrets).map(|number| async move {
            let path = format!("/api/v1/namespaces/tenant-{}/secrets", number % TENANTS);
            let data = json!({"key": format!("secret-{number}")});
            self.post(&path, &json!({"metadata": {"name": format!("s{number}")}, "stringData": data})).await
        });
        secrets_made.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await?;
        for tenant in 0..TENANTS {
            self.destination(&format!("tenant-{tenant}")).await?;
        }
        let made = stream::iter(0..webhooks).map(|number| async move {
            let key = webhook_key(number);
            let spec = json!({
                "verification": {
                    "provider": "github",
                    "secrets": [{"secretRef": {"name": format!("s{}", number % secrets), "key": "key"}}],
                },
                "routes": [{"match": [{"eventType": ["push", "release"]}], "destinations": [{"name": "ci"}]}],
            });
            let object = object("Webhook", &key, &spec);
            self.post(&format!("/apis/zen-mesh.io/v1alpha1/namespaces/{}/webhooks", key.namespace), &object).await
        });
        made.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Services that no Destination names, and their slices.
    pub async fn services(&self, services: usize) -> Result<()> {
        let made = stream::iter(0..services).map(|number| async move {
            let (namespace, name) = (format!("tenant-{}", number % TENANTS), format!("service-{number}"));
            let ports = json!([{"name": "https", "port": 443}]);
            let service = json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": ports}});
            self.post(&format!("/api/v1/namespaces/{namespace}/services"), &service).await?;
            let endpoints = (0..ADDRESSES).map(|pod| {
                let address = format!("10.{}.{}.{}", pod, number / 250 % 250, number % 250 + 1);
                let target = json!({"kind": "Pod", "namespace": namespace, "name": format!("{name}-{pod}")});
                json!({"addresses": [address], "conditions": {"ready": true}, "targetRef": target})
            });
            let slice = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": ports, "endpoints": endpoints.collect::<Vec<_>>(),
            });
            self.post(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"), &slice).await
        });
        made.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await.map(drop)
    }

    /// New kinds are served a moment after they are made.
    async fn destination(&self, namespace: &str) -> Result<()> {
        let key = ObjectKey::new(namespace, "ci");
        let object = object("Destination", &key, &json!({"target": {"url": "https://ci.example.com/"}}));
        let path = format!("/apis/zen-mesh.io/v1alpha1/namespaces/{namespace}/destinations");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.post(&path, &object).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Makes an object.
    pub async fn post(&self, path: &str, object: &Value) -> Result<()> {
        let request = Request::post(path).header("content-type", "application/json");
        self.0.request::<Value>(request.body(serde_json::to_vec(object)?)?).await?;
        Ok(())
    }
}

fn object(kind: &str, key: &ObjectKey, spec: &Value) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"namespace": key.namespace.as_str(), "name": key.name.as_str()},
    })
}
