//! The ready pods behind a headless Service of the mesh, from its `EndpointSlice`s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{private, watching};

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name; empty where the slice names none.
    pub pod: String,
}

/// Ready pods, in order.
pub type Endpoints = Arc<BTreeSet<Endpoint>>;

/// What is followed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the Service is.
    pub namespace: String,
    /// The Service.
    pub service: &'static str,
    /// Name of its port.
    pub port: &'static str,
    /// Also pods that are not ready, as one that drains: it still has what it took in.
    pub unready: bool,
    /// Where the last known pods are kept, so that a restarted container finds them without the API server.
    pub cache: Option<PathBuf>,
}

/// Follows the pods. The receiver has what the cache knows, then what the API server says; while that is away, what it
/// said last. The future never ends; run it on a task.
pub fn follow(client: Client, options: Options) -> (watch::Receiver<Endpoints>, impl Future<Output = ()> + Send) {
    let known = options.cache.as_ref().and_then(|path| std::fs::read(path).ok());
    let known: BTreeSet<Endpoint> = known.and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default();
    let (sender, receiver) = watch::channel(Arc::new(known));
    (receiver, run(client, options, sender))
}

async fn run(client: Client, options: Options, sender: watch::Sender<Endpoints>) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &options.namespace);
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={}", options.service));
    let mut view = View { unready: options.unready, ..View::default() };
    watching::follow(options.service, watcher(slices, config), |event| {
        let Some(pods) = view.take(event, options.port) else { return };
        let pods = Arc::new(pods);
        let changed = sender.send_if_modified(|known| {
            let changed = *known != pods;
            *known = Arc::clone(&pods);
            changed
        });
        if changed {
            tracing::info!(service = options.service, pods = pods.len(), "pods");
            if let Some(path) = &options.cache {
                private::keep(path, &serde_json::to_vec(&*pods).unwrap_or_default());
            }
        }
    })
    .await;
}

/// What the watch said, by slice.
#[derive(Debug, Default)]
struct View {
    unready: bool,
    slices: BTreeMap<String, BTreeSet<Endpoint>>,
    /// While the watch lists anew; what was known stays in effect until it is through.
    listed: BTreeMap<String, BTreeSet<Endpoint>>,
}

impl View {
    /// The pods after this event; none while a list is under way.
    fn take(&mut self, event: watcher::Event<EndpointSlice>, port: &str) -> Option<BTreeSet<Endpoint>> {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                return None;
            }
            watcher::Event::InitApply(slice) => {
                self.listed.insert(slice.name_any(), pods(&slice, port, self.unready));
                return None;
            }
            watcher::Event::InitDone => self.slices = std::mem::take(&mut self.listed),
            watcher::Event::Apply(slice) => {
                self.slices.insert(slice.name_any(), pods(&slice, port, self.unready));
            }
            watcher::Event::Delete(slice) => {
                self.slices.remove(&slice.name_any());
            }
        }
        let mut pods = BTreeMap::new();
        for endpoint in self.slices.values().flatten() {
            // Of a pod with two families one address is enough; without a name each address is taken for a pod.
            let name = if endpoint.pod.is_empty() { endpoint.address.to_string() } else { endpoint.pod.clone() };
            let known = pods.entry(name).or_insert(endpoint);
            *known = endpoint.min(known);
        }
        Some(pods.into_values().cloned().collect())
    }
}

/// Pods that take connections now. One that ends is not ready any more: its sessions end by themselves. With `unready` all.
fn pods(slice: &EndpointSlice, port: &str, unready: bool) -> BTreeSet<Endpoint> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let named = ports.iter().find(|candidate| candidate.name.as_deref() == Some(port));
    // A Service with one port may leave it without a name.
    let number = named.or(if let [only] = ports { Some(only) } else { None }).and_then(|port| port.port);
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { return BTreeSet::new() };
    let mut pods = BTreeSet::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let conditions = endpoint.conditions.as_ref();
        // Unknown counts as ready, as the API says.
        if !unready && !conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
            continue;
        }
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone()).unwrap_or_default();
        // All addresses of an endpoint are the same pod's; consumers take the first.
        if let Some(address) = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok()) {
            pods.insert(Endpoint { address: SocketAddr::new(address, number), pod });
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, endpoints: &[(&str, Option<bool>)]) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, ready)| {
                json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": format!("pod-{address}")}})
            })
            .collect();
        let slice = json!({
            "metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "metrics", "port": 9901}, {"name": "link", "port": 9444}],
        });
        serde_json::from_value(slice).expect("a slice")
    }

    fn addresses(pods: Option<BTreeSet<Endpoint>>) -> Vec<String> {
        pods.expect("a view").iter().map(|pod| pod.address.to_string()).collect()
    }

    #[test]
    fn pods_come_and_go_with_the_slices_and_stay_while_the_watch_begins_anew() {
        let mut view = View::default();
        assert!(view.take(watcher::Event::Init, "link").is_none());
        let first = slice("a", &[("10.0.0.1", Some(true)), ("10.0.0.2", Some(false)), ("10.0.0.3", None)]);
        assert!(view.take(watcher::Event::InitApply(first), "link").is_none());
        let pods = view.take(watcher::Event::InitDone, "link");
        assert_eq!(addresses(pods), ["10.0.0.1:9444", "10.0.0.3:9444"]);
        let pods = view.take(watcher::Event::Apply(slice("b", &[("10.0.0.4", Some(true))])), "link");
        assert_eq!(addresses(pods), ["10.0.0.1:9444", "10.0.0.3:9444", "10.0.0.4:9444"]);
        // 410 Gone: the list begins anew.
        assert!(view.take(watcher::Event::Init, "link").is_none());
        assert!(view.take(watcher::Event::InitApply(slice("b", &[("10.0.0.4", Some(true))])), "link").is_none());
        assert_eq!(addresses(view.take(watcher::Event::InitDone, "link")), ["10.0.0.4:9444"]);
        assert_eq!(addresses(view.take(watcher::Event::Delete(slice("b", &[])), "link")), [""; 0]);
    }

    #[test]
    fn one_that_drains_is_a_pod_still() {
        let mut view = View { unready: true, ..View::default() };
        let pods = view
            .take(watcher::Event::Apply(slice("a", &[("10.0.0.1", Some(true)), ("10.0.0.2", Some(false))])), "link");
        assert_eq!(addresses(pods), ["10.0.0.1:9444", "10.0.0.2:9444"]);
    }

    #[test]
    fn the_port_is_found_by_name_or_as_the_only_one() {
        let mut one = slice("a", &[("10.0.0.1", None)]);
        assert!(pods(&one, "control", false).is_empty());
        one.ports.as_mut().expect("ports").remove(0);
        assert_eq!(addresses(Some(pods(&one, "control", false))), ["10.0.0.1:9444"]);
    }
}
