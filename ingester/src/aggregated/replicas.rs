//! Asking every replica: this one within the process, its peers over mutual TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tower::ServiceExt as _;
use zen_identity::control::ADMIN;
use zen_identity::http::{Client, Peer};

use super::error::Error;

/// This replica and its peers. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    /// [`crate::admin::replica`] of this one.
    pub own: Router,
    /// Speaks with the peers.
    pub client: Client,
    /// Control addresses of the other replicas that are ready.
    pub peers: watch::Receiver<Arc<Vec<SocketAddr>>>,
}

/// What the replicas said.
pub(super) struct Answers<T> {
    /// Of those that had something to say.
    pub found: Vec<T>,
    /// Whether that is all.
    pub coverage: Coverage,
}

/// How many replicas an answer is made of. Callers are told numbers; which replica and why stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coverage {
    asked: usize,
    silent: usize,
}

impl Coverage {
    /// What is missing, where something is.
    pub(super) fn gap(self) -> Option<String> {
        let Self { asked, silent } = self;
        (silent > 0).then(|| format!("{silent} of {asked} replicas did not answer"))
    }

    /// An error where something is missing.
    pub(super) fn complete(self) -> Result<(), Error> {
        self.gap().map_or(Ok(()), |gap| Err(Error::Unavailable(gap)))
    }

    /// Why nothing was found: "there is none" cannot be said where somebody did not answer.
    pub(super) fn none(self, what: &'static str, name: &str) -> Error {
        self.complete().err().unwrap_or_else(|| Error::NotFound(what, name.to_owned()))
    }
}

impl Replicas {
    /// GET of all; one that answers 404 has nothing.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answers<T>, Error> {
        self.ask(&Method::GET, path, Bytes::new()).await
    }

    /// POST to all.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<Answers<T>, Error> {
        self.ask(&Method::POST, path, body).await
    }

    /// DELETE at all.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<Answers<T>, Error> {
        self.ask(&Method::DELETE, path, Bytes::new()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: &Method, path: &str, body: Bytes) -> Result<Answers<T>, Error> {
        let peers = Arc::clone(&self.peers.borrow());
        let others: FuturesUnordered<_> =
            peers.iter().map(|address| self.ask_peer(*address, method, path, body.clone())).collect();
        let (own, others) =
            tokio::join!(self.ask_own(method, path, body.clone()), others.collect::<Vec<Result<_, String>>>());
        let mut answers = Answers { found: Vec::new(), coverage: Coverage { asked: 1 + others.len(), silent: 0 } };
        let mut refusal = None;
        for answer in std::iter::once(own).chain(others) {
            let said = answer.and_then(|(status, body)| match status {
                status if status.is_success() => {
                    // Another release may word it differently.
                    let found = serde_json::from_slice(&body).map_err(|error| format!("unreadable: {error}"))?;
                    answers.found.push(found);
                    Ok(())
                }
                StatusCode::NOT_FOUND => Ok(()),
                StatusCode::BAD_REQUEST => {
                    refusal = Some(Error::BadRequest(message(&body)));
                    Err(message(&body))
                }
                StatusCode::CONFLICT => {
                    refusal = Some(Error::Conflict(message(&body)));
                    Err(message(&body))
                }
                status => Err(format!("{status}: {}", message(&body))),
            });
            if let Err(reason) = said {
                tracing::warn!(%method, path = path.split('?').next(), reason, "a replica has no answer");
                answers.coverage.silent += 1;
            }
        }
        // One that refuses what others do is as good as silent: what they did is done.
        match refusal {
            Some(refusal) if answers.found.is_empty() => Err(refusal),
            _ => Ok(answers),
        }
    }

    async fn ask_own(&self, method: &Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body)).map_err(|error| error.to_string())?;
        let response = match self.own.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }

    async fn ask_peer(
        &self,
        address: SocketAddr,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let peer = Peer { address, id: self.client.id().clone() };
        let body = (!body.is_empty()).then_some(body);
        let answer = self.client.request(&peer, method.clone(), &format!("{ADMIN}{path}"), body).await;
        answer
            .map(|answer| (answer.status(), answer.into_body()))
            .map_err(|error| format!("the replica at {address}: {error}"))
    }
}

fn message(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    body["message"].as_str().unwrap_or("no reason given").to_owned()
}
