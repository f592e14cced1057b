//! The request that carries an event (D-08, D-09, W-11, W-12).

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use zen_compile::Format;
use zen_model::{Event, Timestamp};

use crate::cloudevents::{STRUCTURED, header_value, is_extension, structured};
use crate::prepare::Prepared;

const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const CE_ID: HeaderName = HeaderName::from_static("ce-id");
const CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
const CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
const CE_TIME: HeaderName = HeaderName::from_static("ce-time");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const X_ZEN_SIGNATURE: HeaderName = HeaderName::from_static("x-zen-signature");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The request for one attempt. What the mesh writes itself comes last and replaces what was set or forwarded.
pub(crate) fn build(prepared: &Prepared, event: &Event, now: Timestamp) -> Request<Full<Bytes>> {
    let mut headers = prepared.headers.clone();
    forward(prepared, event, &mut headers);
    let id = header_value(&event.id);
    let body = match prepared.destination.format {
        Format::Raw => {
            binary(event, &id, &mut headers);
            event.body.clone()
        }
        Format::Structured => {
            headers.remove(CONTENT_ENCODING);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
            structured(event)
        }
    };
    if !prepared.signing.is_empty() {
        sign(&prepared.signing, &id, &body, now, &mut headers);
    }
    let hashed;
    let content_hash = match prepared.destination.format {
        // Checked against the body before it came here.
        Format::Raw if event.content_hash.len() == digest::SHA256_OUTPUT_LEN => &event.content_hash[..],
        _ => {
            hashed = digest::digest(&digest::SHA256, &body);
            hashed.as_ref()
        }
    };
    put(&mut headers, X_ZEN_SIGNATURE, prepared.zen_keys.sign(&event.id, content_hash, now));
    if !event.request_id.is_empty() {
        headers.insert(X_REQUEST_ID, header_value(&event.request_id));
    }
    if !event.traceparent.is_empty() {
        headers.insert(TRACEPARENT, header_value(&event.traceparent));
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));

    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = prepared.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Received headers on the allow list, every value of them.
fn forward(prepared: &Prepared, event: &Event, headers: &mut HeaderMap) {
    for header in &event.headers {
        let found = prepared.forward.binary_search_by(|name| name.as_str().cmp(&header.name));
        if let (Ok(at), Ok(value)) = (found, HeaderValue::from_maybe_shared(header.value.clone())) {
            headers.append(prepared.forward[at].clone(), value);
        }
    }
}

/// Binary mode: attributes as headers, the body untouched.
fn binary(event: &Event, id: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(CE_SPECVERSION, HeaderValue::from_static("1.0"));
    headers.insert(CE_ID, id.clone());
    headers.insert(CE_TYPE, header_value(&event.r#type));
    headers.insert(CE_SOURCE, header_value(&event.source));
    put(headers, CE_TIME, event.timestamp().to_string());
    for extension in event.extensions.iter().filter(|extension| is_extension(&extension.name)) {
        if let (Ok(name), Ok(value)) =
            (format!("ce-{}", extension.name).parse::<HeaderName>(), std::str::from_utf8(&extension.value))
        {
            headers.insert(name, header_value(value));
        }
    }
    if let (false, Ok(value)) = (event.content_type.is_empty(), HeaderValue::from_str(&event.content_type)) {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// Standard Webhooks, `v1`: HMAC-SHA256 over `id.timestamp.body`, one signature for each key, newest first.
fn sign(keys: &[hmac::Key], id: &HeaderValue, body: &[u8], now: Timestamp, headers: &mut HeaderMap) {
    let timestamp = now.as_secs().to_string();
    let mut signatures = String::with_capacity(keys.len() * 48);
    for key in keys {
        let mut context = hmac::Context::with_key(key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        signatures.push_str("v1,");
        STANDARD.encode_string(context.sign(), &mut signatures);
    }
    headers.insert(WEBHOOK_ID, id.clone());
    put(headers, WEBHOOK_TIMESTAMP, timestamp);
    put(headers, WEBHOOK_SIGNATURE, signatures);
}

/// A value that the mesh wrote: plain ASCII, without a copy.
fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        headers.insert(name, value);
    }
}
