//! One member's stream over the feeds of all ingesters.
//!
//! To the egress it is one session. Each feed counts its own Destinations: what a token calls a Destination is renamed, so that
//! no two feeds' tokens are the same, and the name says to which feed a word of the egress goes. What the egress does not hold
//! there, that feed's own session refuses.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream as FrameStream, StreamExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use zen_link::frame::{FromEgress, FromIngester, Hello, Token, VERSION, Window};
use zen_link::{IngesterSession, Receiver};

use super::door::Admitted;
use super::mailbox::Mailbox;
use super::{Parts, peers};
use crate::feed::{self, Carrier};

/// A stream may have so many bytes of records out, whatever it asks for.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// And so many leases.
const MAX_LEASES: u32 = 65_536;
/// Frames between the stream and this process's own feed.
const FRAMES: usize = 4;
/// Time for the last words to reach the feeds, and for them to end.
const FAREWELL: Duration = Duration::from_secs(3);
/// Time for the last frames to reach the egress of a stream that this side ends.
const MOMENT: Duration = Duration::from_secs(1);

pub(super) struct Stream {
    state: Mutex<State>,
    /// To the egress. Bounded: a feed is not read while it does not read.
    outgoing: mpsc::Sender<FromIngester>,
    draining: CancellationToken,
    /// A feed ended, or has nothing out.
    quiet: Notify,
}

struct State {
    window: Window,
    feeds: HashMap<u64, Feed>,
    /// What the egress calls a Destination → of which feed, and what that one calls it.
    names: HashMap<u32, (u64, u32)>,
    next_feed: u64,
    next_name: u32,
    draining: bool,
    said_no_more: bool,
}

struct Feed {
    mailbox: Arc<Mailbox>,
    /// What it calls a Destination → what the egress does.
    names: HashMap<u32, u32>,
    /// It grants nothing more.
    no_more: bool,
    /// Leases that the egress has of it; those that ran out are still counted.
    out: usize,
    broken: CancellationToken,
}

/// Serves the stream until either side ends it. With `end` it is drained: this process goes, and the egress connects elsewhere.
pub(super) async fn run(parts: &Parts, session: IngesterSession, admitted: Admitted, end: CancellationToken) {
    let IngesterSession { peer, hello, sender, receiver, .. } = session;
    let stream = Stream::new(&hello, sender);
    // The windows follow when it is known how many feeds share them.
    let hello = Hello {
        version: VERSION,
        max_leases: 1,
        max_bytes: 1,
        instance: hello.instance.chars().take(128).collect(),
        incarnation: hello.incarnation,
        ..Hello::default()
    };
    let own = own_feed(parts, &stream, admitted.clone(), peer.to_string(), hello.clone());
    let others = peers::follow(parts, &stream, &admitted, &hello);
    let drained = async {
        end.cancelled().await;
        tracing::info!(%peer, "this process ends: a member's stream is drained");
        stream.drain();
        let _ = timeout(parts.drain_limit, stream.emptied()).await;
    };
    let reading = stream.read(receiver);
    let (mut own, mut reading) = (pin!(own), pin!(reading));
    let mut others = pin!(others);
    tokio::select! {
        () = &mut own => {
            // Revoked, or this process's feed has ended: with it the peers' leases would have nobody to speak for them. A
            // process that ends still passes on what they settle.
            if end.is_cancelled() {
                // This process's own feed may be the first to notice, when it has nothing out.
                stream.drain();
                tokio::select! {
                    () = &mut reading => {}
                    () = &mut others => {}
                    _ = timeout(parts.drain_limit, stream.emptied()) => {}
                }
                stream.farewell(others).await;
            }
            return;
        }
        () = &mut reading => {}
        () = &mut others => {}
        () = drained => {}
    }
    stream
        .farewell(async {
            tokio::join!(own, others);
        })
        .await;
}

/// The feed of this process, over channels.
async fn own_feed(parts: &Parts, stream: &Arc<Stream>, admitted: Admitted, peer: String, hello: Hello) {
    let (to_stream, from_feed) = mpsc::channel(FRAMES);
    let (to_feed, from_stream) = mpsc::channel(FRAMES);
    let link = feed::Link {
        carrier: Carrier::Relay(admitted),
        peer,
        hello,
        outgoing: to_stream,
        incoming: ReceiverStream::new(from_stream).boxed(),
    };
    let mut serving = pin!(parts.feed.serve(link));
    let mut pumping = pin!(stream.pump(to_feed, ReceiverStream::new(from_feed).boxed()));
    tokio::select! {
        // An egress that does not read cannot put off the end.
        () = &mut serving => {
            let _ = timeout(MOMENT, pumping).await;
        }
        () = &mut pumping => serving.await,
    }
}

