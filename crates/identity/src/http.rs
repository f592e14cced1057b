//! The client's end of HTTP among our own parts: mutual TLS to an address, the peer known by its SPIFFE id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zen_pki::{Identity, SpiffeId};

use crate::exchange::{self, exchange};
use crate::wire::Refused;

/// For a request that changes or reads little.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const MAX_BODY: usize = 16 << 20;

/// Whom to ask, and who must answer there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// A pod's address and port.
    pub address: SocketAddr,
    /// The identity that it must prove.
    pub id: SpiffeId,
}

/// Speaks as one workload. Each request is a connection of its own, with the certificate and the roots of that moment;
/// these requests are few. Cheap to clone; clones share the identity.
#[derive(Clone, Debug)]
pub struct Client {
    identity: Identity,
    timeout: Duration,
    max_body: usize,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is not one that can be sent.
    #[error("failed to make the request: {0}")]
    Request(String),
    /// TLS could not be set up.
    #[error(transparent)]
    Identity(#[from] zen_pki::Error),
    /// There is no answer.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
    /// The peer said no.
    #[error("{status}: {}", .refused.as_ref().map_or("no reason given", |refused| refused.message.as_str()))]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason, where it gave one in the usual form.
        refused: Option<Refused>,
    },
    /// The answer is not what was asked for.
    #[error("failed to read the answer: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Error {
    /// Stable label for logs, metrics and requeue decisions.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Identity(_) => "identity",
            Self::Exchange(exchange::Error::Connect { .. }) => "connect",
            Self::Exchange(exchange::Error::Tls(_)) => "tls",
            Self::Exchange(exchange::Error::Timeout(_)) => "timeout",
            Self::Exchange(_) => "connection",
            Self::Refused { .. } => "refused",
            Self::Malformed(_) => "malformed",
        }
    }

    /// The status, where the peer answered.
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Client {
    /// Requests take at most ten seconds, and answers 16 MiB.
    pub fn new(identity: &Identity) -> Self {
        Self { identity: identity.clone(), timeout: TIMEOUT, max_body: MAX_BODY }
    }

    /// Bounds a request, from connecting to the last byte of the answer: for a long poll its wait and some more.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bounds an answer's body, bytes.
    #[must_use]
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// As whom this speaks.
    pub fn id(&self) -> &SpiffeId {
        self.identity.id()
    }

    /// `GET`, JSON back.
    pub async fn get<T: DeserializeOwned>(&self, peer: &Peer, path_and_query: &str) -> Result<T, Error> {
        self.json(peer, Method::GET, path_and_query, None).await
    }

    /// `POST` with JSON, JSON back.
    pub async fn post<T: DeserializeOwned>(
        &self,
        peer: &Peer,
        path_and_query: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Request(error.to_string()))?;
        self.json(peer, Method::POST, path_and_query, Some(body.into())).await
    }

    /// `DELETE`, JSON back.
    pub async fn delete<T: DeserializeOwned>(&self, peer: &Peer, path_and_query: &str) -> Result<T, Error> {
        self.json(peer, Method::DELETE, path_and_query, None).await
    }

    /// Any request; any answer, whatever its status. `body` goes as JSON.
    pub async fn request(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = Request::builder().method(method).uri(path_and_query).header(HOST, peer.address.to_string());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|error| Error::Request(error.to_string()))?;
        let mut tls = (*zen_pki::mtls_client(&self.identity, peer.id.clone())?).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Only a form to fill: the verifier looks at the id, and an address is not sent as a name.
        let name = ServerName::IpAddress(peer.address.ip().into());
        Ok(exchange(peer.address, name, Arc::new(tls), request, self.timeout, self.max_body).await?)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        let response = self.request(peer, method, path_and_query, body).await?;
        if !response.status().is_success() {
            let refused = serde_json::from_slice(response.body()).ok();
            return Err(Error::Refused { status: response.status(), refused });
        }
        Ok(serde_json::from_slice(response.body())?)
    }
}
