//! Durations and sizes as people write them: `5m`, `1Mi`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Form of a duration, for the API server and [`crate::validate()`] alike.
const DURATION: &str = "^[1-9][0-9]{0,5}(ms|s|m|h)$";
/// Form of a size.
const QUANTITY: &str = "^[1-9][0-9]{0,11}(k|M|G|Ki|Mi|Gi)?$";

/// A duration above zero: up to six digits and `ms`, `s`, `m` or `h`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

/// The text is no duration such as `30s`, `5m` or `24h`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration such as 30s, 5m or 24h")]
pub struct InvalidDuration(String);

impl DurationText {
    /// The duration. Fails only on an object that no schema checked.
    pub fn to_duration(&self) -> Result<Duration, InvalidDuration> {
        parse_duration(&self.0).ok_or_else(|| InvalidDuration(self.0.clone()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `5m` → 300 s; none when the text has another form.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    if !(1..=6).contains(&digits) || number.starts_with('0') {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "maxLength": 8, "pattern": DURATION,
            "x-zen-hint": "a duration above zero such as 500ms, 30s, 5m or 24h",
        })
    }
}

/// A number of bytes: an integer, or digits with `k`, `M`, `G` (powers of 1000) or `Ki`, `Mi`, `Gi` (powers of 1024).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// The text is no size such as `64Ki` or `1Mi`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size such as 64Ki or 1Mi")]
pub struct InvalidQuantity(String);

impl Quantity {
    /// The number of bytes. Fails only on an object that no schema checked.
    pub fn to_bytes(&self) -> Result<u64, InvalidQuantity> {
        parse_quantity(&self.0).ok_or_else(|| InvalidQuantity(self.0.clone()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `64Ki` → 65536; none when the text has another form.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    if !(1..=12).contains(&digits) || number.starts_with('0') {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    let factor = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerOrText;

        impl Visitor<'_> for IntegerOrText {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64Ki or 1Mi")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Quantity, E> {
                Ok(Quantity(value.to_owned()))
            }
        }

        deserializer.deserialize_any(IntegerOrText)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 15, "minimum": 1, "pattern": QUANTITY,
            "x-zen-hint": "a size such as 65536, 64Ki or 1Mi",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("336h", 1_209_600_000)] {
            assert_eq!(DurationText::from(text).to_duration(), Ok(Duration::from_millis(expected)), "{text}");
        }
        for bad in ["", "5", "m", "0s", "05m", "1000000s", "1h30m", "5 m", "-5m", "5M", "1.5h", "5µs"] {
            assert!(DurationText::from(bad).to_duration().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [("1", 1), ("64Ki", 65_536), ("1Mi", 1 << 20), ("2k", 2_000), ("3G", 3_000_000_000)] {
            assert_eq!(Quantity::from(text).to_bytes(), Ok(expected), "{text}");
        }
        for bad in ["", "0", "Ki", "1Ti", "1.5Mi", "1e3", "-1", "1 Mi", "1mi"] {
            assert!(Quantity::from(bad).to_bytes().is_err(), "{bad}");
        }
        let integer: Quantity = serde_json::from_str("1024").expect("integers are sizes");
        assert_eq!(integer.to_bytes(), Ok(1024));
    }

    proptest! {
        /// The pattern and the parser know the same texts.
        #[test]
        fn patterns_and_parsers_agree(text in "[0-9a-zA-Z]{0,9}|[0-9]{0,8}(ms|s|m|h|k|M|G|Ki|Mi|Gi)") {
            let matches = |pattern: &str| Regex::new(pattern).expect("valid").is_match(&text);
            prop_assert_eq!(matches(DURATION), parse_duration(&text).is_some());
            prop_assert_eq!(matches(QUANTITY), parse_quantity(&text).is_some());
        }
    }
}
