//! The other pods of the mesh, as this one needs them: egresses to dial, peers to share work with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use zen_pod::endpoints::{self, Endpoints};
use zen_pod::{Arguments, Platform};
use zen_runtime::Tasks;

use crate::feed;
use crate::replica::Addresses;

/// The headless Service of the egresses, and its port.
const EGRESS: (&str, &str) = ("zen-egress", "link");
/// The headless Service of the ingesters, and its port.
const PEERS: (&str, &str) = ("zen-ingester-peers", "control");

/// Who is there.
pub(super) struct Surroundings {
    /// Where egresses listen.
    pub(super) egresses: watch::Receiver<Addresses>,
    /// Control addresses of the other ingesters that are ready.
    pub(super) peers: watch::Receiver<Arc<Vec<SocketAddr>>>,
}

/// Follows both Services on tasks, and tells the feed how many replicas there are.
pub(super) fn follow(
    arguments: &Arguments,
    platform: &Platform,
    feed: feed::Handle,
    tasks: &mut Tasks,
) -> Surroundings {
    let mut service = |what, (service, port)| {
        let options = endpoints::Options {
            namespace: arguments.pod_namespace.clone(),
            service,
            port,
            unready: false,
            cache: Some(arguments.endpoints(service)),
        };
        let (pods, following) = endpoints::follow(platform.client.clone(), options);
        tasks.spawn(what, following);
        pods
    };
    let (egresses, ingesters) = (service("egress endpoints", EGRESS), service("ingester endpoints", PEERS));

    let own = arguments.pod_name.clone();
    let (peers, keep_peers) = derived(ingesters, move |pods| {
        let others = pods.iter().filter(|pod| pod.pod != own);
        let others: Vec<_> = others.map(|pod| pod.address).collect();
        feed.replicas(others.len() + 1);
        Arc::new(others)
    });
    tasks.spawn("peers", keep_peers);
    let addresses = |pods: &Endpoints| Arc::new(pods.iter().map(|pod| pod.address).collect::<BTreeSet<_>>());
    let (egresses, keep_egresses) = derived(egresses, addresses);
    tasks.spawn("egresses", keep_egresses);
    Surroundings { egresses, peers }
}

/// Where the other ingesters take streams, those that drain included: on the port that this one does, as all run with the same
/// settings. Follows on tasks.
pub(super) fn relays(
    arguments: &Arguments,
    platform: &Platform,
    port: u16,
    tasks: &mut Tasks,
) -> watch::Receiver<Addresses> {
    let (service, control) = PEERS;
    let options = endpoints::Options {
        namespace: arguments.pod_namespace.clone(),
        service,
        port: control,
        unready: true,
        cache: Some(arguments.endpoints("relay")),
    };
    let (pods, following) = endpoints::follow(platform.client.clone(), options);
    tasks.spawn("relay endpoints", following);
    let own = arguments.pod_name.clone();
    let others = move |pods: &Endpoints| {
        let others = pods.iter().filter(|pod| pod.pod != own);
        Arc::new(others.map(|pod| SocketAddr::new(pod.address.ip(), port)).collect::<BTreeSet<_>>())
    };
    let (peers, keep_peers) = derived(pods, others);
    tasks.spawn("relay peers", keep_peers);
    peers
}

/// What follows from a watched value, kept for as long as the future is polled.
fn derived<T, U>(
    mut source: watch::Receiver<T>,
    make: impl Fn(&T) -> U + Send + 'static,
) -> (watch::Receiver<U>, impl Future<Output = ()> + Send + 'static)
where
    T: Send + Sync + 'static,
    U: PartialEq + Send + Sync + 'static,
{
    let first = make(&source.borrow_and_update());
    let (sender, receiver) = watch::channel(first);
    let keeping = async move {
        while source.changed().await.is_ok() {
            let next = make(&source.borrow_and_update());
            sender.send_if_modified(|known| {
                let changed = *known != next;
                if changed {
                    *known = next;
                }
                changed
            });
        }
    };
    (receiver, keeping)
}
