//! A namespace of one test.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::wait;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Made with a name that no other test has; deleted when dropped, without waiting for the end of that.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    kubectl: Vec<std::ffi::OsString>,
}

impl Namespace {
    /// Makes one; `prefix` tells whose it is.
    pub async fn new(cluster: &Cluster, prefix: &str) -> Result<Self> {
        let name = format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.kubectl(&["create", "namespace", &name]).await?;
        // Without this account, which the controller manager makes, pods are refused.
        wait::until("the namespace has its ServiceAccount", Duration::from_secs(30), async || {
            cluster.kubectl(&["get", "serviceaccount", "default", "--namespace", &name]).await.map(Some)
        })
        .await?;
        let kubectl = vec![cluster.program("kubectl").into(), "--kubeconfig".into(), cluster.kubeconfig().into()];
        Ok(Self { name, kubectl })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let [program, arguments @ ..] = &self.kubectl[..] else { return };
        let mut delete = Command::new(program);
        delete.args(arguments).args(["delete", "namespace", &self.name, "--wait=false"]);
        let _ = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
