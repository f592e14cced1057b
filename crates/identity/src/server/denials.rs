//! What somebody who is known was not let do: told to whoever keeps the record (T-05, A-01).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What is told, each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial<'a> {
    /// Who asked, as they are named in an entry: a SPIFFE id, `User/<name>`; empty where nobody is known.
    pub who: &'a str,
    /// From where, where that is known.
    pub from: Option<IpAddr>,
    /// For what: one of few.
    pub action: &'a str,
    /// Why not: a code of the table of reasons.
    pub code: &'static str,
    /// The request id of log and answer; empty where there is none.
    pub request_id: &'a str,
    /// In words for people. Holds no secret.
    pub detail: &'a str,
}

/// Who hears of denials. An extension of every request of a listener that has one; clones are the same.
#[derive(Clone)]
pub struct Denials(Arc<dyn Fn(&Denial<'_>) + Send + Sync>);

impl Default for Denials {
    /// Nobody: the log alone.
    fn default() -> Self {
        Self::telling(|_| ())
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Denials")
    }
}

impl Denials {
    /// To `tell`, which must not block, and bounds by itself what it keeps.
    pub fn telling(tell: impl Fn(&Denial<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Something was denied.
    pub fn denied(&self, denial: &Denial<'_>) {
        (self.0)(denial);
    }
}
