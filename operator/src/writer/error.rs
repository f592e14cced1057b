use std::time::Duration;

use zen_runtime::lease::NotLeader;

use crate::object::Id;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process may not write: it does not lead, or no longer does.
    #[error("failed to write: {0}")]
    NotLeader(#[from] NotLeader),
    /// Somebody else made an object with this name.
    #[error(
        "{0} exists and does not carry the label app.kubernetes.io/managed-by=zen-operator: it was not made by the operator and is left alone; delete or rename it"
    )]
    Foreign(Id),
    /// Another writer came first; look again.
    #[error("failed to write: the object changed meanwhile")]
    Conflict(#[source] Box<kube::Error>),
    /// The object, or its namespace, is not there (any more).
    #[error("failed to write: the object or its namespace is gone")]
    Gone(#[source] Box<kube::Error>),
    /// The API server asks for patience.
    #[error("failed to write: the API server is busy")]
    Busy {
        /// How long it asks for, where it says so.
        after: Option<Duration>,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server refuses it: a right that is missing, or a value that is not valid.
    #[error("failed to write: the API server refuses it: {0}")]
    Refused(#[source] Box<kube::Error>),
    /// The API server cannot be reached or does not work.
    #[error("failed to write: the API server does not answer: {0}")]
    Unavailable(#[source] Box<kube::Error>),
    /// No answer in time.
    #[error("failed to write: no answer within 4 s")]
    Slow,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// It passes by itself: try again, ever more rarely; not before so long.
    Transient(Option<Duration>),
    /// Only a change of what was asked for, or of the object in the way, can help; look now and then nevertheless.
    Change,
    /// Never: the process ends.
    Never,
}

impl Error {
    /// One word for metrics, events and logs.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "NotLeader",
            Self::Foreign(_) => "Foreign",
            Self::Conflict(_) => "Conflict",
            Self::Gone(_) => "Gone",
            Self::Busy { .. } => "Busy",
            Self::Refused(_) => "Refused",
            Self::Unavailable(_) => "Unavailable",
            Self::Slow => "Slow",
        }
    }

    /// When to try again.
    pub const fn requeue(&self) -> Requeue {
        match self {
            Self::NotLeader(_) => Requeue::Never,
            Self::Foreign(_) | Self::Refused(_) => Requeue::Change,
            Self::Busy { after, .. } => Requeue::Transient(*after),
            Self::Conflict(_) | Self::Gone(_) | Self::Unavailable(_) | Self::Slow => Requeue::Transient(None),
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else { return Self::Unavailable(Box::new(error)) };
        let after = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let after = after.map(|seconds| Duration::from_secs(seconds.into()));
        // An object that was deleted and made again under the same name is no longer the one that was meant.
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let other = status.code == 422 && causes.map(|cause| &*cause.field).any(|field| field == "metadata.uid");
        let code = if other { 409 } else { status.code };
        let source = Box::new(error);
        match code {
            404 => Self::Gone(source),
            409 => Self::Conflict(source),
            429 => Self::Busy { after, source },
            400..500 => Self::Refused(source),
            _ => Self::Unavailable(source),
        }
    }
}
