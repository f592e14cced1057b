//! The side that ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::{Instant, sleep};
use zen_identity::control::AdoptRequest;
use zen_queue::handover::{Batch, Budget, Cursor, Exported};
use zen_queue::{BoxFuture, Queue, QueueId};

use super::{Error, Failure, Transport};
use crate::drain::{self, Handover, Progress};

/// A page: large enough that the peer's sync is shared by many, small enough for everybody's memory.
const PAGE: usize = 1 << 20;
/// A page that is not answered for is delivered by nobody here for so long.
const HOLD: Duration = Duration::from_mins(2);
/// Pauses before a page without an answer is sent again at once; afterwards the next call does it.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A queue that may have a page and is not there any more is waited for this long. Then another gets the page, and what
/// the first one took comes twice should it return.
const PATIENCE: Duration = Duration::from_mins(5);

/// Hands the whole queue over to peers.
pub struct Sender {
    queue: Arc<dyn Queue>,
    transport: Arc<dyn Transport>,
    /// This pod's name, for the peer's log.
    name: String,
    /// Since when a queue that may have a page has been missed.
    away: Mutex<Option<(QueueId, Instant)>>,
}

/// A peer that answers.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    queue: QueueId,
}

/// How far the page in hand got.
enum Sent {
    /// It is there and no longer here.
    Done,
    /// The peer has it for certain not.
    NotTaken(Failure),
    /// It may be there.
    InDoubt(Failure),
}

impl Sender {
    /// Hands over what `queue` holds, as the pod `name`.
    pub fn new(queue: Arc<dyn Queue>, transport: Arc<dyn Transport>, name: impl Into<String>) -> Self {
        Self { queue, transport, name: name.into(), away: Mutex::default() }
    }

    /// Exports from the beginning to the end, page by page, to one of the peers. What is under lease stays; call again
    /// when it is settled. Dropped or failed at any point, it can be called again: the page in hand is finished or sent
    /// again to the same queue.
    pub async fn run(&self, peers: &[SocketAddr]) -> Result<Progress, Error> {
        let heir = self.queue.heir().await?;
        let mut candidates = self.candidates(peers).await;
        let mut bound = false;
        if let Some(heir) = heir {
            if let Some(at) = candidates.iter().position(|candidate| candidate.queue == heir) {
                candidates = vec![candidates.swap_remove(at)];
                bound = true;
            } else if self.waits_for(heir) {
                return Err(Error::Away(heir));
            } else {
                tracing::warn!(queue = %heir, "a queue that may have a page has not come back; another gets it too");
            }
        }
        *self.away() = None;
        let mut pass = Pass { sender: self, candidates, bound, heir, progress: Progress::default() };
        let mut next = Some(Cursor::default());
        while let Some(cursor) = next {
            let page = self.queue.export(cursor, Budget { bytes: PAGE, hold: HOLD }).await?;
            next = page.next;
            if !page.exported.is_empty() {
                pass.page(page.batch, page.exported).await?;
            }
        }
        if pass.heir.is_some() {
            self.queue.set_heir(None).await?;
        }
        Ok(pass.progress)
    }

    /// Peers that would adopt, in an order that spreads those who end over those who stay.
    async fn candidates(&self, peers: &[SocketAddr]) -> Vec<Candidate> {
        let own = self.queue.id();
        let mut candidates = Vec::with_capacity(peers.len());
        for &address in peers {
            match self.transport.queue(address).await {
                Ok(queue) if queue != own => candidates.push(Candidate { address, queue }),
                Ok(_) => {}
                Err(error) => tracing::debug!(%address, %error, "a replica does not adopt"),
            }
        }
        fastrand::shuffle(&mut candidates);
        candidates
    }

    /// Whether a queue that is not among the peers may still come back.
    fn waits_for(&self, queue: QueueId) -> bool {
        let mut away = self.away();
        let since = match *away {
            Some((missed, since)) if missed == queue => since,
            _ => away.insert((queue, Instant::now())).1,
        };
        since.elapsed() < PATIENCE
    }

    fn away(&self) -> std::sync::MutexGuard<'_, Option<(QueueId, Instant)>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handover for Sender {
    fn hand_over(&self, peers: Vec<SocketAddr>) -> BoxFuture<'_, Result<Progress, drain::Error>> {
        Box::pin(async move { self.run(&peers).await.map_err(drain::Error::from) })
    }
}

