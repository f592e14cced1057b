use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::{Received, Watch};
use crate::Gate;

/// The body of an answer.
pub(super) type Stream = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// An answer. Cheap to clone.
#[derive(Clone)]
pub struct Reply(Arc<Kind>);

enum Kind {
    Body { code: u16, body: Value, retry_after: Option<u32> },
    Made(Box<dyn Fn(&Received) -> Value + Send + Sync>),
    Chosen(Box<dyn Fn(&Received) -> Reply + Send + Sync>),
    Watch(Watch),
    Held(Gate, Reply),
    Never,
}

impl Reply {
    fn new(kind: Kind) -> Self {
        Self(Arc::new(kind))
    }

    /// 200 with this object.
    pub fn ok(body: Value) -> Self {
        Self::new(Kind::Body { code: 200, body, retry_after: None })
    }

    /// 200 with what is made of the call.
    pub fn with(make: impl Fn(&Received) -> Value + Send + Sync + 'static) -> Self {
        Self::new(Kind::Made(Box::new(make)))
    }

    /// The answer that is chosen by the call, as an API server's to a compare-and-swap.
    pub fn by(choose: impl Fn(&Received) -> Self + Send + Sync + 'static) -> Self {
        Self::new(Kind::Chosen(Box::new(choose)))
    }

    /// 200 with the body of the call, as an API server that adds nothing but a UID and a resource version.
    pub fn stored() -> Self {
        Self::with(|received| {
            let mut body = received.body.clone();
            body["metadata"]["resourceVersion"] = "2".into();
            if body["metadata"]["uid"].is_null() {
                body["metadata"]["uid"] = "uid-1".into();
            }
            body
        })
    }

    /// A list of these objects, whole, at resource version 1.
    #[allow(clippy::needless_pass_by_value, reason = "a test writes the objects down where it tells them")]
    pub fn list(items: Vec<Value>) -> Self {
        Self::ok(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}))
    }

    /// A stream of watch events.
    pub fn watch(watch: &Watch) -> Self {
        Self::new(Kind::Watch(watch.clone()))
    }

    /// A failure.
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        Self::failure(code, reason, message, None)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::status(404, "NotFound", "not found")
    }

    /// 409, as for a resource version that is not the newest.
    pub fn conflict() -> Self {
        Self::status(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
    }

    /// 409, as for a create of what exists.
    pub fn exists() -> Self {
        Self::status(409, "AlreadyExists", "already exists")
    }

    /// 422, as for an apply that names the UID of an object which was deleted and made again.
    pub fn made_again() -> Self {
        let causes = json!([{"reason": "FieldValueInvalid", "field": "metadata.uid", "message": "field is immutable"}]);
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
            "message": "metadata.uid: Invalid value: field is immutable", "details": {"causes": causes},
        });
        Self::new(Kind::Body { code: 422, body, retry_after: None })
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self::status(403, "Forbidden", "forbidden")
    }

    /// 410, as for a resource version that is too old.
    pub fn gone() -> Self {
        Self::status(410, "Expired", "too old resource version")
    }

    /// 429 with so many seconds to wait.
    pub fn busy(seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", "too many requests", Some(seconds))
    }

    /// 500.
    pub fn internal() -> Self {
        Self::status(500, "InternalError", "internal error")
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self::status(503, "ServiceUnavailable", "apiserver not ready")
    }

    /// No answer at all.
    pub fn never() -> Self {
        Self::new(Kind::Never)
    }

    /// The answer, when the gate is opened.
    #[must_use]
    pub fn held(self, gate: &Gate) -> Self {
        Self::new(Kind::Held(gate.clone(), self))
    }

    fn failure(code: u16, reason: &str, message: &str, retry_after: Option<u32>) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        });
        if let Some(seconds) = retry_after {
            body["details"] = json!({"retryAfterSeconds": seconds});
        }
        Self::new(Kind::Body { code, body, retry_after })
    }

    pub(super) async fn respond(&self, received: &Received) -> Response<Stream> {
        match &*self.0 {
            Kind::Body { code, body, retry_after } => respond(*code, body, *retry_after),
            Kind::Made(make) => respond(200, &make(received), None),
            Kind::Chosen(choose) => Box::pin(choose(received).respond(received)).await,
            Kind::Watch(watch) => Response::new(watch.stream().boxed_unsync()),
            Kind::Held(gate, reply) => {
                gate.passed().await;
                Box::pin(reply.respond(received)).await
            }
            Kind::Never => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Body { code, .. } => write!(f, "Reply({code})"),
            Kind::Made(_) => f.write_str("Reply(made)"),
            Kind::Chosen(_) => f.write_str("Reply(chosen)"),
            Kind::Watch(_) => f.write_str("Reply(watch)"),
            Kind::Held(..) => f.write_str("Reply(held)"),
            Kind::Never => f.write_str("Reply(never)"),
        }
    }
}

fn respond(code: u16, body: &Value, retry_after: Option<u32>) -> Response<Stream> {
    let mut response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    let body = Full::new(Bytes::from(body.to_string()));
    response.body(body.boxed_unsync()).expect("a status of three digits and plain headers are a response")
}
