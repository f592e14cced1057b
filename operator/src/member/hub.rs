//! Requests to the hub: TLS 1.3 under the hub's roots, its name and its issuing CA both checked, and each request proven.
//!
//! Where the hub is says the bundle, which whoever installs the mesh here has applied: an address in a private network is
//! as good as any.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use zen_enroll::proof::{HEADER, Proof};
use zen_enroll::{Answer, Holds, Opened, Redeem, Sync, Synced, path, sync_path};
use zen_identity::client::Resolve;
use zen_identity::endpoint::Endpoint;
use zen_identity::wire::Refused;
use zen_model::reason::EnrollRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Identity, TrustDomain, TrustRoots, hub_client};
use zen_seal::cluster::ClusterKey;

/// From connecting to the last byte of the answer; the hub signs in milliseconds, and writes to its API server before.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Certificates and keys of a few versions.
const MAX_ANSWER: usize = 256 << 10;
/// Only the leader of the hub answers; a load balancer gives another one each time.
const DIALS: u32 = 6;

/// Why there is nothing from the hub.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It cannot be asked, from here or now.
    #[error("the hub does not answer: {0}")]
    Away(String),
    /// None of its replicas that were reached leads.
    #[error("the hub does not answer: no replica that was reached leads")]
    NotLeader,
    /// It said no.
    #[error("the hub refuses: {message} ({code}, request {request_id})")]
    Refused {
        /// The code of the table of reasons.
        code: String,
        /// For people.
        message: String,
        /// Finds it in the hub's log.
        request_id: String,
    },
    /// What it sent cannot be used.
    #[error("the hub's answer cannot be used: {0}")]
    Answer(String),
}

impl Error {
    /// The hub said no for a reason that this knows.
    pub(super) fn refusal(&self) -> Option<EnrollRefusal> {
        let Self::Refused { code, .. } = self else { return None };
        EnrollRefusal::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// A word for metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::NotLeader => "not_leader",
            Self::Refused { .. } => "refused",
            Self::Answer(_) => "malformed",
        }
    }
}

/// A hub, as it is trusted now.
pub(super) struct Hub {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
}

impl Hub {
    /// `url` is `https://<host>[:<port>]`, `roots` PEM. With an identity it is presented.
    pub(super) fn new(
        url: &str,
        roots: &str,
        domain: &TrustDomain,
        identity: Option<&Identity>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Error> {
        let endpoint = Endpoint::with_resolver(url, resolver).map_err(away)?;
        let roots = TrustRoots::from_pem(roots).map_err(|error| Error::Answer(error.to_string()))?;
        let tls = hub_client(&roots, domain, identity).map_err(away)?;
        Ok(Self { endpoint, tls })
    }

    pub(super) async fn redeem(
        &self,
        opened: &Opened,
        request: &str,
        clock: impl Fn() -> Timestamp,
    ) -> Result<Answer, Error> {
        let redeem = Redeem::new(opened, request.to_owned());
        let prove = || redeem.prove(opened, clock()).map_err(away);
        self.ask(&path(&opened.cluster), prove).await
    }

    pub(super) async fn sync(
        &self,
        cluster: &ClusterId,
        request: Option<&str>,
        holds: Option<Holds>,
        key: &ClusterKey,
        clock: impl Fn() -> Timestamp,
    ) -> Result<Synced, Error> {
        let sync = Sync { cluster: cluster.clone(), csr: request.map(str::to_owned), holds };
        let prove = || sync.prove(key.id(), &key.agent(), clock()).map_err(away);
        self.ask(&sync_path(cluster), prove).await
    }

    /// Each dial has a proof of its own: one that a replica has seen is not shown again.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        prove: impl Fn() -> Result<(Vec<u8>, Proof), Error>,
    ) -> Result<T, Error> {
        for dial in 0..DIALS {
            if dial > 0 {
                sleep(Duration::from_millis(50 * u64::from(dial) + fastrand::u64(..50))).await;
            }
            let (body, proof) = prove()?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(HOST, self.endpoint.host())
                .header(CONTENT_TYPE, "application/json")
                .header(HEADER, proof.value())
                .body(Full::new(Bytes::from(body)))
                .map_err(away)?;
            let response = self.endpoint.send(&self.tls, &request, TIMEOUT, MAX_ANSWER).await.map_err(away)?;
            match read(&response) {
                Err(Error::NotLeader) => {}
                read => return read,
            }
        }
        Err(Error::NotLeader)
    }
}

fn read<T: DeserializeOwned>(response: &Response<Bytes>) -> Result<T, Error> {
    let status = response.status();
    if status.is_success() {
        // Serde's messages could show a part of a key.
        let malformed = |error: serde_json::Error| Error::Answer(format!("malformed at column {}", error.column()));
        return serde_json::from_slice(response.body()).map_err(malformed);
    }
    match serde_json::from_slice::<Refused>(response.body()) {
        Ok(refused) if status == StatusCode::SERVICE_UNAVAILABLE && refused.code == "NotLeader" => {
            Err(Error::NotLeader)
        }
        Ok(refused) if status.is_server_error() => Err(Error::Away(format!("{status}: {}", refused.message))),
        Ok(Refused { code, message, request_id }) => Err(Error::Refused { code, message, request_id }),
        Err(_) => Err(Error::Away(format!("{status} from somebody who is not the hub's operator"))),
    }
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::Away(error.to_string())
}
