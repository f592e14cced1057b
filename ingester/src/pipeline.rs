//! From a request's head to an answer: the checks of W-02 in their order, cheap and unauthenticated ones first, and
//! nothing stored before the signature holds.

pub(crate) mod answer;
mod body;
mod cloudevent;
mod event;
mod head;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use http_body_util::Full;
use tokio::time::Instant;
use zen_compile::{Serving, Webhook};
use zen_model::observe::Observation;
use zen_model::{Refusal, Timestamp};
use zen_queue::{CommitError, Committed, Fault};
use zen_verify::Verifier;

use crate::budget::Share;
use crate::core::Core;
use crate::listener::Wire;
use crate::seen::WebhookSeen;
use answer::Refused;
use head::Head;

/// Answers one request.
pub(crate) async fn handle<B>(core: &Core, peer: IpAddr, wire: &Wire, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let began = Instant::now();
    let (parts, mut body) = request.into_parts();
    let request_id = answer::request_id(&parts.headers);
    let http1 = parts.version <= Version::HTTP_11;
    let mut share = core.budget.share();
    let mut response = match accept(core, peer, &parts, &request_id, &mut body, &mut share).await {
        Ok(response) => response,
        Err((webhook, refused)) => {
            core.refused(webhook.as_ref().map(|webhook| &webhook.key), refused.reason);
            let broken = matches!(refused.reason, Refusal::RequestTimeout | Refusal::BadRequest);
            let whole = !broken && body::discard(&mut body, parts.headers.contains_key(http::header::EXPECT)).await;
            if !whole && http1 {
                wire.linger();
            } else if !whole {
                tokio::spawn(body::linger(body, core.limits));
            }
            answer::refusal(&refused, request_id, !whole && http1)
        }
    };
    if http1 && *core.leaving.borrow() {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    if http1 && head::closes_after(&parts.headers, wire.content_length_seen()) {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        wire.linger();
    }
    core.metrics.answered(began.elapsed());
    response
}

/// A refusal and the Webhook that it concerns, once that is known.
type Rejected = (Option<Arc<Webhook>>, Refused);

/// What can be said before the body: the Webhook, its verifier's turn comes later.
async fn accept<B>(
    core: &Core,
    peer: IpAddr,
    parts: &Parts,
    request_id: &HeaderValue,
    body: &mut B,
    share: &mut Share,
) -> Result<Response<Full<Bytes>>, Rejected>
where
    B: Body<Data = Bytes> + Unpin,
{
    let head = Head::read(parts, &core.limits).map_err(|reason| (None, reason.into()))?;
    let Some(_entered) = core.enter() else { return Err((None, Refusal::Draining.into())) };
    let (webhook, seen) = {
        let snapshot = core.snapshot.load();
        let Some(webhook) = snapshot.webhook(&head.lookup_host(), head.path) else {
            return Err((None, Refusal::UnknownPath.into()));
        };
        (Arc::clone(webhook), core.seen.of(&webhook.key, &snapshot))
    };
    match take(core, peer, parts, &head, request_id, &webhook, &seen, body, share).await {
        Ok(response) => Ok(response),
        Err(refused) => Err((Some(webhook), refused)),
    }
}

#[expect(clippy::too_many_arguments, reason = "the order of the checks is the point; a struct would hide it")]
async fn take<B>(
    core: &Core,
    peer: IpAddr,
    parts: &Parts,
    head: &Head<'_>,
    request_id: &HeaderValue,
    webhook: &Webhook,
    seen: &WebhookSeen,
    body: &mut B,
    share: &mut Share,
) -> Result<Response<Full<Bytes>>, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    if parts.method != Method::POST {
        return Err(Refused::method("POST"));
    }
    let verifier = match &webhook.serving {
        Serving::Active(verifier) => verifier,
        Serving::Inactive => return Err(Refusal::Inactive.into()),
        Serving::Invalid(_) => return Err(Refusal::NotConfigured.into()),
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > webhook.max_body {
        return Err(Refused::body_too_large(webhook.max_body));
    }
    head.check_content_type(webhook)?;
    let peer = peer.to_canonical();
    if !webhook.sources.is_empty() && !webhook.sources.iter().any(|net| net.contains(&peer)) {
        return Err(Refusal::SourceNotAllowed.into());
    }
    // Where routes have conditions their Destinations are not known yet: the commit looks at their quotas.
    let certain = webhook.unconditional.as_deref().unwrap_or_default();
    core.queue.admit(&webhook.key, certain, declared).map_err(|error| refusal_of(&error))?;

    let body = body::read(body, webhook.max_body, share, &core.limits).await?;
    let now = Timestamp::now();
    let request = zen_verify::Request {
        method: &parts.method,
        host: head.host,
        path_and_query: head.path_and_query,
        headers: &parts.headers,
        body: &body,
    };
    let zen_verify::Verified { secret } = verifier.verify(&request, now)?;
    seen.verified(secret, now);
    if let Some(answer) = challenged(core, webhook, verifier, &request) {
        return Ok(answer::challenge(answer, request_id.clone()));
    }
    let new = event::build(webhook, head, &parts.headers, request_id, body, now);
    let noted = Noted::of(&new);
    match core.queue.commit(new).await {
        Ok(Committed::Accepted { id }) => {
            noted.accepted(core, webhook, seen, &id);
            Ok(answer::stored(webhook.answer, &id, false, request_id.clone()))
        }
        Ok(Committed::Duplicate { id, rearmed }) => {
            seen.duplicates.fetch_add(1, Relaxed);
            core.metrics.duplicate(webhook.provider);
            tracing::debug!(webhook = %webhook.key, %id, rearmed, "duplicate");
            if core.observer.is_watched() {
                core.observer.observe(Observation::Duplicate { webhook: webhook.key.clone(), id: id.clone() });
            }
            Ok(answer::stored(webhook.answer, &id, true, request_id.clone()))
        }
        Err(error) => Err(refusal_of(&error).into()),
    }
}

fn challenged(
    core: &Core,
    webhook: &Webhook,
    verifier: &Verifier,
    request: &zen_verify::Request<'_>,
) -> Option<zen_verify::ChallengeAnswer> {
    let answer = verifier.challenge(request)?;
    core.metrics.challenges.inc();
    tracing::debug!(webhook = %webhook.key, "challenge answered");
    if core.observer.is_watched() {
        core.observer.observe(Observation::Challenged { webhook: webhook.key.clone() });
    }
    Some(answer)
}

/// What is told about an event after the queue has taken it.
struct Noted {
    r#type: Box<str>,
    bytes: usize,
    deliveries: usize,
}

impl Noted {
    fn of(new: &zen_queue::NewEvent) -> Self {
        Self {
            r#type: new.event.r#type.as_str().into(),
            bytes: new.event.body.len(),
            deliveries: new.destinations.len(),
        }
    }

    fn accepted(self, core: &Core, webhook: &Webhook, seen: &WebhookSeen, id: &zen_model::EventId) {
        seen.accepted.fetch_add(1, Relaxed);
        core.metrics.accepted(webhook.provider, self.bytes);
        if self.deliveries == 0 {
            seen.unrouted.fetch_add(1, Relaxed);
            core.metrics.unrouted.inc();
        }
        tracing::debug!(webhook = %webhook.key, %id, bytes = self.bytes, deliveries = self.deliveries, "accepted");
        if core.observer.is_watched() {
            core.observer.observe(Observation::Accepted {
                webhook: webhook.key.clone(),
                id: id.clone(),
                r#type: self.r#type,
                bytes: self.bytes,
                deliveries: self.deliveries,
            });
        }
    }
}

fn refusal_of(error: &CommitError) -> Refusal {
    match error {
        CommitError::Full { .. } => Refusal::QuotaExceeded,
        CommitError::Overloaded => Refusal::Overloaded,
        CommitError::Unavailable(Fault::Closed) => Refusal::Draining,
        CommitError::Unavailable(_) => Refusal::QueueUnavailable,
    }
}
