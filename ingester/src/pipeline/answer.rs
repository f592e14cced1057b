//! What the source hears: one place that writes every answer, so that each carries its request id and no refusal says
//! more than its row in the table of reasons.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use zen_model::{EventId, Refusal};
use zen_verify::{Answer, ChallengeAnswer};

/// Correlation id, from source to target.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Marks the answer to a repeat.
pub(crate) const DUPLICATE: HeaderName = HeaderName::from_static("zen-duplicate");
/// The longest request id that is taken over.
const MAX_REQUEST_ID: usize = 128;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A refusal with what its answer says beside the table's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Refusal,
    /// In place of the row's meaning: names a limit, never a value of the request's.
    pub(crate) message: Option<String>,
    /// `Allow`, for 405.
    pub(crate) allow: Option<&'static str>,
}

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self { reason, message: None, allow: None }
    }
}

impl Refused {
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("The body is larger than the webhook's limit of {limit} bytes.");
        Self { message: Some(message), ..Refusal::BodyTooLarge.into() }
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Refusal::MethodNotAllowed.into() }
    }
}

/// The request's id, taken over where it is short and visible ASCII, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(REQUEST_ID) {
        Some(id) if is_sane(id.as_bytes()) => id.clone(),
        _ => HeaderValue::from_str(&generate_request_id()).unwrap_or(HeaderValue::from_static("none")),
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A random UUID. It correlates and authorises nothing: a fast generator will do.
pub(crate) fn generate_request_id() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string()
}

/// The event is stored, or was before.
pub(crate) fn stored(answer: Answer, id: &EventId, duplicate: bool, request_id: HeaderValue) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match answer {
        Answer::Accepted => (202, JSON, id_body(id)),
        Answer::Json(status) => (status, JSON, id_body(id)),
        Answer::Fixed { status, content_type, body } => {
            (status, HeaderValue::from_static(content_type), Bytes::from_static(body.as_bytes()))
        }
    };
    let mut response = build(status, content_type, body, request_id);
    if duplicate {
        response.headers_mut().insert(DUPLICATE, HeaderValue::from_static("true"));
    }
    response
}

fn id_body(id: &EventId) -> Bytes {
    let mut body = Vec::with_capacity(id.as_str().len() + 10);
    body.extend_from_slice(b"{\"id\":");
    // A string cannot fail to become JSON.
    let _ = serde_json::to_writer(&mut body, id.as_str());
    body.push(b'}');
    body.into()
}

/// The answer to a challenge.
pub(crate) fn challenge(answer: ChallengeAnswer, request_id: HeaderValue) -> Response<Full<Bytes>> {
    build(answer.status, HeaderValue::from_static(answer.content_type), answer.body, request_id)
}

/// A refusal. `close`: the body was not read to its end, nothing more is read from this connection.
pub(crate) fn refusal(refused: &Refused, request_id: HeaderValue, close: bool) -> Response<Full<Bytes>> {
    let reason = refused.reason;
    let body = refusal_body(reason, refused.message.as_deref(), request_id.to_str().unwrap_or_default());
    let mut response = build(reason.status(), JSON, body.into(), request_id);
    let headers = response.headers_mut();
    if let Some(seconds) = reason.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refused.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A refusal as HTTP/1.1 text, where hyper has no request to answer.
pub(crate) fn raw(reason: Refusal, request_id: &str) -> Vec<u8> {
    let body = refusal_body(reason, None, request_id);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::BAD_REQUEST);
    format!(
        "HTTP/1.1 {status}\r\n{CONTENT_TYPE}: application/json\r\n{CONTENT_LENGTH}: {}\r\n{REQUEST_ID}: {request_id}\r\n\
         {CONNECTION}: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn refusal_body(reason: Refusal, message: Option<&str>, request_id: &str) -> String {
    let message = message.unwrap_or(reason.row().meaning);
    json!({"code": reason.code(), "message": message, "request_id": request_id}).to_string()
}

fn build(status: u16, content_type: HeaderValue, body: Bytes, request_id: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(REQUEST_ID, request_id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_over_only_when_it_is_harmless() {
        let with = |id: &str| HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).expect("a header value"))]);
        assert_eq!(request_id(&with("abc-1")), "abc-1");
        for bad in ["", "a b", &"x".repeat(129), "ü"] {
            assert_eq!(request_id(&with(bad)).len(), 36, "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn ids_are_escaped() {
        assert_eq!(id_body(&EventId::from("a\"b")), r#"{"id":"a\"b"}"#);
    }

    #[test]
    fn raw_refusals_are_whole_answers() {
        let text = String::from_utf8(raw(Refusal::RequestTimeout, "r1")).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())) && head.contains("connection: close"));
        assert!(body.contains("\"code\":\"RequestTimeout\"") && body.contains("\"request_id\":\"r1\""));
    }
}