impl Stream {
    fn new(hello: &Hello, outgoing: mpsc::Sender<FromIngester>) -> Arc<Self> {
        let window = Window {
            max_leases: hello.max_leases.clamp(1, MAX_LEASES),
            max_bytes: hello.max_bytes.clamp(1, MAX_BYTES),
        };
        let state = State {
            window,
            feeds: HashMap::new(),
            names: HashMap::new(),
            next_feed: 0,
            next_name: 1,
            draining: false,
            said_no_more: false,
        };
        Arc::new(Self { state: Mutex::new(state), outgoing, draining: CancellationToken::new(), quiet: Notify::new() })
    }

    /// Joins a feed to the stream until it ends: its frames go to the egress, and the words of the egress for it to `to`.
    pub(super) async fn pump(&self, to: mpsc::Sender<FromEgress>, mut incoming: BoxStream<'static, FromIngester>) {
        let (id, mailbox, broken) = self.join();
        let passing = async {
            while let Some(mut frame) = incoming.next().await {
                if !self.state().rename(id, &mut frame) {
                    return;
                }
                let no_more = std::mem::take(&mut frame.no_more);
                frame.welcome = None;
                // A feed speaks of its own leases alone.
                frame.void.clear();
                if frame != FromIngester::default() && self.outgoing.send(frame).await.is_err() {
                    return;
                }
                if no_more {
                    self.no_more(Some(id)).await;
                }
            }
        };
        // A feed that hears nothing more still settles what it has to; whatever it waits for, one that was given up passes
        // nothing on.
        let sending = async {
            mailbox.send(to).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = passing => {}
            () = sending => {}
            () = broken.cancelled() => tracing::warn!("a feed takes no words of the egress; it is given up"),
        }
        let void = self.leave(id);
        if !void.is_empty() {
            let _ = self.outgoing.send(FromIngester { void, ..FromIngester::default() }).await;
        }
        self.no_more(None).await;
    }

    /// Reads the egress until it ends.
    async fn read(&self, mut receiver: Receiver<FromEgress>) {
        while let Some(frame) = receiver.next().await {
            match frame {
                Ok(frame) => self.take(frame).await,
                Err(error) => {
                    tracing::debug!(%error, "a member's stream broke");
                    return;
                }
            }
        }
    }

    /// Sorts a frame of the egress into the mailboxes, and waits while one of them is full.
    async fn take(&self, frame: FromEgress) {
        if frame.draining {
            self.drain();
            self.no_more(None).await;
        }
        let mut touched = HashMap::new();
        {
            let mut state = self.state();
            let mut of = |token: &mut Token| {
                let (id, own) = state.names.get(&token.destination).copied()?;
                token.destination = own;
                let mailbox = Arc::clone(&state.feeds.get(&id)?.mailbox);
                touched.entry(id).or_insert_with(|| Arc::clone(&mailbox));
                Some((id, mailbox))
            };
            let mut settled_of = Vec::new();
            for mut settled in frame.settled {
                if let Some((id, mailbox)) = of(&mut settled.token) {
                    mailbox.settled(settled);
                    settled_of.push(id);
                }
            }
            for mut token in frame.renew {
                if let Some((_, mailbox)) = of(&mut token) {
                    mailbox.renew(token);
                }
            }
            for mut token in frame.begin {
                if let Some((_, mailbox)) = of(&mut token) {
                    mailbox.begin(token);
                }
            }
            for id in settled_of {
                if let Some(feed) = state.feeds.get_mut(&id) {
                    feed.out = feed.out.saturating_sub(1);
                }
            }
        }
        self.quiet.notify_waiters();
        for (id, mailbox) in touched {
            if !mailbox.has_room().await
                && let Some(feed) = self.state().feeds.get(&id)
            {
                feed.broken.cancel();
            }
        }
    }

