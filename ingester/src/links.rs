//! A session with every egress that there is: they come and go with the Service's endpoints (D-02).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zen_identity::server::Handshakes;
use zen_link::Dialer;

use crate::feed;

/// Where egresses listen.
pub type Addresses = Arc<BTreeSet<SocketAddr>>;

/// Dials every egress and keeps a session with each.
#[derive(Clone)]
pub struct Links {
    /// What takes the sessions.
    pub feed: feed::Handle,
    /// Decides who the peer must be.
    pub tls: Arc<ClientConfig>,
    /// What this side says of itself.
    pub side: zen_link::Ingester,
    /// Counts sessions and dials.
    pub metrics: zen_link::Metrics,
    /// How many sessions are up.
    pub up: Arc<watch::Sender<usize>>,
}

impl Links {
    /// Follows the addresses until `end`; sessions that are up then end with it. An egress that is gone from the addresses
    /// is not dialled again, but a session with it goes on: it drains, and ends it when everything is settled.
    pub async fn follow(self, addresses: watch::Receiver<Addresses>, end: CancellationToken) {
        follow(addresses, |address, wanted| self.clone().keep(address, wanted), end).await;
    }

    /// Returns when the address is no longer wanted and no session with it is up.
    async fn keep(self, address: SocketAddr, mut wanted: watch::Receiver<bool>) -> SocketAddr {
        let Self { feed, tls, side, metrics, up } = self;
        let dialer = Dialer::new(address.into(), tls, side, metrics);
        let on_session = |session: zen_link::IngesterSession| {
            let (feed, up) = (feed.clone(), Up::new(&up));
            async move {
                feed.serve(session.into()).await;
                drop(up);
            }
        };
        let unwanted = async {
            let _ = wanted.wait_for(|wanted| !wanted).await;
        };
        dialer.keep_connected_until(unwanted, on_session).await;
        address
    }
}

/// The same counts; `handshakes` hears of those that this side refuses.
pub(crate) fn telling(metrics: &zen_link::Metrics, handshakes: Handshakes) -> zen_link::Metrics {
    metrics.clone().telling(move |peer, error| handshakes.failed(peer, error))
}

/// Keeps something with each address, until `end`; what is kept then ends with it. `keep` is told when its address is no
/// longer wanted, and ends by itself.
pub(crate) async fn follow<F>(
    mut addresses: watch::Receiver<Addresses>,
    keep: impl Fn(SocketAddr, watch::Receiver<bool>) -> F,
    end: CancellationToken,
) where
    F: Future<Output = SocketAddr> + Send + 'static,
{
    let mut dialing: HashMap<SocketAddr, watch::Sender<bool>> = HashMap::new();
    let mut sessions = JoinSet::new();
    let mut known = true;
    loop {
        let current = Arc::clone(&addresses.borrow_and_update());
        for (address, wanted) in &dialing {
            wanted.send_replace(current.contains(address));
        }
        for address in current.iter() {
            dialing.entry(*address).or_insert_with(|| {
                let (wanted, is_wanted) = watch::channel(true);
                sessions.spawn(keep(*address, is_wanted));
                wanted
            });
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = addresses.changed(), if known => known = changed.is_ok(),
            Some(ended) = sessions.join_next() => if let Ok(address) = ended {
                dialing.remove(&address);
            },
        }
    }
}

/// Counts one session while it is up, however it ends.
struct Up(Arc<watch::Sender<usize>>);

impl Up {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
