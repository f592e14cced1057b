//! Standard output on a thread of its own: a terminal that does not scroll, or a pipe that nobody reads, never stops the
//! mesh.

use std::io::IsTerminal as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;

use crate::output::{Style, write_stdout};

/// Texts that wait for a slow reader; more are dropped.
const WAITING: usize = 1024;
/// At the end of the process, a reader that does not read gets so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// For whom lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A terminal: aligned text, coloured where welcome.
    People(Style),
    /// A pipe or file: one JSON object a line.
    Machines,
}

/// Where `zen up` writes. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct Printer {
    reader: Reader,
    sender: SyncSender<String>,
}

/// Waits for the last line to be written; see [`Ending::finish`].
#[derive(Debug)]
pub struct Ending {
    done: Receiver<()>,
}

impl Printer {
    /// On standard output.
    pub fn stdout() -> (Self, Ending) {
        let people = std::io::stdout().is_terminal();
        let reader = if people { Reader::People(Style::stdout()) } else { Reader::Machines };
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let (finished, done) = sync_channel(1);
        std::thread::spawn(move || {
            while let Ok(text) = receiver.recv() {
                write_stdout(&text);
            }
            let _ = finished.send(());
        });
        (Self { reader, sender }, Ending { done })
    }

    /// For whom.
    pub const fn reader(&self) -> Reader {
        self.reader
    }

    /// Writes text that ends in a newline. Says whether there was room.
    pub fn text(&self, text: String) -> bool {
        self.sender.try_send(text).is_ok()
    }

    /// A line for people, or `record` for machines.
    pub fn say(&self, people: impl FnOnce(Style) -> String, record: &impl Serialize) {
        let text = match self.reader {
            Reader::People(style) => people(style),
            Reader::Machines => serde_json::to_string(record).unwrap_or_default() + "\n",
        };
        self.text(text);
    }
}

impl Ending {
    /// Call when every [`Printer`] is dropped: returns when all is written, or after a second.
    pub fn finish(&self) {
        if self.done.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("standard output did not take the last lines");
        }
    }
}
