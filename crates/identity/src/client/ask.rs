//! What a client asks, and why it may get no answer.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use zen_model::Fault;
use zen_pki::{Identity, SpiffeId};

use crate::exchange;
use crate::wire::{Certificate, CertificateRequest, Refused, Who};

/// Who answers: the identity service, or a script in tests.
pub trait Issuer: Send + Sync + fmt::Debug {
    /// Who this pod is. `identity` is what it has already.
    fn who<'a>(&'a self, identity: Option<&'a Identity>) -> Answering<'a, Who>;
    /// A certificate for a request.
    fn certificate<'a>(
        &'a self,
        identity: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate>;
}

/// Boxed: certificates are asked for once in half an hour.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Why there is no new certificate. Nothing in it shows a token or a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the service cannot be used.
    #[error("failed to read the identity service's address: {0}")]
    Url(String),
    /// A file of the pod cannot be read.
    #[error("failed to read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The service's name has no address.
    #[error("failed to resolve {host}: {}", .fault.words())]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        fault: Fault,
    },
    /// The service does not answer.
    #[error("the identity service gives no answer: {0}")]
    Exchange(#[from] exchange::Error),
    /// The service says no.
    #[error("the identity service refuses: {} ({})", .0.message, .0.code)]
    Refused(Refused),
    /// The service's answer makes no sense.
    #[error("failed to use the identity service's answer: {0}")]
    Answer(String),
    /// Keys, certificates or the trust bundle cannot be used.
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
}

impl Error {
    /// Stable label for logs and metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::File { .. } => "file",
            Self::Resolve { .. } => "resolve",
            Self::Exchange(_) => "exchange",
            Self::Refused(_) => "refused",
            Self::Answer(_) => "answer",
            Self::Pki(_) => "certificate",
        }
    }
}

/// The service gives this pod another id than the one that it runs with: it has to start anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity of this pod is now {0}: it has to start anew")]
pub struct Changed(pub SpiffeId);
