//! The store over mutual TLS.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use zen_deliver::{Resolve, SystemResolver};
use zen_identity::http::{Client, Peer};
use zen_identity::wire::Refused;
use zen_identity::{Component, Mesh};
use zen_pki::Identity;

use crate::ship::{Answering, Appended, Transport, TransportError};
use crate::wire::{Conflict, ENTRIES, RESUME, Resume, Resumed, Stored};

/// Speaks to the store of the own mesh; each request is a connection of its own.
pub struct Remote {
    client: Client,
    mesh: Mesh,
    host: String,
    port: u16,
    resolver: Arc<dyn Resolve>,
}

impl Remote {
    /// The store at `host`: a name such as `zen-audit.zen-mesh.svc`, or an address.
    pub fn new(identity: &Identity, mesh: &Mesh, host: &str, port: u16) -> Self {
        Self {
            client: Client::new(identity),
            mesh: mesh.clone(),
            host: host.to_owned(),
            port,
            resolver: Arc::new(SystemResolver::searching()),
        }
    }

    async fn peer(&self) -> Result<Peer, TransportError> {
        let unreachable = |text: String| TransportError::Unreachable(format!("{}: {text}", self.host));
        let address = if let Ok(address) = self.host.parse() {
            address
        } else {
            let found = self.resolver.resolve(&self.host).await;
            let found = found.map_err(|fault| unreachable(format!("{fault:?}")))?;
            *found.first().ok_or_else(|| unreachable("it has no address".to_owned()))?
        };
        Ok(Peer { address: SocketAddr::new(address, self.port), id: self.mesh.id(Component::Audit).clone() })
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<http::Response<Bytes>, TransportError> {
        let peer = self.peer().await?;
        let answer = self.client.request(&peer, Method::POST, path, Some(body)).await;
        answer.map_err(|error| TransportError::Unreachable(error.to_string()))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(body).map_err(|error| TransportError::Refused(format!("the answer is none: {error}")))
}

fn refused(answer: &http::Response<Bytes>) -> TransportError {
    let status = answer.status();
    let said = serde_json::from_slice::<Refused>(answer.body());
    let text = said.map_or_else(|_| status.to_string(), |said| format!("{status} {}: {}", said.code, said.message));
    if status.is_server_error() { TransportError::Unreachable(text) } else { TransportError::Refused(text) }
}

impl Transport for Remote {
    fn resume<'a>(&'a self, request: &'a Resume) -> Answering<'a, Resumed> {
        Box::pin(async move {
            let body = serde_json::to_vec(request).map_err(|error| TransportError::Refused(error.to_string()))?;
            let answer = self.post(RESUME, body.into()).await?;
            if answer.status().is_success() { read(answer.body()) } else { Err(refused(&answer)) }
        })
    }

    fn append(&self, lines: Bytes, earliest: u64) -> Answering<'_, Appended> {
        Box::pin(async move {
            let answer = self.post(&format!("{ENTRIES}?earliest={earliest}"), lines).await?;
            match answer.status() {
                StatusCode::CONFLICT => Ok(Appended::Conflict(read::<Conflict>(answer.body())?.head)),
                status if status.is_success() => Ok(Appended::Stored(read::<Stored>(answer.body())?.head)),
                _ => Err(refused(&answer)),
            }
        })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
