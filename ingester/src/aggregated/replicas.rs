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
use zen_identity::http::{Client, Peer};

use super::error::Error;

/// Where a replica's own admin API is served among peers.
const PREFIX: &str = "/v1/admin";

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
    /// Those that could not be asked: the answer is not complete.
    pub missing: Vec<String>,
}

impl<T> Answers<T> {
    /// Something may be missing, so that "there is none" cannot be said.
    pub(super) fn none(&self, what: &'static str, name: &str) -> Error {
        if self.missing.is_empty() {
            Error::NotFound(what, name.to_owned())
        } else {
            Error::Unavailable(format!("replicas that may know it do not answer: {}", self.missing.join(", ")))
        }
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
        let mut answers = Answers { found: Vec::new(), missing: Vec::new() };
        for answer in std::iter::once(own).chain(others) {
            let (status, body) = match answer {
                Ok(answer) => answer,
                Err(missing) => {
                    answers.missing.push(missing);
                    continue;
                }
            };
            match status {
                status if status.is_success() => match serde_json::from_slice(&body) {
                    Ok(found) => answers.found.push(found),
                    // Another release may word it differently.
                    Err(error) => answers.missing.push(format!("its answer cannot be read: {error}")),
                },
                StatusCode::NOT_FOUND => {}
                StatusCode::BAD_REQUEST => return Err(Error::BadRequest(message(&body))),
                StatusCode::CONFLICT => return Err(Error::Conflict(message(&body))),
                _ => answers.missing.push(message(&body)),
            }
        }
        Ok(answers)
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
        let answer = self.client.request(&peer, method.clone(), &format!("{PREFIX}{path}"), body).await;
        answer.map(|answer| (answer.status(), answer.into_body())).map_err(|error| {
            tracing::warn!(%address, %error, "a peer does not answer");
            format!("the replica at {address}: {error}")
        })
    }
}

fn message(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    body["message"].as_str().unwrap_or("no reason given").to_owned()
}
