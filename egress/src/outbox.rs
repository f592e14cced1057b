//! What waits to be said to the ingester.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use zen_link::frame::{FromEgress, Settled, Token};

/// A frame is cut at so many settlements; with a full response each that is about 2 MiB.
const MAX_SETTLED: usize = 512;

/// Collects; [`Outbox::send`] sends whatever has come together each time that the link has room for a frame.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frame: FromEgress,
    closed: bool,
}

impl Outbox {
    pub(crate) fn settled(&self, settled: Settled) {
        self.add(|frame| frame.settled.push(settled));
    }

    pub(crate) fn begin(&self, token: Token) {
        self.add(|frame| frame.begin.push(token));
    }

    pub(crate) fn renew(&self, tokens: Vec<Token>) {
        self.add(|frame| frame.renew.extend(tokens));
    }

    pub(crate) fn draining(&self) {
        self.add(|frame| frame.draining = true);
    }

    /// Whether renewals still wait: the ingester does not take our frames.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.waiting().frame.renew.is_empty()
    }

    /// Nothing more will come; [`Outbox::send`] returns when everything is sent.
    pub(crate) fn close(&self) {
        self.waiting().closed = true;
        self.ready.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut FromEgress)) {
        let mut waiting = self.waiting();
        let first = is_empty(&waiting.frame);
        add(&mut waiting.frame);
        drop(waiting);
        if first {
            self.ready.notify_one();
        }
    }

    /// Sends until closed and empty, or until the session has ended.
    pub(crate) async fn send(&self, outgoing: mpsc::Sender<FromEgress>) {
        loop {
            self.ready.notified().await;
            // Every worker that can run now runs before this: their ends share the frame.
            tokio::task::yield_now().await;
            loop {
                let Ok(permit) = outgoing.reserve().await else { return };
                match self.take() {
                    (Some(frame), _) => permit.send(frame),
                    (None, true) => return,
                    (None, false) => break,
                }
            }
        }
    }

    /// The next frame, and whether nothing more will come.
    fn take(&self) -> (Option<FromEgress>, bool) {
        let mut waiting = self.waiting();
        if is_empty(&waiting.frame) {
            return (None, waiting.closed);
        }
        let mut frame = std::mem::take(&mut waiting.frame);
        if frame.settled.len() > MAX_SETTLED {
            waiting.frame.settled = frame.settled.split_off(MAX_SETTLED);
        }
        (Some(frame), waiting.closed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_empty(frame: &FromEgress) -> bool {
    frame.settled.is_empty() && frame.begin.is_empty() && frame.renew.is_empty() && !frame.draining
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_comes_together_shares_a_frame_and_large_ones_are_cut() {
        let outbox = Arc::new(Outbox::default());
        let (sender, mut frames) = mpsc::channel(1);
        let sending = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.send(sender).await }
        });
        for _ in 0..MAX_SETTLED + 7 {
            outbox.settled(Settled::default());
        }
        outbox.draining();
        let first = frames.recv().await.expect("a frame");
        assert_eq!((first.settled.len(), first.draining), (MAX_SETTLED, true));
        assert_eq!(frames.recv().await.expect("the rest").settled.len(), 7);
        outbox.begin(Token::default());
        outbox.close();
        assert_eq!(frames.recv().await.expect("the last").begin.len(), 1);
        assert_eq!(frames.recv().await, None);
        sending.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_full_link_makes_frames_grow_instead_of_tasks_wait() {
        let outbox = Arc::new(Outbox::default());
        let (sender, mut frames) = mpsc::channel(1);
        let sending = Arc::clone(&outbox);
        tokio::spawn(async move { sending.send(sender).await });
        outbox.renew(vec![Token::default()]);
        while outbox.is_stuck() {
            tokio::task::yield_now().await;
        }
        // The channel is full now.
        for _ in 0..100 {
            outbox.settled(Settled::default());
            tokio::task::yield_now().await;
        }
        outbox.renew(vec![Token::default()]);
        assert!(outbox.is_stuck());
        assert_eq!(frames.recv().await.expect("the first").renew.len(), 1);
        let second = frames.recv().await.expect("the second");
        assert_eq!((second.settled.len(), second.renew.len()), (100, 1));
    }
}
