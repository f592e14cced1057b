//! A private service: `zen listen` in a pod behind a Service.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::{images, wait};

/// One that runs.
#[derive(Debug)]
pub struct Target<'a> {
    cluster: &'a Cluster,
    namespace: String,
    name: String,
}

/// A request that arrived.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case. Credentials are not shown.
    pub headers: BTreeMap<String, String>,
    /// If it is UTF-8.
    pub body: Option<String>,
    /// What was answered.
    pub status: u16,
}

impl<'a> Target<'a> {
    /// Starts it and waits until it is ready. Service and Deployment have this name; the Service's port is 80. The
    /// arguments go to `zen listen`: `["--status", "503"]`.
    pub async fn start(cluster: &'a Cluster, namespace: &str, name: &str, arguments: &[&str]) -> Result<Self> {
        let arguments = serde_json::to_string(&[&["listen", "0.0.0.0:8080"], arguments].concat())?;
        let image = images::reference("zen")?;
        let manifests = format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{target: {name}}}}}
  template:
    metadata: {{labels: {{target: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: zen
        image: {image}
        args: {arguments}
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{target: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
        );
        cluster.apply(&manifests).await?;
        let rollout = ["rollout", "status", &format!("deployment/{name}"), "--namespace", namespace, "--timeout=60s"];
        cluster.kubectl(&rollout).await?;
        Ok(Self { cluster, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The address of its Service, which can be called from here.
    pub async fn address(&self) -> Result<String> {
        let service = ["get", "service", &self.name, "--namespace", &self.namespace];
        self.cluster.kubectl(&[&service[..], &["--output", "jsonpath={.spec.clusterIP}"]].concat()).await
    }

    /// Every request so far. Those of a pod that is gone by now are not among them.
    pub async fn received(&self) -> Result<Vec<Delivery>> {
        let logs = ["logs", &format!("deployment/{}", self.name), "--namespace", &self.namespace, "--tail=-1"];
        let logs = self.cluster.kubectl(&logs).await?;
        let requests = logs.lines().filter(|line| line.contains("\"method\""));
        requests
            .map(|line| serde_json::from_str(line).with_context(|| format!("a line of zen listen: {line}")))
            .collect()
    }

    /// Waits for so many requests and returns all.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Delivery>> {
        wait::until(&format!("{count} deliveries"), limit, async || {
            let received = self.received().await?;
            anyhow::ensure!(received.len() >= count, "{} so far", received.len());
            Ok(Some(received))
        })
        .await
    }
}
