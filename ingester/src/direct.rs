//! Mode `Direct` (D-02): an egress in the ingester's own process, with channels in place of the link. Same frames, same
//! feed, same attempts; no other pod is needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use zen_egress::Egress;
use zen_link::frame::{Hello, VERSION};

use crate::feed;

/// What this session calls its peer, in place of a SPIFFE id.
const PEER: &str = "this process";
/// Frames under way in each direction.
const FRAMES: usize = 16;

/// Feeds an egress of this process until `end` and the drain after it. `term` is the lease term of the feed.
pub async fn serve(handle: feed::Handle, egress: Arc<Egress>, term: Duration, end: CancellationToken) {
    let side = egress.side();
    let (to_egress, from_ingester) = mpsc::channel(FRAMES);
    let (to_ingester, from_egress) = mpsc::channel(FRAMES);
    let hello = Hello {
        version: VERSION,
        max_leases: side.max_leases,
        max_bytes: side.max_bytes,
        instance: side.instance,
        ..Hello::default()
    };
    let near = feed::Link {
        carrier: feed::Carrier::InProcess,
        peer: PEER.to_owned(),
        hello,
        outgoing: to_egress,
        incoming: Box::pin(ReceiverStream::new(from_egress)),
    };
    let far = zen_egress::Link {
        peer: PEER.to_owned(),
        term,
        keys: None,
        outgoing: to_ingester,
        incoming: Box::pin(ReceiverStream::new(from_ingester)),
    };
    tokio::join!(handle.serve(near), egress.run(far, end));
}
