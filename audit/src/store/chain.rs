use std::io;
use std::path::Path;

use zen_audit::folder::{self, Appender, Segment};
use zen_audit::{Action, Entry, Hash, Head};

use super::lines::Lines;
use super::scan::Found;

/// The end of one chain.
#[derive(Default)]
pub(super) struct Chain {
    head: Option<Head>,
    /// The last file, where it can be appended to.
    last: Option<Segment>,
    file: Option<Appender>,
    /// Whether a fork was said.
    forked: bool,
}

/// What became of lines.
pub(super) enum Appended {
    /// All are durable; so many were not before.
    Stored { new: u64 },
    /// Entries are missing before them.
    Gap,
    /// They contradict what is there.
    Fork { first_time: bool },
}

impl Chain {
    pub(super) fn found(found: &Found) -> Self {
        // What is damaged stays as it is; what comes goes into another file.
        let last = found.last.clone().filter(|_| found.tail.damage.is_none());
        Self { head: found.tail.head.clone(), last, file: None, forked: false }
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Durable on return. After an error nothing is known to be different.
    pub(super) fn append(
        &mut self,
        root: &Path,
        file_bytes: u64,
        lines: &Lines<'_>,
        earliest: u64,
    ) -> io::Result<Appended> {
        let first = lines.first();
        let next = match &self.head {
            None if begins(first, earliest) => first.seq,
            None => return Ok(Appended::Gap),
            Some(head) if first.seq > head.seq + 1 => return Ok(Appended::Gap),
            Some(head) => {
                let known = lines.entry(head.seq);
                let fits = head.writer == first.writer
                    && known.is_none_or(|entry| entry.hash == head.hash)
                    && (first.seq <= head.seq || first.previous == head.hash);
                if !fits {
                    return Ok(Appended::Fork { first_time: !std::mem::replace(&mut self.forked, true) });
                }
                if known.is_none() && first.seq <= head.seq {
                    // Long stored, if it is the same: the writer compares with the head.
                    return Ok(Appended::Gap);
                }
                head.seq + 1
            }
        };
        let end = lines.last();
        if next > end.seq {
            return Ok(Appended::Stored { new: 0 });
        }
        self.write(root, file_bytes, next, lines, &end)?;
        let new = end.seq + 1 - next;
        self.head = Some(end);
        Ok(Appended::Stored { new })
    }

    fn write(&mut self, root: &Path, file_bytes: u64, next: u64, lines: &Lines<'_>, end: &Head) -> io::Result<()> {
        if self.file.is_none()
            && let Some(last) = self.last.clone()
        {
            self.file = Some(Appender::open(last, None)?);
        }
        let is_full = |file: &Appender| file.is_clean() && file.segment().bytes >= file_bytes;
        if self.file.as_ref().is_none_or(is_full) {
            let writer = &end.writer;
            let folder = root.join(writer.component()).join(writer.instance()).join(end.chain.as_str());
            self.file = Some(Appender::create(root, &folder, next, None)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let done = file.append(lines.from(next));
        // The next attempt opens it anew, at what is durable.
        self.last = Some(file.segment().clone());
        if done.is_err() {
            self.file = None;
        }
        done
    }

    /// Gives the open file back; the next append opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }
}

/// Whether a chain may begin with this: with its first entry, or with the earliest that its writer has.
fn begins(first: &Entry, earliest: u64) -> bool {
    if first.seq == 1 {
        first.previous == Hash::NONE && first.action == Action::OpenChain.label()
    } else {
        first.seq == earliest
    }
}

/// The last file of a chain.
pub(super) fn last_segment(folder: &Path) -> io::Result<Option<Segment>> {
    Ok(folder::segments(folder)?.pop())
}
