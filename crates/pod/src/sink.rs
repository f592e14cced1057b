//! Where the events end by which a rotation is probed (T-04, docs/adr/0013): an egress takes what another one, or itself, delivers
//! to the Destination [`NAME`], if its `X-Zen-Signature` is one that this target verifies. It keeps nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use zen_model::{ObjectKey, Timestamp};
use zen_verify::{SigningKeys, zen_signature};

/// Webhook, Destination and Secret of the events, in the release namespace.
pub const NAME: &str = "zen-mesh-probe";
/// On the port of health and metrics.
pub const PATH: &str = "/v1/probe";
/// Their body is a few words.
const MAX_BODY: usize = 4 << 10;
/// How old a signature may be, as for any target.
const TOLERANCE: Duration = Duration::from_mins(5);

/// The target of the events. Clones share everything.
#[derive(Clone, Debug)]
pub struct Sink {
    destination: ObjectKey,
    keys: Arc<OnceLock<SigningKeys>>,
}

impl Sink {
    /// In the mesh whose release namespace this is. It refuses everything before [`Sink::open`].
    pub fn new(namespace: &str) -> Self {
        Self { destination: ObjectKey::new(namespace, NAME), keys: Arc::default() }
    }

    /// From now on it verifies with these. Once; others are ignored.
    pub fn open(&self, keys: SigningKeys) {
        let _ = self.keys.set(keys);
    }

    /// `POST` [`PATH`]: 204, 401 where the signature does not verify, 503 before it is open.
    pub fn routes(&self) -> Router {
        Router::new().route(PATH, post(take)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(self.clone())
    }

    /// As any target does it, with the keys that `zen keys destination` gives.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), StatusCode> {
        let keys = self.keys.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(StatusCode::UNAUTHORIZED);
        let (value, id) = (text(zen_signature::HEADER)?, text("ce-id")?);
        let hash = digest(&SHA256, body);
        // Asked for each time: versions are exchanged, and that is what is probed.
        let verified =
            keys.destination(&self.destination).verify(value, id, hash.as_ref(), Timestamp::now(), TOLERANCE);
        verified.map_err(|error| {
            // Anybody in the cluster may send it anything: the answer says it, and fills no log.
            tracing::debug!(%error, "the event of a probe is not signed as a target expects it");
            StatusCode::UNAUTHORIZED
        })
    }
}

async fn take(State(sink): State<Sink>, headers: HeaderMap, body: Bytes) -> StatusCode {
    sink.verify(&headers, &body).err().unwrap_or(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;
    use zen_model::Secret;
    use zen_model::signing::{Next, Signers, Versions};

    use super::*;

    async fn post(sink: &Sink, signature: Option<&str>, id: &str, body: &str) -> u16 {
        let request = Request::post(PATH).header("ce-id", id);
        let request =
            signature.into_iter().fold(request, |request, value| request.header(zen_signature::HEADER, value));
        let request = request.body(Body::from(body.to_owned())).expect("valid");
        sink.routes().oneshot(request).await.expect("infallible").status().as_u16()
    }

    #[tokio::test]
    async fn takes_what_its_destinations_key_signed_and_nothing_else() {
        let keys = SigningKeys::new(Secret::new([7; 32]));
        let own = ObjectKey::new("zen-mesh", NAME);
        let sign = |keys: &SigningKeys, key: &ObjectKey, body: &str| {
            keys.destination(key).sign("e1", digest(&SHA256, body.as_bytes()).as_ref(), Timestamp::now())
        };
        let good = sign(&keys, &own, "{}");
        let sink = Sink::new("zen-mesh");
        assert_eq!(post(&sink, Some(&good), "e1", "{}").await, 503, "it has no keys yet");
        sink.open(keys.clone());
        let (stranger, other) = (SigningKeys::new(Secret::new([8; 32])), ObjectKey::new("zen-mesh", "other"));
        for (signature, id, body, status) in [
            (Some(&*good), "e1", "{}", 204),
            (None, "e1", "{}", 401),
            (Some("nonsense"), "e1", "{}", 401),
            (Some(&*good), "e2", "{}", 401),
            (Some(&*good), "e1", "{ }", 401),
            (Some(&*sign(&stranger, &own, "{}")), "e1", "{}", 401),
            (Some(&*sign(&keys, &other, "{}")), "e1", "{}", 401),
            (Some(&*good), "e1", &*"x".repeat(MAX_BODY + 1), 413),
        ] {
            assert_eq!(post(&sink, signature, id, body).await, status, "{signature:?} {id}");
        }
        // What is exchanged is seen at once.
        let next = Next { version: 2, signers: Signers::Everybody };
        keys.apply(Versions { next: Some(next), ..Versions::default() });
        assert_eq!(post(&sink, Some(&sign(&keys, &own, "{}")), "e1", "{}").await, 204);
    }
}
