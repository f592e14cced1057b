//! What a request means to a Webhook: the values its sources name, and the Destinations its routes choose (W-13).
//! Declarative and bounded: no expression is interpreted.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::Value;
use zen_model::ObjectKey;
use zen_verify::Source;

use crate::{Match, Route, Test, Webhook};

/// A request as sources and matches see it. Nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The headers as received.
    pub headers: &'a HeaderMap,
    /// The body as JSON, where [`Webhook::needs_json`] asked for it and it parsed.
    pub json: Option<&'a Value>,
    /// The body as received.
    pub body: &'a [u8],
}

impl Webhook {
    /// The Destinations that an event of this type goes to, each once, in the order of the routes. Borrowed, without
    /// allocation, where no route has conditions.
    pub fn select(&self, event_type: &str, facts: Facts<'_>) -> Cow<'_, [ObjectKey]> {
        if let Some(always) = &self.unconditional {
            return Cow::Borrowed(always);
        }
        let matching = self.routes.iter().filter(|route| route.holds(event_type, facts));
        Cow::Owned(union(matching))
    }
}

/// The Destinations of routes, each once, in order.
pub(crate) fn union<'a>(routes: impl Iterator<Item = &'a Route>) -> Vec<ObjectKey> {
    let mut chosen: Vec<ObjectKey> = Vec::new();
    for key in routes.flat_map(|route| &route.destinations) {
        // At most 32 × 16 keys: comparing shared strings costs less than a set.
        if !chosen.contains(key) {
            chosen.push(key.clone());
        }
    }
    chosen
}

impl Route {
    /// Whether every condition holds.
    pub fn holds(&self, event_type: &str, facts: Facts<'_>) -> bool {
        self.matches.iter().all(|condition| condition.holds(event_type, facts))
    }
}

impl Match {
    /// Whether the condition holds.
    pub fn holds(&self, event_type: &str, facts: Facts<'_>) -> bool {
        match self {
            Self::EventType(types) => types.iter().any(|wanted| wanted == event_type),
            Self::Pointer(pointer, test) => test.holds(facts.json.and_then(|json| json.pointer(pointer))),
            Self::Header(name, test) => {
                // Every field line of the name counts: a list header may be split over several (RFC 9110, 5.3).
                let mut values = facts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).peekable();
                if values.peek().is_none() {
                    test.holds_for_text(None)
                } else {
                    values.any(|value| test.holds_for_text(Some(value)))
                }
            }
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Equals(wanted) => value.is_some_and(|value| equal(wanted, value)),
            Self::In(wanted) => value.is_some_and(|value| wanted.iter().any(|wanted| equal(wanted, value))),
            Self::Prefix(prefix) => value.and_then(Value::as_str).is_some_and(|text| text.starts_with(prefix.as_str())),
        }
    }

    fn holds_for_text(&self, text: Option<&str>) -> bool {
        match self {
            Self::Exists(wanted) => text.is_some() == *wanted,
            Self::Equals(wanted) => text.is_some_and(|text| equal_to_text(wanted, text)),
            Self::In(wanted) => text.is_some_and(|text| wanted.iter().any(|wanted| equal_to_text(wanted, text))),
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        }
    }
}

/// Equal as JSON Schema has it: 1 and 1.0 are one number.
fn equal(wanted: &Value, value: &Value) -> bool {
    match (wanted, value) {
        (Value::Number(wanted), Value::Number(value)) => {
            wanted == value || (wanted.is_f64() || value.is_f64()) && wanted.as_f64() == value.as_f64()
        }
        _ => wanted == value,
    }
}

/// A header has no type: `equals: 5` and `equals: "5"` mean the same there.
fn equal_to_text(wanted: &Value, text: &str) -> bool {
    match wanted {
        Value::String(wanted) => wanted == text,
        Value::Number(number) => number.to_string() == text,
        Value::Bool(wanted) => text == if *wanted { "true" } else { "false" },
        _ => false,
    }
}

