//! Webhooks that are `CloudEvents` already (W-11): binary mode (`ce-*` headers) and structured mode
//! (`application/cloudevents+json`). Read only for the schemes that belong to no provider. The body stays as it came.

use http::HeaderMap;
use serde_json::Value;
use zen_compile::Webhook;
use zen_model::event::Header;

/// Media type of the structured mode.
const STRUCTURED: &str = "application/cloudevents+json";
/// Attributes that the event has fields for, and the time, which is ours: when intake accepted it.
const OWN: [&str; 6] = ["id", "type", "source", "specversion", "time", "datacontenttype"];
/// Extension attributes that are kept.
const MAX_EXTENSIONS: usize = 32;
/// Bytes of one attribute's value.
const MAX_VALUE: usize = 1024;

/// The attributes of a `CloudEvent` that arrived as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    pub(super) id: Option<String>,
    pub(super) r#type: Option<String>,
    pub(super) source: Option<String>,
    /// The others of the binary mode; those of the structured mode stand in the body.
    pub(super) extensions: Vec<Header>,
}

/// Whether `CloudEvents` mean anything to this Webhook: a provider's own format is never taken for one.
pub(super) fn is_read(webhook: &Webhook) -> bool {
    matches!(webhook.provider, "generic" | "none" | "basic" | "bearer" | "apiKey" | "standard-webhooks")
}

/// Whether this media type is the structured mode.
pub(super) fn is_structured(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case(STRUCTURED)
}

/// The attributes of a request that is a `CloudEvent` 1.x; none where it is not one.
pub(super) fn read(headers: &HeaderMap, media_type: &str, body: &[u8]) -> Option<Attributes> {
    if is_structured(media_type) {
        return structured(&serde_json::from_slice(body).ok()?);
    }
    is_version_1(headers.get("ce-specversion")?.to_str().ok()?).then(|| binary(headers))
}

fn binary(headers: &HeaderMap) -> Attributes {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut extensions = Vec::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let known = OWN.contains(&attribute) || !attribute.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !known && value.len() <= MAX_VALUE && extensions.len() < MAX_EXTENSIONS {
            let value = bytes::Bytes::copy_from_slice(value.as_bytes());
            extensions.push(Header { name: attribute.to_owned(), value });
        }
    }
    Attributes { id: text("ce-id"), r#type: text("ce-type"), source: text("ce-source"), extensions }
}

fn structured(envelope: &Value) -> Option<Attributes> {
    let text = |name: &str| envelope.get(name).and_then(Value::as_str).map(str::to_owned);
    is_version_1(envelope.get("specversion")?.as_str()?).then(|| Attributes {
        id: text("id"),
        r#type: text("type"),
        source: text("source"),
        extensions: Vec::new(),
    })
}

fn is_version_1(version: &str) -> bool {
    version == "1.0" || version.starts_with("1.")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_modes() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, "application/json", b"{}"), None);
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-type", "t"),
            ("ce-source", "/s"),
            ("ce-tenant", "x"),
            ("ce-time", "now"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let expected = Attributes {
            id: Some("7".into()),
            r#type: Some("t".into()),
            source: Some("/s".into()),
            extensions: vec![],
        };
        let binary = read(&headers, "text/plain", b"x").expect("binary mode");
        assert_eq!(binary.extensions.len(), 1, "the time and the known attributes are not extensions");
        assert_eq!(binary.extensions[0].name, "tenant");
        assert_eq!(Attributes { extensions: vec![], ..binary }, expected);
        let body = br#"{"specversion":"1.0","id":"7","type":"t","source":"/s","data":{}}"#;
        assert_eq!(read(&HeaderMap::new(), "Application/CloudEvents+JSON", body), Some(expected));
    }

    #[test]
    fn other_versions_and_broken_envelopes_are_plain_webhooks() {
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", HeaderValue::from_static("0.3"));
        assert_eq!(read(&headers, "text/plain", b""), None);
        for body in [&b"{"[..], b"[]", b"{}", br#"{"specversion":1}"#] {
            assert_eq!(read(&HeaderMap::new(), STRUCTURED, body), None);
        }
    }

    proptest! {
        /// Any body and any attribute: never a panic, and what is kept is bounded.
        #[test]
        fn total_and_bounded(body in proptest::collection::vec(any::<u8>(), 0..200), names in proptest::collection::vec("ce-[a-z0-9-]{1,12}", 0..60)) {
            let _ = read(&HeaderMap::new(), STRUCTURED, &body);
            let mut headers = HeaderMap::new();
            for name in names {
                let value = HeaderValue::from_bytes(&body).unwrap_or(HeaderValue::from_static("x"));
                headers.append(http::HeaderName::try_from(name).expect("a name"), value);
            }
            headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
            let attributes = read(&headers, "text/plain", &body).expect("binary mode");
            prop_assert!(attributes.extensions.len() <= MAX_EXTENSIONS);
        }
    }
}
