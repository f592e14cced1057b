//! CloudEvents 1.0 on the way out: the HTTP binding's header encoding (binary) and the JSON event format (structured).

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use zen_model::Event;

/// Content type of the structured form.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

/// A header value by the HTTP binding, section 3.1.3.2: space, `"`, `%` and everything outside of printable ASCII is
/// percent-encoded as UTF-8.
///
/// # Panics
///
/// Never: what is left is a header value.
pub fn header_value(text: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'%';
    let encoded = if text.bytes().all(plain) {
        HeaderValue::from_str(text)
    } else {
        let mut encoded = Vec::with_capacity(text.len() + 16);
        for byte in text.bytes() {
            if plain(byte) {
                encoded.push(byte);
            } else {
                encoded.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        HeaderValue::from_bytes(&encoded)
    };
    encoded.expect("printable ASCII is a header value")
}

/// Whether the name is that of an extension (or of `subject`, `dataschema`): lower-case letters and digits, and none of
/// the attributes that the mesh writes itself.
pub(crate) fn is_extension(name: &str) -> bool {
    const OWN: [&str; 8] =
        ["specversion", "id", "type", "source", "time", "datacontenttype", "data", "contentencoding"];
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && !OWN.contains(&name)
}

/// The event as one JSON object (JSON event format 1.0).
///
/// A JSON body becomes `data` byte for byte, without being serialised again: numbers, key order and white space stay.
/// Anything else, and what claims to be JSON and is not, becomes `data_base64`. An event that arrived in structured form is
/// passed on as it is.
pub fn structured(event: &Event) -> Bytes {
    if is_structured(&event.content_type) {
        return event.body.clone();
    }
    let mut json = Vec::with_capacity(event.body.len() * 4 / 3 + 512);
    json.extend_from_slice(br#"{"specversion":"1.0""#);
    member(&mut json, "id", &event.id);
    member(&mut json, "type", &event.r#type);
    member(&mut json, "source", &event.source);
    member(&mut json, "time", &event.timestamp().to_string());
    if !event.content_type.is_empty() {
        member(&mut json, "datacontenttype", &event.content_type);
    }
    // The body's encoding is told inside, because the header would speak of the envelope.
    let encoding = event.headers.iter().find(|header| header.name == "content-encoding");
    if let Some(encoding) = encoding {
        member(&mut json, "contentencoding", &String::from_utf8_lossy(&encoding.value));
    }
    for extension in event.extensions.iter().filter(|extension| is_extension(&extension.name)) {
        member(&mut json, &extension.name, &String::from_utf8_lossy(&extension.value));
    }
    if !event.body.is_empty() {
        if is_json(&event.content_type) && encoding.is_none() && is_valid_json(&event.body) {
            json.extend_from_slice(br#","data":"#);
            json.extend_from_slice(&event.body);
        } else {
            json.extend_from_slice(br#","data_base64":""#);
            json.extend_from_slice(STANDARD.encode(&event.body).as_bytes());
            json.push(b'"');
        }
    }
    json.push(b'}');
    json.into()
}

fn member(json: &mut Vec<u8>, name: &str, value: &str) {
    // Writing to a vector does not fail, and names are plain letters.
    let _ = write!(json, ",\"{name}\":");
    let _ = serde_json::to_writer(json, value);
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_structured(content_type: &str) -> bool {
    media_type(content_type).eq_ignore_ascii_case("application/cloudevents+json")
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type).to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

fn is_valid_json(body: &[u8]) -> bool {
    // IgnoredAny builds nothing but skips the check of UTF-8 inside strings.
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zen_model::event::Header;

    use super::*;

    fn event(content_type: &str, body: &'static [u8]) -> Event {
        Event {
            id: "a\"b".into(),
            r#type: "push".into(),
            source: "https://github.com/acme".into(),
            time: 1_700_000_000_123,
            content_type: content_type.into(),
            body: Bytes::from_static(body),
            ..Event::default()
        }
    }

    #[test]
    fn header_values_are_encoded_by_the_http_binding() {
        // The example of the binding, section 3.1.3.2.
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("100%\"x\"\r\n"), "100%25%22x%22%0D%0A");
        assert_eq!(header_value("https://example.com/a?b=c"), "https://example.com/a?b=c");
    }

    #[test]
    fn json_is_spliced_byte_for_byte() {
        let body = br#"{"b":1.0, "a" : 12345678901234567890123, "b":2}"#;
        let json = structured(&event("application/json; charset=utf-8", body));
        let text = std::str::from_utf8(&json).expect("UTF-8");
        assert!(text.contains(&format!(r#","data":{}}}"#, std::str::from_utf8(body).expect("UTF-8"))), "{text}");
        assert!(text.contains(r#""id":"a\"b""#) && text.contains(r#""time":"2023-11-14T22:13:20.123Z""#), "{text}");
    }

    #[test]
    fn what_is_not_json_is_base64() {
        for (content_type, body) in [
            ("application/json", &b"{\"a\":1},\"id\":\"forged\""[..]),
            ("application/json", b"{\"a\":\"\xff\"}"),
            ("application/xml", b"<a/>"),
            ("", b"{}"),
        ] {
            let json: serde_json::Value =
                serde_json::from_slice(&structured(&event(content_type, body))).expect("JSON");
            assert_eq!(json["data_base64"], STANDARD.encode(body), "{content_type}");
            assert_eq!(json["id"], "a\"b");
            assert_eq!(json.get("datacontenttype").is_some(), !content_type.is_empty());
        }
    }

    #[test]
    fn extensions_and_content_encoding_are_told_and_own_attributes_not_overwritten() {
        let header = |name: &str, value: &'static [u8]| Header { name: name.into(), value: Bytes::from_static(value) };
        let event = Event {
            extensions: vec![header("subject", b"x"), header("id", b"forged"), header("Bad-Name", b"x")],
            headers: vec![header("content-encoding", b"gzip")],
            ..event("application/json", b"{}")
        };
        let json: serde_json::Value = serde_json::from_slice(&structured(&event)).expect("JSON");
        assert_eq!(json["subject"], "x");
        assert_eq!(json["id"], "a\"b");
        assert_eq!(json["contentencoding"], "gzip");
        assert_eq!(json["data_base64"], STANDARD.encode("{}"));
    }

    #[test]
    fn a_structured_event_is_not_wrapped_again() {
        let event = event("application/cloudevents+json", br#"{"specversion":"1.0"}"#);
        assert_eq!(structured(&event), event.body);
    }

    proptest! {
        #[test]
        fn header_values_decode_to_the_text(text in ".*") {
            let value = header_value(&text);
            let encoded = value.to_str().expect("ASCII");
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().expect("UTF-8");
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn any_body_makes_one_json_object(body: Vec<u8>, id in ".*", json: bool) {
            let content_type = if json { "application/json" } else { "text/plain" };
            let event = Event { id: id.clone(), body: body.into(), content_type: content_type.into(), ..Event::default() };
            let read: serde_json::Value = serde_json::from_slice(&structured(&event)).expect("JSON");
            prop_assert_eq!(&read["id"], &id);
        }
    }
}
