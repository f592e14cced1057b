//! One session from its first frame to its last.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::session::Session;
use crate::worker::give_back;
use crate::{Egress, Link, admit};
use zen_model::Settlement;
use zen_model::settle::ReleaseReason;

/// Time for the last frames to reach the ingester, and for it to end its side.
const FAREWELL: Duration = Duration::from_secs(3);

/// After so long, leases that were on their way when the drain began have arrived.
const UNHEARD: Duration = Duration::from_secs(2);

/// How the session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The peer is gone.
    Lost,
    /// After the shutdown signal, everything is settled.
    Drained,
    /// After the shutdown signal, the limit was over.
    CutOff,
}

pub(crate) async fn run(egress: Arc<Egress>, link: Link, shutdown: CancellationToken) {
    let Link { peer, term, keys, outgoing, mut incoming } = link;
    let keys = keys.unwrap_or_else(|| Arc::clone(&egress.parts.link_keys));
    let session = Arc::new(Session::new(term, keys));
    let mut sending = JoinSet::new();
    let sender = Arc::clone(&session);
    sending.spawn(async move { sender.outbox.send(outgoing).await });

    let mut beat = interval(session.beat());
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut limit = None;
    // The ingester has heard that this side drains, or is of a make that does not say so.
    let mut no_more = false;
    let mut unheard = pin!(sleep(Duration::ZERO));
    let end = loop {
        tokio::select! {
            frame = incoming.next() => match frame {
                Some(frame) => {
                    no_more |= frame.no_more;
                    admit::frame(&egress, &session, frame);
                }
                None => break End::Lost,
            },
            _ = beat.tick() => {
                let aborted = session.maintain(Instant::now());
                if aborted > 0 {
                    egress.metrics.expired(aborted);
                    tracing::warn!(%peer, leases = aborted, "leases could not be renewed; their attempts were stopped");
                }
                egress.sweep();
            }
            () = shutdown.cancelled(), if limit.is_none() => {
                limit = Some(Instant::now() + egress.parts.options.drain_limit);
                unheard.as_mut().reset(Instant::now() + UNHEARD);
                drain(&egress, &session);
                tracing::info!(%peer, in_flight = session.held(), "draining");
            }
            () = unheard.as_mut(), if limit.is_some() && !no_more => no_more = true,
            () = session.emptied(), if limit.is_some() && no_more => break End::Drained,
            () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => break End::CutOff,
        }
    };
    tracing::debug!(%peer, ?end, leases = session.held(), "session ends");
    session.abort_all();
    if end == End::Lost {
        // What waits here has been given to somebody else by now.
        take_out(&egress, &session);
        return;
    }
    // Workers answer an abort at once.
    let _ = timeout(FAREWELL, session.emptied()).await;
    session.outbox.close();
    let farewell = async {
        while sending.join_next().await.is_some() {}
        while incoming.next().await.is_some() {}
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// Gives back what has not begun; what is in flight goes on.
fn drain(egress: &Egress, session: &Arc<Session>) {
    session.drain();
    let settlement = Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain };
    for job in take_out(egress, session) {
        give_back(egress, job, &settlement);
    }
}

fn take_out(egress: &Egress, session: &Arc<Session>) -> Vec<crate::session::Job> {
    let lanes: Vec<_> = egress.lanes().values().cloned().collect();
    lanes.iter().flat_map(|lane| lane.take(session)).collect()
}