/// One way through the queue.
struct Pass<'a> {
    sender: &'a Sender,
    /// The first one is sent to.
    candidates: Vec<Candidate>,
    /// An earlier call left something in doubt at the one candidate: nobody else may get it.
    bound: bool,
    heir: Option<QueueId>,
    progress: Progress,
}

impl Pass<'_> {
    /// Gets one page to a peer and deletes it here.
    async fn page(&mut self, batch: Batch, exported: Exported) -> Result<(), Error> {
        let counts = count(&batch);
        let payload = batch.encode();
        let hash = digest(&SHA256, &payload).as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
        let (from, batch_name) = (self.sender.name.clone(), format!("{hash:016x}"));
        let request = AdoptRequest { from, batch: batch_name, payload: payload.to_vec() };
        let mut last = None;
        while let Some(&to) = self.candidates.first() {
            self.inherits(to.queue).await?;
            let sending = send(
                Arc::clone(&self.sender.queue),
                Arc::clone(&self.sender.transport),
                to,
                (!batch.is_empty()).then(|| request.clone()),
                exported.clone(),
            );
            // On a task of its own: a page that is on its way is finished, whatever becomes of the caller.
            let sent = match tokio::spawn(sending).await {
                Ok(sent) => sent?,
                Err(error) => Sent::InDoubt(Failure::Unknown(error.to_string())),
            };
            match sent {
                Sent::Done => {
                    self.progress.waiting += counts.waiting;
                    self.progress.dead_letters += counts.dead_letters;
                    self.progress.claims += counts.claims;
                    return Ok(());
                }
                Sent::InDoubt(failure) => {
                    return Err(Error::InDoubt { queue: to.queue, reason: failure.to_string() });
                }
                Sent::NotTaken(failure) if self.bound => return Err(Error::Refused(failure.to_string())),
                Sent::NotTaken(failure) => {
                    tracing::warn!(address = %to.address, error = %failure, "a replica does not take a page");
                    self.candidates.remove(0);
                    last = Some(failure);
                }
            }
        }
        self.sender.queue.keep(&exported);
        if self.heir.take().is_some() {
            self.sender.queue.set_heir(None).await?;
        }
        Err(last.map_or(Error::NoPeer, |failure| Error::Refused(failure.to_string())))
    }

    /// Durable before the first page leaves.
    async fn inherits(&mut self, queue: QueueId) -> Result<(), Error> {
        if self.heir != Some(queue) {
            self.sender.queue.set_heir(Some(queue)).await?;
            self.heir = Some(queue);
        }
        Ok(())
    }
}

/// Sends a page, again if there is no answer, and deletes it here when it is there.
async fn send(
    queue: Arc<dyn Queue>,
    transport: Arc<dyn Transport>,
    to: Candidate,
    request: Option<AdoptRequest>,
    exported: Exported,
) -> Result<Sent, zen_queue::Error> {
    let mut doubt = None;
    let mut pauses = AGAIN.into_iter();
    // A page without content: claims that ended meanwhile.
    while let Some(request) = &request {
        queue.hold(&exported, HOLD);
        match (transport.adopt(to.address, to.queue, request.clone()).await, &doubt) {
            (Ok(adopted), _) => {
                tracing::debug!(queue = %to.queue, ?adopted, "a page was adopted");
                break;
            }
            (Err(Failure::Unknown(reason)), _) => {
                tracing::warn!(queue = %to.queue, reason, "no answer for a page");
                doubt = Some(Failure::Unknown(reason));
            }
            (Err(failure), None) => return Ok(Sent::NotTaken(failure)),
            // That it is refused now says nothing about the time before.
            (Err(_), Some(_)) => {}
        }
        match (pauses.next(), doubt.take()) {
            (Some(pause), still) => {
                doubt = still;
                sleep(pause).await;
            }
            (None, still) => return Ok(Sent::InDoubt(still.unwrap_or_else(|| Failure::Unknown(String::new())))),
        }
    }
    queue.forget(exported).await?;
    Ok(Sent::Done)
}

fn count(batch: &Batch) -> Progress {
    let waiting = batch.deliveries.iter().filter(|delivery| delivery.waiting.is_some()).count() as u64;
    let claims = batch.claims.iter().map(|claims| claims.claims.len() as u64).sum();
    Progress { waiting, dead_letters: batch.deliveries.len() as u64 - waiting, claims }
}
