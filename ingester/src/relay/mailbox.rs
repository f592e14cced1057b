//! What waits to be said to one feed. Each has a mailbox of its own: a feed that is slow holds back no other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use zen_link::frame::{FromEgress, Settled, Token, Window};

/// A frame is cut at so many settlements; with a full response each that is about 2 MiB.
const MAX_SETTLED: usize = 512;
/// Beyond so much the stream is not read until there is room: some windows' worth.
const MAX_WAITING: usize = 16_384;
/// Of responses in settlements.
const MAX_RESPONSES: usize = 8 << 20;
/// A feed that makes no room for so long is given up.
const STUCK: Duration = Duration::from_secs(10);

/// Collects; [`Mailbox::send`] sends what has come together each time that the feed takes a frame.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    ready: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frame: FromEgress,
    responses: usize,
    closed: bool,
}

impl Mailbox {
    pub(super) fn settled(&self, settled: Settled) {
        let response = settled.attempt.as_ref().map_or(0, |attempt| attempt.response.len());
        self.add(|waiting| {
            waiting.responses += response;
            waiting.frame.settled.push(settled);
        });
    }

    pub(super) fn renew(&self, token: Token) {
        self.add(|waiting| waiting.frame.renew.push(token));
    }

    pub(super) fn begin(&self, token: Token) {
        self.add(|waiting| waiting.frame.begin.push(token));
    }

    pub(super) fn window(&self, window: Window) {
        self.add(|waiting| waiting.frame.window = Some(window));
    }

    pub(super) fn draining(&self) {
        self.add(|waiting| waiting.frame.draining = true);
    }

    /// Nothing more will come; [`Mailbox::send`] returns when everything is sent.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.ready.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            add(&mut waiting);
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits until there is room; false: there was none for too long.
    pub(super) async fn has_room(&self) -> bool {
        let waiting = async {
            loop {
                let room = self.room.notified();
                if !self.waiting().is_full() {
                    return;
                }
                room.await;
            }
        };
        timeout(STUCK, waiting).await.is_ok()
    }

    /// Sends until closed and empty, or until the feed has ended.
    pub(super) async fn send(&self, to: mpsc::Sender<FromEgress>) {
        loop {
            self.ready.notified().await;
            loop {
                let Ok(permit) = to.reserve().await else { return };
                match self.take() {
                    (Some(frame), _) => permit.send(frame),
                    (None, true) => return,
                    (None, false) => break,
                }
            }
        }
    }

    fn take(&self) -> (Option<FromEgress>, bool) {
        let mut waiting = self.waiting();
        if waiting.frame == FromEgress::default() {
            return (None, waiting.closed);
        }
        let mut frame = std::mem::take(&mut waiting.frame);
        waiting.responses = 0;
        if frame.settled.len() > MAX_SETTLED {
            waiting.frame.settled = frame.settled.split_off(MAX_SETTLED);
            let responses = waiting.frame.settled.iter().filter_map(|settled| settled.attempt.as_ref());
            waiting.responses = responses.map(|attempt| attempt.response.len()).sum();
        }
        let closed = waiting.closed;
        drop(waiting);
        self.room.notify_one();
        (Some(frame), closed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_full(&self) -> bool {
        let FromEgress { settled, renew, begin, .. } = &self.frame;
        settled.len() + renew.len() + begin.len() > MAX_WAITING || self.responses > MAX_RESPONSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_takes_nothing_is_given_up_and_one_that_does_is_waited_for() {
        let mailbox = Mailbox::default();
        let (to, mut frames) = mpsc::channel::<FromEgress>(1);
        for _ in 0..=MAX_WAITING {
            mailbox.renew(Token::default());
        }
        assert!(!mailbox.has_room().await, "nobody sends");
        let taking = async {
            tokio::time::sleep(STUCK / 2).await;
            frames.recv().await.expect("a frame").renew.len()
        };
        tokio::select! {
            () = mailbox.send(to) => panic!("it is not closed"),
            (room, taken) = async { tokio::join!(mailbox.has_room(), taking) } => {
                assert_eq!((room, taken), (true, MAX_WAITING + 1));
            }
        }
    }

    #[tokio::test]
    async fn what_was_said_before_the_close_arrives_in_frames_of_a_size() {
        let mailbox = Mailbox::default();
        let (to, mut frames) = mpsc::channel(8);
        for _ in 0..MAX_SETTLED + 7 {
            mailbox.settled(Settled::default());
        }
        mailbox.window(Window { max_leases: 3, max_bytes: 4 });
        mailbox.close();
        mailbox.draining();
        mailbox.send(to).await;
        let first = frames.recv().await.expect("a frame");
        assert_eq!((first.settled.len(), first.window.map(|window| window.max_leases)), (MAX_SETTLED, Some(3)));
        let second = frames.recv().await.expect("the rest");
        assert_eq!((second.settled.len(), second.draining), (7, false));
        assert_eq!(frames.recv().await, None);
    }
}
