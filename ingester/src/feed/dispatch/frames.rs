//! What sessions say.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;
use zen_link::frame::{FromEgress, FromIngester, Token};
use zen_model::settle::{Class, ReleaseReason};
use zen_model::{DeadReason, Settlement, Timestamp};
use zen_queue::{LeaseToken, Settled};

use super::super::board::SessionView;
use super::super::convert;
use super::super::lane::Probe;
use super::super::session::{Held, Outgoing, Session};
use super::super::suspects::Verdict;
use super::super::{Carrier, Heard, Link};
use super::{Dispatcher, Done, enqueue, judge};

/// What becomes of a lease whose session ends.
enum Fate {
    /// Due again; the queue counts it.
    Abandoned,
    /// Due again, and nothing is wrong with it.
    Taken,
    /// A dead letter.
    Poison,
}

impl Dispatcher {
    /// Takes what was heard; the settlements of all frames become one call.
    pub(super) fn hear(&mut self, heard: &mut Vec<Heard>) {
        let mut settled = Vec::new();
        for heard in heard.drain(..) {
            match heard {
                Heard::Up(link, ended) => self.connect(link, ended),
                Heard::Down(id) => self.disconnect(id),
                Heard::Frame(id, frame) => self.frame(id, frame, &mut settled),
            }
        }
        if !settled.is_empty() {
            self.parts.metrics.settlements.inc_by(settled.len() as u64);
            self.settle(settled);
        }
    }

    pub(super) fn settle(&mut self, settled: Vec<Settled>) {
        let queue = Arc::clone(&self.parts.queue);
        self.unsettled += 1;
        self.running.push(async move { Done::Settled(queue.settle(settled).await) }.boxed());
    }

    fn connect(&mut self, link: Link, ended: oneshot::Sender<()>) {
        let id = self.new_id();
        let Link { carrier, peer, hello, outgoing, mut incoming } = link;
        tracing::debug!(%peer, instance = hello.instance, "egress session");
        let heard = self.handle.heard.clone();
        let reader = tokio::spawn(async move {
            while let Some(frame) = incoming.next().await {
                if heard.send(Heard::Frame(id, frame)).await.is_err() {
                    return;
                }
            }
            let _ = heard.send(Heard::Down(id)).await;
        });
        let view = Arc::new(SessionView {
            peer,
            instance: hello.instance.chars().take(128).collect(),
            cluster: match &carrier {
                Carrier::Relay(admitted) => Some(admitted.cluster.clone()),
                Carrier::Link | Carrier::InProcess => None,
            },
            since: Timestamp::now(),
            leases: 0.into(),
            bytes: 0.into(),
            draining: false.into(),
        });
        self.parts.board.connected(id, Arc::clone(&view));
        let session = Session::new(carrier, &hello, Outgoing::to(outgoing), reader.abort_handle(), view, ended);
        if let Some(process) = &session.process {
            self.suspects.lives(process);
        }
        self.sessions.insert(id, session);
        self.redivide();
    }

    /// What the session held is due again at once, uncharged, and counted towards `Poison` where the process does not come back.
    pub(super) fn disconnect(&mut self, id: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        if !session.held.is_empty() {
            tracing::info!(peer = session.view.peer, leases = session.held.len(), "egress session ended with leases");
            self.parts.metrics.lost_leases.inc_by(session.held.len() as u64);
        }
        let process = session.process.clone();
        let mut suspects = std::mem::take(&mut self.suspects);
        self.end(id, |token, held| match &process {
            // Whether it was attempted is not known: the queue decides what that means.
            _ if held.begun => Fate::Abandoned,
            None => Fate::Abandoned,
            Some(process) => match suspects.lost(token.delivery, process) {
                Verdict::Again => Fate::Taken,
                Verdict::Poison => Fate::Poison,
                Verdict::Unknown => Fate::Abandoned,
            },
        });
        self.suspects = suspects;
    }