/// The value that a source names in a request; none where it is missing, empty, or not text, number or boolean.
pub fn extract<'a>(source: &'a Source, facts: Facts<'a>) -> Option<Cow<'a, str>> {
    let found = match source {
        Source::Value(value) => Cow::Borrowed(value.as_ref()),
        Source::Header(name) => Cow::Borrowed(facts.headers.get(name.as_ref())?.to_str().ok()?),
        Source::Headers(names) => Cow::Borrowed(names.iter().find_map(|name| facts.headers.get(*name))?.to_str().ok()?),
        Source::Pointer(pointer) => match facts.json?.pointer(pointer)? {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(number) => Cow::Owned(number.to_string()),
            Value::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            _ => return None,
        },
        Source::Form(field) => {
            url::form_urlencoded::parse(facts.body).find(|(name, _)| name == field.as_ref()).map(|(_, value)| value)?
        }
    };
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn route(matches: Vec<Match>, destinations: &[&str]) -> Route {
        Route { matches, destinations: destinations.iter().map(|name| ObjectKey::new("a", *name)).collect() }
    }

    fn header(name: &'static str, test: Test) -> Match {
        Match::Header(http::HeaderName::from_static(name), test)
    }

    fn pointer(pointer: &str, test: Test) -> Match {
        Match::Pointer(pointer.to_owned(), test)
    }

    #[test]
    fn every_condition_of_a_route() {
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", HeaderValue::from_static("repo"));
        headers.append("x-many", HeaderValue::from_static("a"));
        headers.append("x-many", HeaderValue::from_static("b"));
        headers.insert("x-number", HeaderValue::from_static("5"));
        let json = json!({"repo": {"name": "acme/shop", "id": 7, "a/b": {"m~n": [1.0, null]}}, "on": true});
        let facts = Facts { headers: &headers, json: Some(&json), body: b"" };
        let text = |value: &str| Value::from(value);
        let table = [
            (Match::EventType(vec!["push".into(), "release".into()]), true),
            (Match::EventType(vec!["ping".into()]), false),
            (Match::EventType(vec![]), false),
            (pointer("/repo/name", Test::Equals(text("acme/shop"))), true),
            (pointer("/repo/name", Test::Equals(text("acme"))), false),
            (pointer("/repo/name", Test::In(vec![text("x"), text("acme/shop")])), true),
            (pointer("/repo/name", Test::In(vec![])), false),
            (pointer("/repo/name", Test::Prefix("acme/".into())), true),
            (pointer("/repo/id", Test::Prefix("7".into())), false),
            (pointer("/repo/id", Test::Equals(json!(7.0))), true),
            (pointer("/repo/id", Test::Equals(text("7"))), false),
            (pointer("/repo/a~1b/m~0n/0", Test::Equals(json!(1))), true),
            (pointer("/repo/a~1b/m~0n/1", Test::Exists(true)), true),
            (pointer("/repo/a~1b/m~0n/2", Test::Exists(false)), true),
            (pointer("", Test::Exists(true)), true),
            (pointer("/on", Test::Equals(json!(true))), true),
            (pointer("no-slash", Test::Exists(true)), false),
            (header("x-kind", Test::Exists(true)), true),
            (header("x-none", Test::Exists(true)), false),
            (header("x-none", Test::Exists(false)), true),
            (header("x-none", Test::Prefix(String::new())), false),
            (header("x-many", Test::Equals(text("b"))), true),
            (header("x-many", Test::Prefix("c".into())), false),
            (header("x-number", Test::Equals(json!(5))), true),
            (header("x-number", Test::In(vec![text("4"), text("5")])), true),
        ];
        for (condition, holds) in table {
            assert_eq!(condition.holds("push", facts), holds, "{condition:?}");
        }
        let none = Facts { json: None, ..facts };
        assert!(!pointer("", Test::Exists(true)).holds("push", none), "a body that is not JSON has no values");
    }

    #[test]
    fn routes_are_united_and_each_destination_is_named_once() {
        let headers = HeaderMap::new();
        let facts = Facts { headers: &headers, json: None, body: b"" };
        let mut webhook = Webhook::sample("a/hook");
        webhook.routes = vec![
            route(vec![Match::EventType(vec!["push".into()])], &["one", "two"]),
            route(vec![], &["two", "three"]),
            route(vec![Match::EventType(vec!["ping".into()])], &["four"]),
        ];
        webhook.unconditional = None;
        let names =
            |event: &str| webhook.select(event, facts).iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names("push"), ["one", "two", "three"]);
        assert_eq!(names("ping"), ["two", "three", "four"]);
        assert_eq!(names("x"), ["two", "three"]);
    }

    #[test]
    fn sources() {
        let mut headers = HeaderMap::new();
        headers.insert("x-id", HeaderValue::from_static("1"));
        headers.insert("x-empty", HeaderValue::from_static(""));
        let json = json!({"id": 5, "type": "t", "on": false, "list": []});
        let facts = Facts { headers: &headers, json: Some(&json), body: b"MessageSid=SM%201&x=" };
        for (source, value) in [
            (Source::Header("x-id".into()), Some("1")),
            (Source::Header("x-empty".into()), None),
            (Source::Header("not a name".into()), None),
            (Source::Pointer("/id".into()), Some("5")),
            (Source::Pointer("/on".into()), Some("false")),
            (Source::Pointer("/list".into()), None),
            (Source::Form("MessageSid".into()), Some("SM 1")),
            (Source::Form("x".into()), None),
            (Source::Value("constant".into()), Some("constant")),
        ] {
            assert_eq!(extract(&source, facts).as_deref(), value, "{source:?}");
        }
    }

    proptest! {
        #[test]
        fn total_on_any_pointer_and_body(pointer in "[/~a-z0-9]{0,12}", body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let headers = HeaderMap::new();
            let json = json!({"a": {"b": [1, 2]}});
            let facts = Facts { headers: &headers, json: Some(&json), body: &body };
            let _ = extract(&Source::Pointer(pointer.clone().into()), facts);
            let _ = extract(&Source::Form(pointer.into()), facts);
        }
    }
}
