//! Whatever is sent, the engine answers; whatever we sign, we accept.

use proptest::prelude::*;
use zen_model::Refusal;
use zen_verify::{Encoding, TimestampFormat, Verifier, parse, zen_signature};

use crate::fixture::{Delivery, NOW, ways};

/// Bytes that a header may hold.
fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~]{0,80}".prop_map(String::into_bytes);
    let signature =
        "(t=[0-9]{0,12},)?(v0|v1|v1a|sha256|sha1|hmac )?[=, ]?[0-9a-zA-Z+/=_-]{0,130}( v1,[A-Za-z0-9+/=]{44})?";
    let bytes = prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..60);
    prop_oneof![text, signature.prop_map(String::into_bytes), bytes]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_requests_are_refused(
        values in prop::collection::vec(header_value(), 4),
        body in prop::collection::vec(any::<u8>(), 0..200),
        path in "/[a-z?&=%0-9#.:@]{0,40}",
        host in "[a-z0-9.:\\[\\]]{0,20}",
    ) {
        for way in ways() {
            let verifier = Verifier::compile(way.verifying(&[0, 1])).unwrap();
            let mut delivery = way.delivery(NOW).body(body.clone()).at(&path);
            delivery.host = host.clone();
            let names: Vec<_> = delivery.headers.keys().cloned().collect();
            for (name, value) in names.iter().zip(values.iter().cycle()) {
                delivery = delivery.header(name.as_str(), value);
            }
            if !way.carrier.is_empty() {
                delivery = delivery.header(way.carrier, &values[0]);
            }
            prop_assert_eq!(delivery.verify(&verifier, NOW), Err(Refusal::Unauthenticated), "{}", way.name);
        }
    }

    #[test]
    fn what_is_signed_verifies(body in prop::collection::vec(any::<u8>(), 0..300)) {
        for way in ways() {
            let delivery = Delivery::signed(&way.signing(0), Some(body.clone().into()), NOW);
            let result = delivery.verify(&Verifier::compile(way.verifying(&[1, 0])).unwrap(), NOW);
            // Linear's time is in the body.
            let expected = if way.name == "linear" { Err(Refusal::MalformedBody) } else { Ok(1) };
            prop_assert_eq!(result, expected, "{}", way.name);
        }
    }

    #[test]
    fn parsers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), pointer in "(/[a-z0-9~]{0,3}){0,4}") {
        for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Base64Url] {
            let _ = parse::signature(&bytes, encoding, &mut [0; parse::MAX_SIGNATURE]);
        }
        for format in [TimestampFormat::Unix, TimestampFormat::UnixMillis, TimestampFormat::Rfc3339] {
            let _ = parse::timestamp(&bytes, format);
            let _ = parse::json_timestamp(&bytes, &pointer, format);
        }
        let _ = parse::list(&bytes, Some(b',')).count();
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse::template(&text);
        let _ = zen_signature::parse(&text);
    }

    /// The reader that builds nothing finds what the one that builds everything finds.
    #[test]
    fn json_at_agrees_with_serde_json(text in r#"[\[\]{}:,"ab01 ]{0,24}"#, pointer in "(/[ab01]{0,1}){0,3}") {
        let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let found = parse::json_at(text.as_bytes(), &pointer);
        match value {
            Some(value) => prop_assert_eq!(found, Ok(value.pointer(&pointer).cloned())),
            None => prop_assert!(found.is_err()),
        }
    }
}
