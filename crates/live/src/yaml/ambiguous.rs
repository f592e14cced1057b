//! Plain scalars that YAML 1.1 reads otherwise. `kubectl` reads YAML 1.1, this program YAML 1.2: a manifest that means
//! two things must say so before it reaches a cluster.

/// Both readings, or none where they agree. `text` is a plain (unquoted, untagged) scalar.
pub fn explain(text: &str) -> Option<String> {
    let first = text.bytes().next()?;
    if first.is_ascii_alphabetic() {
        return truth(text).map(|value| {
            format!("unquoted {text} is the boolean {value} in YAML 1.1 (kubectl) and the text {text:?} in YAML 1.2; quote it")
        });
    }
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return None;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let kind = if digits.contains(':') {
        is_sexagesimal(digits).then_some("a number to the base 60 in YAML 1.1 (kubectl) and text in YAML 1.2")
    } else if let Some(binary) = digits.strip_prefix("0b") {
        all(binary, |c| matches!(c, b'0' | b'1' | b'_'))
            .then_some("a binary number in YAML 1.1 (kubectl) and text in YAML 1.2")
    } else if let Some(octal) = digits.strip_prefix("0o") {
        all(octal, |c| matches!(c, b'0'..=b'7')).then_some("text in YAML 1.1 (kubectl) and an octal number in YAML 1.2")
    } else if digits.contains('_') {
        has_grouping(digits).then_some("a number in YAML 1.1 (kubectl) and text in YAML 1.2")
    } else {
        (digits.len() > 1 && digits.starts_with('0') && all(digits, |c| c.is_ascii_digit()))
            .then_some("an octal number in YAML 1.1 (kubectl) and a decimal number in YAML 1.2")
    };
    kind.map(|kind| format!("unquoted {text} is {kind}; quote it, or write it without doubt"))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// `[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`, of which 1.1 has an integer and a float form.
fn is_sexagesimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    first.starts_with(|c: char| c.is_ascii_digit())
        && all(first, |c| c.is_ascii_digit() || c == b'_')
        && parts
            .all(|part| part.len() <= 2 && all(part, |c| c.is_ascii_digit()) && part.parse().is_ok_and(|n: u8| n < 60))
        && fraction.bytes().all(|c| c.is_ascii_digit() || c == b'_')
}

/// `1_000`, `1_000.5` and `0x_ff`: what 1.1 reads as one number.
fn has_grouping(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(hex) => all(hex, |c| c.is_ascii_hexdigit() || c == b'_'),
        None => {
            text.starts_with(|c: char| c.is_ascii_digit())
                && all(text, |c| c.is_ascii_digit() || matches!(c, b'_' | b'.'))
                && text.matches('.').count() <= 1
        }
    }
}

fn all(text: &str, is: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_what_the_versions_read_differently() {
        for text in [
            "on",
            "Off",
            "YES",
            "n",
            "y",
            "0777",
            "-012",
            "08",
            "1_000",
            "1_000.5",
            "0x_ff",
            "12:30:45",
            "190:20:30.15",
            "22:22",
            "0b101",
            "0o17",
        ] {
            assert!(explain(text).is_some(), "{text}");
        }
        for text in [
            "",
            "true",
            "null",
            "0",
            "-1",
            "10",
            "0.5",
            "0x1f",
            "1e3",
            "once",
            "yesterday",
            "no-op",
            "a_b",
            "10.0.0.1",
            "10:99",
            "1:2:3x",
            "::1",
            "2001:db8::1",
            "127.0.0.1:80",
            "2026-01-01",
            "5m",
            "_",
            "0",
            "1._2.3",
            ".",
            "-",
        ] {
            assert_eq!(explain(text), None, "{text}");
        }
    }
}