    fn join(&self) -> (u64, Arc<Mailbox>, CancellationToken) {
        let mut state = self.state();
        let id = state.next_feed;
        state.next_feed += 1;
        let feed = Feed {
            mailbox: Arc::default(),
            names: HashMap::new(),
            no_more: false,
            out: 0,
            broken: CancellationToken::new(),
        };
        let joined = (id, Arc::clone(&feed.mailbox), feed.broken.clone());
        if state.draining {
            feed.mailbox.draining();
        }
        state.feeds.insert(id, feed);
        state.divide();
        joined
    }

    /// Returns the Destinations whose leases are void.
    fn leave(&self, id: u64) -> Vec<u32> {
        let mut state = self.state();
        let Some(feed) = state.feeds.remove(&id) else { return Vec::new() };
        state.names.retain(|_, (of, _)| *of != id);
        state.divide();
        drop(state);
        self.quiet.notify_waiters();
        if feed.out > 0 { feed.names.into_values().collect() } else { Vec::new() }
    }

    /// No lease is to come any more.
    fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        for feed in state.feeds.values() {
            feed.mailbox.draining();
        }
        drop(state);
        self.draining.cancel();
    }

    /// Waits until nothing more is to come.
    pub(super) async fn is_draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether nothing more is to come.
    pub(super) fn drains(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Notes that a feed grants no more, and says so to the egress when it is true of all of them.
    async fn no_more(&self, of: Option<u64>) {
        let all = {
            let mut state = self.state();
            if let Some(feed) = of.and_then(|id| state.feeds.get_mut(&id)) {
                feed.no_more = true;
            }
            let all = state.draining && !state.said_no_more && state.feeds.values().all(|feed| feed.no_more);
            state.said_no_more |= all;
            all
        };
        if all {
            let _ = self.outgoing.send(FromIngester { no_more: true, ..FromIngester::default() }).await;
        }
    }

    /// Waits until no feed has leases out, once they grant no more.
    async fn emptied(&self) {
        loop {
            let mut quiet = pin!(self.quiet.notified());
            quiet.as_mut().enable();
            if self.state().feeds.values().all(|feed| feed.no_more && feed.out == 0) {
                return;
            }
            // A word that was passed on may be the last: whoever says it wakes this.
            let _ = timeout(FAREWELL / 10, quiet).await;
        }
    }

    /// The egress says nothing more: what it has said reaches the feeds, which then end.
    async fn farewell(&self, feeds: impl Future<Output = ()>) {
        for feed in self.state().feeds.values() {
            feed.mailbox.close();
        }
        self.draining.cancel();
        let gone = async {
            while !self.state().feeds.is_empty() {
                let mut quiet = pin!(self.quiet.notified());
                quiet.as_mut().enable();
                if self.state().feeds.is_empty() {
                    return;
                }
                quiet.await;
            }
        };
        let _ = timeout(FAREWELL, async {
            tokio::select! {
                () = gone => {}
                () = feeds => {}
            }
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Renames what a feed says to the egress. False: there are no names left.
    fn rename(&mut self, id: u64, frame: &mut FromIngester) -> bool {
        let Some(feed) = self.feeds.get_mut(&id) else { return false };
        feed.out = (feed.out + frame.leases.len()).saturating_sub(frame.refused.len());
        let leases = frame.leases.iter_mut().map(|lease| &mut lease.token);
        for token in leases.chain(&mut frame.proceed).chain(&mut frame.refused) {
            if let Some(name) = feed.names.get(&token.destination) {
                token.destination = *name;
                continue;
            }
            let name = self.next_name;
            let Some(next) = name.checked_add(1) else { return false };
            self.next_name = next;
            feed.names.insert(token.destination, name);
            self.names.insert(name, (id, token.destination));
            token.destination = name;
        }
        true
    }

    /// Divides the window anew. What is out stays out: for a moment there may be more.
    fn divide(&mut self) {
        let count = self.feeds.len().max(1);
        let window = Window {
            max_leases: (self.window.max_leases / u32::try_from(count).unwrap_or(u32::MAX)).max(1),
            max_bytes: (self.window.max_bytes / count as u64).max(1),
        };
        for feed in self.feeds.values() {
            feed.mailbox.window(window);
        }
    }
}

/// The frames of a session, until it ends.
pub(super) fn frames(receiver: Receiver<FromIngester>) -> impl FrameStream<Item = FromIngester> + Send + 'static {
    futures_util::stream::unfold(receiver, async |mut receiver| match receiver.next().await? {
        Ok(frame) => Some((frame, receiver)),
        Err(error) => {
            tracing::debug!(%error, "a feed broke");
            None
        }
    })
}
