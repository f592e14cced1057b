//! Plain scalars by the core schema of YAML 1.2 (spec section 10.3.2).

use serde_json::Number;

use super::Value;

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// JSON has no infinities: `.inf` and `.nan` stay text, and the schema refuses text where a number is wanted.
fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |c| matches!(c, '0'..='7')).then(|| u64::from_str_radix(digits, 8).ok())?.map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |c| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?.map(Number::from);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if all(unsigned, |c| c.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
        return whole.ok().or_else(|| Number::from_f64(text.parse().ok()?));
    }
    is_float(unsigned).then(|| Number::from_f64(text.parse().ok()?))?
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(unsigned: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit();
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits =
        (all(whole, digits) && fraction.chars().all(digits)) || (whole.is_empty() && all(fraction, digits));
    mantissa_fits && exponent.is_none_or(|exponent| all(exponent, digits))
}

fn all(text: &str, is: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::Node;

    #[test]
    fn core_schema() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("TRUE", json!(true)),
            ("tRue", json!("tRue")),
            ("on", json!("on")),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+12", json!(12)),
            ("0777", json!(777)),
            ("0o17", json!(15)),
            ("0xfF", json!(255)),
            ("0x", json!("0x")),
            ("1_000", json!("1_000")),
            ("12:30:45", json!("12:30:45")),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("5.", json!(5.0)),
            ("1e3", json!(1000.0)),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("e3", json!("e3")),
            ("1.2.3", json!("1.2.3")),
            (".inf", json!(".inf")),
            ("-", json!("-")),
            ("18446744073709551615", json!(u64::MAX)),
            ("5m", json!("5m")),
        ] {
            assert_eq!(Node { line: 1, value: resolve(text) }.to_json(), value, "{text:?}");
        }
    }
}
