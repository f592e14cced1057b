//! The unseal API as ingester and egress ask it: with the pod's own token, over TLS of the mesh's trust bundle (Z-03).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::Full;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use zen_compile::LockUse;
use zen_identity::client::Resolve;
use zen_identity::endpoint::{self, Endpoint};
use zen_identity::token::authorization;
use zen_live::cluster::{Refused, Unanswered, Unseal, Unsealed, Unsealing, ZenLocks};
use zen_lock::wire::{BATCH, Batch, BatchAnswer, Refusal, Subject, Use};
use zen_model::reason::LockRefusal;
use zen_model::{LockReason, ObjectKey};
use zen_pki::{TrustRoots, named_client};
use zeroize::Zeroize as _;

/// A batch with its TokenReview and its looks at the API server.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Sixteen `ZenLock`s in base64.
const MAX_ANSWER: usize = 32 << 20;

/// Who opens `ZenLock`s.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct Arguments {
    /// The unseal API; without it every zenLockRef is refused.
    #[arg(long, env = "ZEN_UNSEAL_URL", value_name = "URL")]
    pub unseal_url: Option<String>,
    /// The token for it.
    #[arg(
        long,
        env = "ZEN_UNSEAL_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/zen-mesh/unseal-token"
    )]
    pub unseal_token: PathBuf,
}

impl Arguments {
    /// What there is for objects that name `ZenLock`s. Asks nobody yet.
    pub fn zen_locks(
        &self,
        trust: &Path,
        names: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<ZenLocks, endpoint::Error> {
        let Some(url) = self.unseal_url.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(ZenLocks::Unsupported);
        };
        let api = Api::new(url, &self.unseal_token, trust, names)?;
        Ok(ZenLocks::Opened(Arc::new(Api { metrics: metrics.clone(), ..api })))
    }
}

/// How often the unseal API was asked, by `result`: `answered`, also where it refuses one or another object, or `unanswered`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Adds them to the registry of the process, which carries no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("zen_unseal");
        registry.register("requests", "Batches of ZenLocks asked for, by result", self.requests.clone());
    }
}

/// The unseal API of one mesh. Each request is a connection of its own, with the token and the trust bundle of that moment.
pub struct Api {
    url: String,
    endpoint: Endpoint,
    token: PathBuf,
    trust: PathBuf,
    metrics: Metrics,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Api {
    /// Asks nobody yet.
    pub fn new(url: &str, token: &Path, trust: &Path, names: Arc<dyn Resolve>) -> Result<Self, endpoint::Error> {
        let endpoint = Endpoint::with_resolver(url, names)?;
        let (token, trust) = (token.to_owned(), trust.to_owned());
        Ok(Self { url: url.to_owned(), endpoint, token, trust, metrics: Metrics::default() })
    }

    async fn ask(&self, uses: &[LockUse]) -> Result<Unsealed, Unanswered> {
        let said = |uses: &LockUse| Use {
            subject: Subject {
                kind: uses.kind.to_string(),
                namespace: uses.lock.namespace.to_string(),
                name: uses.name.to_string(),
            },
            lock: uses.lock.name.to_string(),
        };
        let batch = Batch { uses: uses.iter().map(said).collect() };
        let body = serde_json::to_vec(&batch).map_err(|error| self.unanswered(&error))?;
        let response = self.send(body.into()).await?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(match serde_json::from_slice::<Refusal>(response.body()) {
                Ok(refusal) => {
                    tracing::debug!(code = refusal.code, request_id = refusal.request_id, "no ZenLock is opened");
                    Unanswered(format!("{} refuses to answer ({}): {}", self.url, refusal.code, refusal.message))
                }
                Err(_) => self.unanswered(&status),
            });
        }
        let answer = serde_json::from_slice(response.body());
        // What was received is wiped where nobody else holds it.
        if let Ok(mut bytes) = response.into_body().try_into_mut() {
            bytes.zeroize();
        }
        // The parser's words may quote a value.
        let answer: BatchAnswer = answer.map_err(|error| {
            self.unanswered(&format!("it is malformed at line {} column {}", error.line(), error.column()))
        })?;
        read(uses, answer).ok_or_else(|| self.unanswered(&"it is about other ZenLocks"))
    }

    async fn send(&self, body: Bytes) -> Result<Response<Bytes>, Unanswered> {
        let file = |path: &Path, error: &std::io::Error| {
            Unanswered(format!("{} was not asked: failed to read {}: {error}", self.url, path.display()))
        };
        // Small files of the pod's own file system: reading them does not wait.
        let token = authorization(&self.token).map_err(|error| file(&self.token, &error))?;
        let roots = std::fs::read_to_string(&self.trust).map_err(|error| file(&self.trust, &error))?;
        let roots = TrustRoots::from_pem(&roots).map_err(|error| self.unanswered(&error))?;
        let tls = named_client(&roots, None).map_err(|error| self.unanswered(&error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(BATCH)
            .header(HOST, self.endpoint.host())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, token)
            .body(Full::new(body))
            .map_err(|error| self.unanswered(&error))?;
        self.endpoint.send(&tls, &request, TIMEOUT, MAX_ANSWER).await.map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &dyn fmt::Display) -> Unanswered {
        Unanswered(format!("{} gives no answer: {error}", self.url))
    }
}

impl Unseal for Api {
    fn unseal<'a>(&'a self, uses: &'a [LockUse]) -> Unsealing<'a> {
        Box::pin(async move {
            let answer = self.ask(uses).await;
            let result = if answer.is_ok() { "answered" } else { "unanswered" };
            self.metrics.requests.get_or_create(&[("result", result)]).inc();
            answer
        })
    }
}

/// None where it does not answer what was asked.
fn read(uses: &[LockUse], answer: BatchAnswer) -> Option<Unsealed> {
    if answer.verdicts.len() != uses.len() {
        return None;
    }
    let mut unsealed = Unsealed::default();
    for lock in answer.locks {
        let open = lock.data.into_iter().map(|(key, value)| (key, Ok(value)));
        // Of another release's code only that it was not opened is known.
        let reason = |code: &str| LockReason::from_code(code).unwrap_or(LockReason::UnknownKey);
        let closed = lock.failed.into_iter().map(|(key, code)| (key, Err(reason(&code))));
        unsealed.opened.insert(ObjectKey::new(lock.namespace, lock.name), open.chain(closed).collect());
    }
    for (used, verdict) in uses.iter().zip(answer.verdicts) {
        match verdict {
            Some(said) => {
                let refused = Refused { reason: LockRefusal::from_code(&said.code), message: said.message };
                unsealed.refused.insert(used.clone(), refused);
            }
            None if unsealed.opened.contains_key(&used.lock) => {}
            None => return None,
        }
    }
    Some(unsealed)
}

#[cfg(test)]
mod tests;
