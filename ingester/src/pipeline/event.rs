//! A verified request becomes an event: type, id, source, claim, Destinations. Nothing here refuses: what is missing has
//! a default.

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use zen_compile::Webhook;
use zen_compile::select::{Facts, extract};
use zen_model::event::Header;
use zen_model::{Event, ObjectKey, Timestamp};
use zen_queue::{Claim, NewEvent};
use zen_verify::Source;

use super::cloudevent::{self, Attributes};
use super::head::Head;

/// Attributes longer than this are taken for missing: they become headers at the target.
const MAX_ATTRIBUTE: usize = 512;
/// `traceparent` of version 00 has 55 characters; later ones may have more.
const MAX_TRACEPARENT: usize = 128;

/// Builds the event and says where it goes.
pub(super) fn build(
    webhook: &Webhook,
    head: &Head<'_>,
    headers: &HeaderMap,
    request_id: &HeaderValue,
    body: Bytes,
    now: Timestamp,
) -> NewEvent {
    let json: Option<Value> = if webhook.needs_json { serde_json::from_slice(&body).ok() } else { None };
    let facts = Facts { headers, json: json.as_ref(), body: &body };
    let cloud = if cloudevent::is_read(webhook) { cloudevent::read(headers, head.media_type(), &body) } else { None };
    let cloud = cloud.unwrap_or_default();
    let attribute = |source: &Option<Source>, arrived: Option<String>| match source {
        Some(source) => extract(source, facts).map(std::borrow::Cow::into_owned),
        None => arrived,
    };
    let Attributes { id, r#type, source, extensions } = cloud;
    let id = attribute(&webhook.event_id, id).filter(|id| is_attribute(id)).unwrap_or_default();
    let r#type = attribute(&webhook.event_type, r#type)
        .filter(|r#type| is_attribute(r#type))
        .unwrap_or_else(|| format!("{}.event", webhook.provider));
    // The path is the default: the Webhook says nothing else, so a CloudEvent keeps the source that it came with.
    let source = source
        .filter(|source| webhook.event_source == webhook.path && is_attribute(source))
        .unwrap_or_else(|| webhook.event_source.clone());
    let claim = webhook.idempotency.as_ref().and_then(|(source, window)| {
        let key = extract(source, facts)?;
        Some(Claim { hash: claim_hash(&webhook.key, &key), window: *window })
    });
    let destinations = webhook.select(&r#type, facts).into_owned();
    let content_hash = Bytes::copy_from_slice(digest::digest(&SHA256, &body).as_ref());
    let event = Event {
        id,
        namespace: webhook.key.namespace.as_str().to_owned(),
        webhook: webhook.key.name.as_str().to_owned(),
        r#type,
        source,
        time: now.0,
        content_type: head.content_type.to_owned(),
        request_id: request_id.to_str().unwrap_or_default().to_owned(),
        traceparent: traceparent(headers),
        headers: kept(webhook, headers),
        content_hash,
        extensions,
        body,
    };
    NewEvent { event, destinations, claim }
}

/// Whether a text can stand as an attribute of a `CloudEvent`: not empty, bounded, no control characters.
fn is_attribute(text: &str) -> bool {
    (1..=MAX_ATTRIBUTE).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// SHA-256 over tenant, Webhook and key, cut to 16 bytes. Names cannot hold the separator, so no two keys share an input.
fn claim_hash(webhook: &ObjectKey, key: &str) -> [u8; 16] {
    let mut context = digest::Context::new(&SHA256);
    for part in [webhook.namespace.as_str(), webhook.name.as_str()] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.update(key.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&context.finish().as_ref()[..16]);
    hash
}

fn kept(webhook: &Webhook, headers: &HeaderMap) -> Vec<Header> {
    let mut kept = Vec::new();
    for name in &webhook.kept_headers {
        for value in headers.get_all(name) {
            kept.push(Header { name: name.as_str().to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) });
        }
    }
    kept
}

fn traceparent(headers: &HeaderMap) -> String {
    let text = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sane = text.len() <= MAX_TRACEPARENT && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if sane { text.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_different_webhooks_never_meet() {
        let hash = |namespace: &str, name: &str, key: &str| claim_hash(&ObjectKey::new(namespace, name), key);
        assert_eq!(hash("a", "b", "1"), hash("a", "b", "1"));
        assert_ne!(hash("a", "b", "1"), hash("a", "b", "2"));
        assert_ne!(hash("a", "bc", "d"), hash("ab", "c", "d"));
        assert_ne!(hash("a", "b", "cd"), hash("a", "bc", "d"));
    }

    #[test]
    fn attributes_are_bounded_and_printable() {
        assert!(is_attribute("push") && is_attribute("größer"));
        assert!(!is_attribute("") && !is_attribute("a\nb") && !is_attribute(&"x".repeat(MAX_ATTRIBUTE + 1)));
    }
}