    /// Ends a session, and gives what it held the fate that it is to have.
    fn end(&mut self, id: u64, mut fate: impl FnMut(&LeaseToken, &Held) -> Fate) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.parts.board.disconnected(id);
        let (mut abandoned, mut ended) = (Vec::new(), Vec::new());
        for (token, held) in &session.held {
            let settlement = match fate(token, held) {
                Fate::Abandoned => {
                    abandoned.push(*token);
                    continue;
                }
                Fate::Taken => Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain },
                Fate::Poison => Settlement::Dead { reason: DeadReason::Poison },
            };
            ended.push(Settled { token: *token, settlement, attempt: None });
        }
        if !abandoned.is_empty() {
            self.parts.queue.abandon(&abandoned);
        }
        if !ended.is_empty() {
            self.settle(ended);
        }
        for (token, held) in &session.held {
            self.returned(*token, *held);
        }
        session.end();
        self.redivide();
        self.look = true;
    }

    fn frame(&mut self, id: u64, frame: FromEgress, settled: &mut Vec<Settled>) {
        if !self.sessions.contains_key(&id) {
            return;
        }
        if frame.draining
            && let Some(session) = self.sessions.get(&id)
            && !session.view.draining.swap(true, Relaxed)
        {
            session.send(FromIngester { no_more: true, ..FromIngester::default() });
            // What it gives back goes to the others at once.
            self.redivide();
        }
        if let Some(window) = frame.window
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.resize(window);
            self.requeue_all();
        }
        for ended in frame.settled {
            match convert::settled(ended) {
                // A member speaks of its own leases alone: tokens can be guessed, and an acknowledgement counts however late it
                // comes. An egress of this mesh may still say what became of a session before.
                Ok(ended) if self.account(id, &ended) || !self.is_of_member(id) => settled.push(ended),
                Ok(_) => {
                    self.parts.metrics.foreign_tokens.inc();
                }
                Err(error) => {
                    // A peer of another make: nothing that it says can be relied on.
                    tracing::warn!(%error, "malformed settlement; the session is ended");
                    self.disconnect(id);
                    return;
                }
            }
        }
        self.renew(id, frame.renew);
        if !frame.begin.is_empty() {
            self.begin(id, frame.begin);
        }
        let Some(session) = self.sessions.get(&id) else { return };
        session.show();
        if session.is_overrun() {
            tracing::warn!(peer = session.view.peer, "the peer asks and does not read; its session is ended");
            self.disconnect(id);
        }
    }

    /// Ends sessions of members that count no more: revoked, disabled, deleted, or of keys whose overlap is over (T-06).
    pub(super) fn revoke(&mut self) {
        let now = Timestamp::now();
        let refused = |session: &Session| match &session.carrier {
            Carrier::Relay(admitted) => admitted.standing(&self.snapshot, now).err(),
            Carrier::Link | Carrier::InProcess => None,
        };
        let over: Vec<_> = self.sessions.iter().filter_map(|(id, session)| Some((*id, refused(session)?))).collect();
        for (id, reason) in over {
            let Some(session) = self.sessions.get(&id) else { continue };
            let (peer, code) = (&session.view.peer, reason.code());
            tracing::warn!(peer, reason = code, "a member's stream is closed");
            self.parts.metrics.closed(reason);
            // Nothing is wrong with the events. Only where a repeat does harm, what has begun is not for anybody else.
            self.end(id, |_, held| if held.begun { Fate::Abandoned } else { Fate::Taken });
        }
    }

    /// Books a settlement out of its session and lane, and tells the breaker. Whether it is about a lease of the session.
    fn account(&mut self, id: u64, settled: &Settled) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(held) = session.release(&settled.token) else {
            // Late: the lease expired. The queue decides what it is worth.
            return session.was_late(&settled.token);
        };
        if !matches!(settled.settlement, Settlement::Release { .. }) {
            self.suspects.settled(settled.token.delivery);
        }
        let Some(mut lane) = self.lanes.remove(&held.lane) else { return true };
        lane.returned();
        let now = self.origin.elapsed();
        let is_probe = lane.probe == Probe::Out(settled.token);
        let class = settled.attempt.as_ref().map(|attempt| attempt.class);
        match class.and_then(judge) {
            Some(true) => {
                lane.probe = Probe::None;
                if lane.breaker.success() {
                    self.show(&lane, Some(false));
                }
            }
            Some(false) => {
                if lane.breaker.failure(now) {
                    self.show(&lane, Some(true));
                }
                if is_probe {
                    lane.probe = Probe::None;
                    self.show(&lane, None);
                    if lane.breaker.hold_exceeded(now) {
                        lane.bury = Some(DeadReason::HoldExceeded);
                    }
                }
            }
            None if is_probe => lane.abandon_probe(),
            None => {}
        }
        if class == Some(Class::Gone)
            && let Some(destination) = self.snapshot.destination(&lane.key)
        {
            tracing::warn!(destination = %lane.key, "the target answered 410: nothing is delivered until the Destination changes");
            lane.gone = Some(destination.revision);
            self.show(&lane, None);
        }
        enqueue(&mut self.line, held.lane, &mut lane);
        self.lanes.insert(held.lane, lane);
        true
    }

    fn is_of_member(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| matches!(session.carrier, Carrier::Relay(_)))
    }

    fn renew(&mut self, id: u64, tokens: Vec<Token>) {
        if tokens.is_empty() {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let now = Instant::now();
        // Only what the session holds: nobody keeps another's lease alive.
        let tokens: Vec<LeaseToken> = tokens
            .into_iter()
            .map(convert::token)
            .filter(|token| match session.held.get_mut(token) {
                Some(held) => {
                    held.expires = now + held.term;
                    true
                }
                None => false,
            })
            .collect();
        self.parts.queue.renew(&tokens);
    }

    fn begin(&mut self, id: u64, tokens: Vec<Token>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (mut asked, mut refused) = (Vec::new(), Vec::new());
        for token in tokens {
            // Only what the session holds, and once: an answer for each is on its way.
            match session.held.get_mut(&convert::token(token)) {
                Some(Held { begun: true, .. }) => {}
                Some(held) => {
                    held.begun = true;
                    asked.push(convert::token(token));
                }
                None => refused.push(token),
            }
        }
        if !refused.is_empty() {
            self.parts.metrics.foreign_tokens.inc_by(refused.len() as u64);
            session.send(FromIngester { refused, ..FromIngester::default() });
        }
        if asked.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.parts.queue);
        let call = async move {
            let result = queue.begin(asked.clone()).await;
            Done::Begun { session: id, asked, result }
        };
        self.running.push(call.boxed());
    }

    /// The begin is durable: only now may the egress send the first byte (D-04).
    pub(super) fn begun(&mut self, id: u64, asked: Vec<LeaseToken>, result: Result<Vec<LeaseToken>, zen_queue::Error>) {
        let good = result.unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to store the beginning of attempts");
            Vec::new()
        });
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (proceed, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|token| good.contains(token));
        session.send(FromIngester {
            proceed: proceed.into_iter().map(convert::frame_token).collect(),
            refused: refused.into_iter().map(convert::frame_token).collect(),
            ..FromIngester::default()
        });
    }
}
