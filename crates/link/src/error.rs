//! How a session fails to begin, or ends.

use std::error::Error as StdError;
use std::io;

use tonic::{Code, Status};
use zen_model::reason::LinkRefusal;
use zen_pki::PeerRefused;

/// Why there is no session, or no longer one. Nothing here holds payload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name did not resolve, or no address took the connection.
    #[error("failed to connect to {target}: {source}")]
    Connect {
        /// Host and port.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// Either side refused the other's certificate, it names no workload, or it is no TLS 1.3 at all.
    #[error("failed to establish mutual TLS: {0}")]
    Tls(String),
    /// The ingester gives this egress no leases. Ours where this side refused, else as the ingester said.
    #[error("failed to open the session: {}: {}", .0.code(), .0.row().meaning)]
    Refused(LinkRefusal),
    /// The peer speaks frames of another version; upgrade the older one.
    #[error("failed to agree on a version: this side speaks link version {ours}, the peer {theirs}")]
    Version {
        /// Ours.
        ours: u32,
        /// The peer's.
        theirs: u32,
    },
    /// The first frame was no Hello, or no Welcome.
    #[error("failed to open the session: the peer did not greet")]
    NoGreeting,
    /// A frame that cannot be read, or says what cannot be.
    #[error("failed to read a frame: {0}")]
    Malformed(String),
    /// The connection or the stream broke.
    #[error("failed to keep the session: {0}")]
    Lost(String),
    /// No answer in time.
    #[error("failed to {0} in time")]
    TimedOut(&'static str),
}

impl From<PeerRefused> for Error {
    /// The certificate passed TLS and yet names no workload.
    fn from(refused: PeerRefused) -> Self {
        Self::Tls(refused.to_string())
    }
}

impl Error {
    /// Stable label for metrics and logs; of a refusal its code.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Tls(_) => "tls",
            Self::Refused(reason) => reason.code(),
            Self::Version { .. } => "version",
            Self::NoGreeting => "no_greeting",
            Self::Malformed(_) => "malformed",
            Self::Lost(_) => "lost",
            Self::TimedOut(_) => "timed_out",
        }
    }

    /// What tonic reports: our own decoder's refusals, or the end of the connection.
    pub(crate) fn of_status(status: &Status) -> Self {
        match status.code() {
            Code::DataLoss | Code::OutOfRange => Self::Malformed(status.message().to_owned()),
            _ => Self::of_transport(status),
        }
    }

    /// TLS 1.3 lets a client finish before the server has looked at its certificate: the refusal then comes as an alert
    /// in place of the first answer, and is told apart from a lost connection here.
    pub(crate) fn of_transport(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            // Below HTTP/2 the error is text only; its kind still says who spoke: rustls uses this one for TLS, sockets never.
            if let Some(io) = cause.downcast_ref::<io::Error>()
                && io.kind() == io::ErrorKind::InvalidData
            {
                return Self::Tls(zen_pki::explain(io));
            }
            let more = cause.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            next = cause.source();
        }
        Self::Lost(text)
    }
}
