//! Asks the unseal API, as the pod's own token proves it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use zen_identity::client::Resolve;
use zen_identity::endpoint::{self, Endpoint};
use zen_identity::exchange::Connection;
use zen_identity::token;
use zen_pki::{TrustRoots, named_client};

use super::Arguments;
use crate::unseal::wire::{Answer, Changed, LockRef, Poll, Refusal, Request as Asked, UNSEAL, WATCH};

/// A request with its TokenReview and its looks at the API server.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sixteen ZenLocks in base64.
const MAX_BODY: usize = 48 << 20;

/// There is no plaintext. Nothing of a token or a value is in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments cannot be used.
    #[error("the arguments cannot be used: {0}")]
    Arguments(String),
    /// The roots cannot be used.
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
    /// The token's file.
    #[error("failed to read {path}: {source}")]
    Token {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody answers.
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    /// The API says no.
    #[error("{} ({}, request {})", .refusal.message, .refusal.code, .refusal.request_id)]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        refusal: Refusal,
    },
    /// The answer makes no sense.
    #[error("failed to read the answer: {0}")]
    Answer(String),
}

impl Error {
    /// Whether asking again soon can help. What was refused for good is for people to mend; the kubelet starts the container
    /// again, ever more rarely.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Arguments(_) => false,
            Self::Refused { status, .. } => {
                // A token may just have been exchanged.
                status.is_server_error() || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED)
            }
            Self::Pki(_) | Self::Token { .. } | Self::Endpoint(_) | Self::Answer(_) => true,
        }
    }
}

/// The unseal API of one mesh.
#[derive(Debug)]
pub struct Api {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    token: PathBuf,
    locks: Vec<String>,
    /// What the last request went over: a handshake for each is most of what a sidecar's share of a processor would go to.
    kept: Option<Connection>,
}

impl Api {
    /// Trusts the roots of the arguments and no others.
    pub fn new(arguments: &Arguments, resolver: Option<Arc<dyn Resolve>>) -> Result<Self, Error> {
        let wrong = |error: endpoint::Error| Error::Arguments(error.to_string());
        let endpoint = match resolver {
            Some(resolver) => Endpoint::with_resolver(&arguments.url, resolver),
            None => Endpoint::new(&arguments.url),
        };
        let roots = arguments.roots().ok_or_else(|| Error::Arguments("--ca is not PEM in base64".to_owned()))?;
        let tls = named_client(&TrustRoots::from_pem(&roots)?, None)?;
        let (token, locks) = (arguments.token.clone(), arguments.locks.clone());
        Ok(Self { endpoint: endpoint.map_err(wrong)?, tls, token, locks, kept: None })
    }

    /// The plaintext.
    pub async fn unseal(&mut self) -> Result<Answer, Error> {
        let locks = self.locks.iter().cloned().map(LockRef::Own).collect();
        let body =
            serde_json::to_vec(&Asked { locks, subject: None }).map_err(|error| Error::Answer(error.to_string()))?;
        let response = self.send(Method::POST, UNSEAL, body.into(), TIMEOUT).await?;
        let answer: Answer = read(&response)?;
        let answered = answer.locks.iter().map(|lock| &lock.name);
        if answered.eq(&self.locks) { Ok(answer) } else { Err(Error::Answer("it is about other ZenLocks".to_owned())) }
    }

    /// Waits for one that is newer than what this pod has.
    pub async fn changed(&mut self, have: &[(String, String)], wait: Duration) -> Result<Vec<String>, Error> {
        let have: Vec<_> = have.iter().map(|(name, version)| format!("{name}={version}")).collect();
        let poll = Poll { have: have.join(","), wait: wait.as_secs() };
        // Names and versions need no escaping: letters, digits, dots and dashes.
        let path = format!("{WATCH}?have={}&wait={}", poll.have.replace('=', "%3D"), poll.wait);
        let response = self.send(Method::GET, &path, Bytes::new(), wait + TIMEOUT).await?;
        read::<Changed>(&response).map(|answer| answer.changed)
    }

    /// Ends what the last request went over. To be called before a pause: the server has room for so many connections, and the API
    /// server needs one of them.
    pub fn hang_up(&mut self) {
        self.kept = None;
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.endpoint.host())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, self.authorization()?)
            .body(Full::new(body))
            .map_err(|error| Error::Arguments(error.to_string()))?;
        let response = self.endpoint.send_over(&mut self.kept, &self.tls, &request, timeout, MAX_BODY).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        match serde_json::from_slice(response.body()) {
            Ok(refusal) => Err(Error::Refused { status, refusal }),
            Err(_) => Err(Error::Answer(status.to_string())),
        }
    }

    fn authorization(&self) -> Result<HeaderValue, Error> {
        token::authorization(&self.token).map_err(|source| Error::Token { path: self.token.clone(), source })
    }
}

fn read<T: serde::de::DeserializeOwned>(response: &Response<Bytes>) -> Result<T, Error> {
    // The parser's words may quote a value.
    serde_json::from_slice(response.body())
        .map_err(|error| Error::Answer(format!("it is malformed at line {} column {}", error.line(), error.column())))
}
