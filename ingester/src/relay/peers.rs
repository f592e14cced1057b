//! The feeds of one stream at the other ingesters: one for each, for as long as the stream and the ingester are there.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use zen_link::frame::{Behalf, Hello};
use zen_link::{Claim, Dialer, EgressSession};

use super::Parts;
use super::door::Admitted;
use super::stream::{Stream, frames};
use crate::links;

/// Keeps a feed with each peer, for as long as it is polled. A peer that is gone from the addresses is not dialled again; its
/// feed goes on until its ingester ends it, which still has events.
pub(super) async fn follow(parts: &Parts, stream: &Arc<Stream>, admitted: &Admitted, hello: &Hello) {
    let behalf = Behalf {
        tenant: admitted.cluster.tenant().to_string(),
        cluster: admitted.cluster.cluster().to_string(),
        version: admitted.version,
    };
    // The egress's own name: every ingester then divides a Destination's slots alike. The window follows when it is known how
    // many feeds share it.
    let side = zen_link::Egress {
        instance: hello.instance.clone(),
        incarnation: hello.incarnation,
        max_leases: 1,
        max_bytes: 1,
        claim: Claim::Behalf(behalf),
    };
    let metrics = links::telling(&parts.metrics, parts.notes.dialled(super::LISTENER));
    let keep = |address: SocketAddr, wanted: watch::Receiver<bool>| {
        let dialer = Dialer::new(address.into(), Arc::clone(&parts.tls), side.clone(), metrics.clone());
        let dialer = dialer.with_options(parts.options.clone());
        keep(dialer, Arc::clone(stream), address, wanted)
    };
    // The stream's end drops this future.
    links::follow(parts.peers.clone(), keep, tokio_util::sync::CancellationToken::new()).await;
}

async fn keep(
    dialer: Dialer<zen_link::Egress>,
    stream: Arc<Stream>,
    address: SocketAddr,
    mut wanted: watch::Receiver<bool>,
) -> SocketAddr {
    let unwanted = async {
        tokio::select! {
            _ = wanted.wait_for(|wanted| !wanted) => {}
            () = stream.is_draining() => {}
        }
    };
    let on_session = |session: EgressSession| {
        let stream = Arc::clone(&stream);
        async move { stream.pump(session.sender, frames(session.receiver).boxed()).await }
    };
    dialer.keep_connected_until(unwanted, on_session).await;
    if stream.drains() {
        // A feed that has ended would be begun anew, again and again, for as long as the last of them settles.
        std::future::pending::<()>().await;
    }
    address
}
