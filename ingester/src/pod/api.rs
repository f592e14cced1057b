//! The aggregated API as a part of the pod: its certificate, and whom the API server is known by.

use std::pin::pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_pod::tls_secret::Followed;
use zen_pod::watching;

use super::intake::first;
use crate::aggregated::{self, FrontProxy};

/// Where the API server says what it proves itself with.
const NAMESPACE: &str = "kube-system";
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// Serves the API once there is a certificate of the built-in CA, until `end`. It is no part of readiness: webhooks arrive
/// and are delivered without it.
pub(super) async fn serve(
    listener: TcpListener,
    certificate: watch::Receiver<Followed>,
    parts: aggregated::Parts,
    client: Client,
    end: CancellationToken,
) {
    let front_proxy = Arc::clone(&parts.front_proxy);
    let serving = async {
        let Some(certificate) = first(certificate).await else { return };
        if let Err(error) = aggregated::serve(listener, &certificate, parts, end.clone()).await {
            tracing::error!(%error, "failed to set up the aggregated API's TLS");
            end.cancelled().await;
        }
    };
    let mut serving = pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = end.cancelled() => serving.await,
        () = follow(client, &front_proxy) => {}
    }
}

async fn follow(client: Client, front_proxy: &FrontProxy) {
    let config_maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    watching::follow("the API server's front proxy", watch_object(config_maps, AUTHENTICATION), |config_map| {
        let data = config_map.and_then(|config_map| config_map.data).unwrap_or_default();
        match front_proxy.configure(&data) {
            Ok(()) => tracing::debug!("the API server's front proxy is known"),
            Err(reason) => tracing::warn!(reason, "the API server's front proxy cannot be told; what was known stays"),
        }
    })
    .await;
}
