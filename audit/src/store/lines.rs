use bytes::Bytes;
use zen_audit::{Entry, Head};

/// Entries of one chain that follow one on the other, and their lines.
pub(super) struct Lines<'a> {
    bytes: &'a Bytes,
    /// Each entry, and where its line ends.
    entries: Vec<(Entry, usize)>,
}

impl<'a> Lines<'a> {
    /// Checks everything that can be checked without the chain.
    pub(super) fn parse(bytes: &'a Bytes) -> Result<Self, String> {
        let mut entries: Vec<(Entry, usize)> = Vec::new();
        let mut end = 0;
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let at = |text: &str| format!("line {}: {text}", number + 1);
            let whole = line.strip_suffix(b"\n").ok_or_else(|| at("it has no end"))?;
            let entry = Entry::parse(whole).map_err(|error| at(&error.to_string()))?;
            if entry.digest() != entry.hash {
                return Err(at("its hash is not that of its content"));
            }
            if let Some((before, _)) = entries.last() {
                let follows = (&before.chain, &before.writer, before.seq + 1, before.hash)
                    == (&entry.chain, &entry.writer, entry.seq, entry.previous);
                if !follows {
                    return Err(at("it does not follow on the one before"));
                }
            }
            end += line.len();
            entries.push((entry, end));
        }
        if entries.is_empty() { Err("there is no entry".to_owned()) } else { Ok(Self { bytes, entries }) }
    }

    pub(super) fn first(&self) -> &Entry {
        // At least one: `parse` sees to it.
        &self.entries[0].0
    }

    pub(super) fn last(&self) -> Head {
        self.entries[self.entries.len() - 1].0.head()
    }

    /// The entry of a number.
    pub(super) fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = usize::try_from(seq.checked_sub(self.first().seq)?).ok()?;
        self.entries.get(index).map(|(entry, _)| entry)
    }

    /// The lines from this number on.
    pub(super) fn from(&self, seq: u64) -> &[u8] {
        let skipped = usize::try_from(seq.saturating_sub(self.first().seq)).unwrap_or(usize::MAX);
        let start = match skipped.checked_sub(1) {
            None => 0,
            Some(last) => self.entries.get(last).map_or(self.bytes.len(), |(_, end)| *end),
        };
        &self.bytes[start..]
    }
}
