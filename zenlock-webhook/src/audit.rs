//! Every access and every refusal is recorded before it is answered (Z-08, A-01).

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use zen_audit::{Log, Record};

/// What was done or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A pod was admitted with secrets, or refused.
    AdmitPod,
    /// Plaintext was given out, or refused.
    AccessSecret,
}

impl From<Action> for zen_audit::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::AdmitPod => Self::AdmitPod,
            Action::AccessSecret => Self::AccessSecret,
        }
    }
}

/// One entry. Nothing of a secret, a token or ciphertext is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub action: Action,
    /// Who: `Pod/NS/NAME`, a SPIFFE id, a user.
    pub who: String,
    /// With what: `ZenLock/NS/NAME`, `Pod/NS/NAME`.
    pub object: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// A reason code; empty where it was.
    pub reason: &'static str,
    /// The request id that also stands in logs and answers.
    pub correlation: String,
    /// More about it.
    pub details: Vec<(&'static str, String)>,
}

/// The entry could not be kept, and the audit is strict: what was to be recorded must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to audit")]
pub struct NotRecorded;

/// Where entries go.
pub trait Auditor: Debug + Send + Sync {
    /// Returns when the entry is kept.
    fn record(&self, entry: Entry) -> Recording<'_>;
}

/// Boxed: entries are few beside the requests that they stand for.
pub type Recording<'a> = Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + 'a>>;

/// For every part of the process.
pub type Audit = Arc<dyn Auditor>;

impl From<Entry> for Record {
    fn from(entry: Entry) -> Self {
        let Entry { action, who, object, allowed, reason, correlation, details } = entry;
        let record = Self::new(action.into(), &who, &object).reason(reason).correlation(&correlation);
        let record = if allowed { record.allowed() } else { record };
        details.into_iter().fold(record, |record, (key, value)| record.detail(key, &value))
    }
}

/// The hash chain of this process.
impl Auditor for Log {
    fn record(&self, entry: Entry) -> Recording<'_> {
        Box::pin(async move {
            let recorded = Self::record(self, entry.into()).await;
            recorded.map(drop).map_err(|error| {
                tracing::error!(%error, "an access is refused because it cannot be audited");
                NotRecorded
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_access_is_an_entry_of_the_chain() {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = "zenlock-webhook/pod-1".parse().expect("a writer");
        let log = Log::open(zen_audit::Options::new(folder.path(), writer)).expect("opens");
        let entry = Entry {
            action: Action::AccessSecret,
            who: "Pod/team-a/shop".to_owned(),
            object: "ZenLock/team-a/db".to_owned(),
            allowed: false,
            reason: "NotAdmitted",
            correlation: "r-1".to_owned(),
            details: vec![("subject", "Webhook/team-a/github".to_owned()), ("none", String::new())],
        };
        let auditor: Audit = Arc::new(log.clone());
        let before = log.head().seq;
        auditor.record(entry).await.expect("kept");
        assert!(log.head().seq > before);
        log.close().await;
        let mut text = String::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(path) = folders.pop() {
            for entry in std::fs::read_dir(path).expect("a folder").flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else {
                    text.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
                }
            }
        }
        let words =
            ["secret.access", "Pod/team-a/shop", "NotAdmitted", "Webhook/team-a/github", "\"allowed\":false", "r-1"];
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
