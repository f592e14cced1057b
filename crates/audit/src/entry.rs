//! One entry: what it holds, how it is written, and what is hashed.
//!
//! An entry is one line of canonical JSON (RFC 8785: keys in order, no blanks). Its `hash` is the SHA-256 of [`DOMAIN`]
//! followed by that JSON without the `hash`; `previous` is the hash of the entry before. A line that is not byte for byte
//! what its content is written as is refused, so that nothing at all can be changed unseen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;

use crate::head::{Hash, Head};
use crate::names::{ChainId, Writer};
use crate::record::{Action, Record, is_key};

/// What is hashed before an entry: no hash of anything else can be one of these.
pub const DOMAIN: &[u8] = b"zen-mesh.io/audit/v1\n";
/// Version of the format.
pub const VERSION: u32 = 1;
/// The longest line, bytes, without its end.
pub const MAX_LINE: usize = 64 << 10;
/// Numbers above cannot be read exactly by every JSON parser (RFC 8785, appendix D).
const MAX_NUMBER: u64 = 1 << 53;

/// One entry of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    // In the order of the alphabet: it is the order in which they are hashed.
    /// What was done or asked for; [`Action::label`], or one that a later version knows.
    pub action: String,
    /// Whether it was.
    pub allowed: bool,
    /// The chain.
    pub chain: ChainId,
    /// The request id of logs and answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub correlation: String,
    /// Disk, queue or store did not work when this was written: entries before it may be missing elsewhere, and this one may
    /// have been in nothing but memory for a while.
    #[serde(default, skip_serializing_if = "is_false")]
    pub degraded: bool,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// The hash of the rest of this entry.
    #[serde(default = "none", skip_serializing_if = "Hash::is_none")]
    pub hash: Hash,
    /// So many entries before this one could not be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// With what, e.g. `ZenLock/team-a/db`.
    pub object: String,
    /// The hash of the entry before; zeros in the first.
    pub previous: Hash,
    /// Why: a code of `docs/reference/reasons.md`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// 1, 2, 3, … without a gap.
    pub seq: u64,
    /// When, by the writer's clock.
    pub time: Timestamp,
    /// [`VERSION`].
    pub v: u32,
    /// Who did it or asked for it.
    pub who: String,
    /// Who wrote this.
    pub writer: Writer,
}

// Serde calls these with references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn none() -> Hash {
    Hash::NONE
}

/// A line that is no entry.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Over [`MAX_LINE`].
    #[error("the line has more than {MAX_LINE} bytes")]
    TooLong,
    /// Not the JSON of an entry.
    #[error("it is no entry: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that this program does not know.
    #[error("it is of version {0}, and this program knows {VERSION}")]
    Version(u32),
    /// It means an entry, but it is not what that entry is written as.
    #[error("it is not written as an entry is")]
    NotCanonical,
}

impl Entry {
    /// The entry that follows on `head`; the first of its chain when that has number 0.
    pub(crate) fn following(head: &Head, record: Record, time: Timestamp, degraded: bool, lost: u64) -> Self {
        let Record { action, who, object, allowed, reason, correlation, details } = record;
        let mut entry = Self {
            action: action.label().to_owned(),
            allowed,
            chain: head.chain.clone(),
            correlation,
            degraded,
            details,
            hash: Hash::NONE,
            lost,
            object,
            previous: head.hash,
            reason: reason.into_owned(),
            seq: head.seq + 1,
            time,
            v: VERSION,
            who,
            writer: head.writer.clone(),
        };
        entry.seal();
        entry
    }

    /// The same at the end of another chain.
    pub(crate) fn moved(mut self, head: &Head) -> Self {
        self.chain.clone_from(&head.chain);
        (self.previous, self.seq, self.degraded) = (head.hash, head.seq + 1, true);
        self.seal();
        self
    }

    /// Writes its hash. What an attacker with the file can do too: that is what anchored heads are for.
    pub fn seal(&mut self) {
        self.hash = self.digest();
    }

    /// The hash that it should have.
    pub fn digest(&self) -> Hash {
        let bare = Self { hash: Hash::NONE, ..self.clone() };
        Hash::of(DOMAIN, &bare.to_line())
    }

    /// The line, without its end.
    pub fn to_line(&self) -> Vec<u8> {
        // Strings, numbers and booleans always serialize; an empty line is refused by every reader.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a line, without its end. The hash is read, not checked: see [`Entry::digest`].
    ///
    /// # Errors
    ///
    /// When the line is not exactly what an entry is written as.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        if line.len() > MAX_LINE {
            return Err(Malformed::TooLong);
        }
        let entry: Self = serde_json::from_slice(line).map_err(|error| version_of(line).unwrap_or(error.into()))?;
        let sound = entry.v == VERSION
            && (1..MAX_NUMBER).contains(&entry.seq)
            && entry.lost < MAX_NUMBER
            && !entry.hash.is_none()
            && entry.details.keys().all(|key| is_key(key))
            && entry.to_line() == line;
        if sound { Ok(entry) } else { Err(version_of(line).unwrap_or(Malformed::NotCanonical)) }
    }

    /// Where the chain stands with it.
    pub fn head(&self) -> Head {
        Head { writer: self.writer.clone(), chain: self.chain.clone(), seq: self.seq, hash: self.hash }
    }

    /// Heads of chains that it vouches for: that of the chain before, or those that it anchors.
    pub fn claims(&self) -> impl Iterator<Item = Head> {
        let claims = [Action::OpenChain, Action::LinkChain, Action::AnchorHeads];
        let has = claims.iter().any(|action| action.label() == self.action);
        self.details.values().filter(move |_| has).filter_map(|text| text.parse().ok())
    }

    /// The last head of the entries that it says were removed.
    pub fn expired(&self) -> Option<Head> {
        (self.action == Action::ExpireChain.label()).then(|| self.details.get("through")?.parse().ok())?
    }
}

/// Entries of later versions have fields that this one does not know: say that rather than something about a field.
fn version_of(line: &[u8]) -> Option<Malformed> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_slice(line).ok()?;
    (v != VERSION).then_some(Malformed::Version(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Head {
        let (writer, chain) = ("zen-egress/pod-1".parse().expect("valid"), "chain-1".parse().expect("valid"));
        Head { writer, chain, seq: 0, hash: Hash::NONE }
    }

    fn entry() -> Entry {
        let record = Record::new(Action::AccessSecret, "Pod/team-a/web-1", "ZenLock/team-a/db \"é\u{1}\u{7f}\n")
            .allowed()
            .correlation("r-1")
            .detail("keys", "a,b");
        Entry::following(&start(), record, Timestamp(1_700_000_000_123), false, 0)
    }

    /// The vector of docs/security/audit.md: other verifiers are checked with it.
    #[test]
    fn the_encoding_is_as_documented() {
        let record = Record::new(Action::AccessSecret, "Pod/team-a/web-1", "ZenLock/team-a/db")
            .allowed()
            .correlation("r-1")
            .detail("keys", "password");
        let entry = Entry::following(&start(), record, Timestamp(1_700_000_000_123), false, 0);
        let line = String::from_utf8(entry.to_line()).expect("text");
        let docs = include_str!("../../../docs/security/audit.md");
        assert!(docs.contains(&line), "{line}");
        assert_eq!(Entry::parse(line.as_bytes()).expect("parses").digest(), entry.hash);
    }

    /// RFC 8785: the order of the keys is that of the alphabet, and characters are escaped as it says.
    #[test]
    fn the_line_is_canonical_json() {
        let mut entry = entry();
        (entry.degraded, entry.lost, entry.reason) = (true, 3, "R".to_owned());
        entry.seal();
        let line = String::from_utf8(entry.to_line()).expect("text");
        let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_str(&line).expect("an object");
        assert_eq!(serde_json::to_string(&sorted).expect("serializes"), line);
        assert!(line.contains(r#"db \"é\u0001"#) && line.contains("\u{7f}\\n"), "{line}");
    }

    #[test]
    fn what_is_not_written_as_an_entry_is_refused() {
        let line = String::from_utf8(entry().to_line()).expect("text");
        Entry::parse(line.as_bytes()).expect("parses");
        for (from, to) in [
            (r#""v":1"#, r#""v": 1"#),
            (r#""v":1"#, r#""v":2"#),
            (r#""v":1"#, r#""unknown":1,"v":1"#),
            (r#""allowed":true"#, r#""allowed":true,"allowed":true"#),
            (r#""seq":1"#, r#""seq":0"#),
            (r#""seq":1"#, r#""seq":9007199254740993"#),
            (r#""seq":1"#, r#""lost":0,"seq":1"#),
            ("é", r"\u00e9"),
            ("14T22:13:20.123Z", "14T23:13:20.123+01:00"),
            ("zen-egress/pod-1", "zen-egress/../x"),
            (r#""keys":"a,b""#, r#""kéys":"a,b""#),
        ] {
            let changed = line.replacen(from, to, 1);
            assert_ne!(changed, line, "{from} stands nowhere");
            Entry::parse(changed.as_bytes()).expect_err(&changed);
        }
        let later = r#"{"v":7,"quantum":true}"#;
        assert!(matches!(Entry::parse(later.as_bytes()), Err(Malformed::Version(7))));
        let long = vec![b' '; MAX_LINE + 1];
        assert!(matches!(Entry::parse(&long), Err(Malformed::TooLong)));
    }

    #[test]
    fn claims_are_read_from_the_entries_that_make_them() {
        let head = entry().head();
        let claim = |action| {
            let record = Record::new(action, "a", "b").detail("after", &head.to_string()).detail("x", "y");
            Entry::following(&start(), record, Timestamp(0), false, 0)
        };
        assert_eq!(claim(Action::OpenChain).claims().collect::<Vec<_>>(), std::slice::from_ref(&head));
        assert_eq!(claim(Action::Reject).claims().count(), 0);
        let record = Record::new(Action::ExpireChain, "a", "b").detail("through", &head.to_string());
        assert_eq!(Entry::following(&start(), record, Timestamp(0), false, 0).expired().as_ref(), Some(&head));
        assert_eq!(claim(Action::OpenChain).expired(), None);
    }
}
