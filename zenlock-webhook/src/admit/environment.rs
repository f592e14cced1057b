//! Environment variables: their names, and which values Kubernetes' environment files can carry.
//!
//! The kubelet reads `NAME='value'` line by line (`pkg/kubelet/util/env`): there is no escape in it, an empty value counts as
//! missing, a carriage return before a line's end is dropped, and a line has at most 64 KiB. The value then passes through
//! the container runtime as a protobuf string, and into the process as a C string.

/// Longest line of the kubelet's scanner, with room for the name.
const LONGEST_LINE: usize = 60 << 10;

/// Why a value cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepresentable {
    /// There is nothing in it.
    Empty,
    /// It is not UTF-8.
    NotText,
    /// It holds a zero byte.
    Zero,
    /// It holds a single quote.
    Quote,
    /// It holds a carriage return before a line's end.
    CarriageReturn,
    /// A line is too long.
    LongLine,
}

impl Unrepresentable {
    /// A clause for a message; nothing of the value is in it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Empty => "its value is empty",
            Self::NotText => "its value is not UTF-8 text",
            Self::Zero => "its value holds a zero byte",
            Self::Quote => "its value holds a single quote",
            Self::CarriageReturn => "its value holds a carriage return before the end of a line",
            Self::LongLine => "a line of its value is longer than 60 KiB",
        }
    }
}

/// The variable of a key: in capitals, other characters as `_`.
pub fn variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether an environment file can carry the value.
pub fn representable(value: &[u8]) -> Result<(), Unrepresentable> {
    let text = std::str::from_utf8(value).map_err(|_| Unrepresentable::NotText)?;
    if text.is_empty() {
        Err(Unrepresentable::Empty)
    } else if text.contains('\0') {
        Err(Unrepresentable::Zero)
    } else if text.contains('\'') {
        Err(Unrepresentable::Quote)
    } else if text.contains("\r\n") {
        Err(Unrepresentable::CarriageReturn)
    } else if text.split('\n').any(|line| line.len() > LONGEST_LINE) {
        Err(Unrepresentable::LongLine)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_capitals_and_other_characters_as_underscores() {
        for (key, name) in
            [("token", "TOKEN"), ("db.password", "DB_PASSWORD"), ("a-b_c", "A_B_C"), ("Tls.Key9", "TLS_KEY9")]
        {
            assert_eq!(variable(key), name);
        }
    }

    #[test]
    fn what_the_kubelets_parser_would_change_is_not_carried() {
        let long = "x".repeat(LONGEST_LINE + 1);
        for (value, expected) in [
            (&b"hunter2"[..], Ok(())),
            (b"two\nlines\n", Ok(())),
            (b"#=\"$HOME\\ ", Ok(())),
            (b"a\rb", Ok(())),
            ("\u{fc}".as_bytes(), Ok(())),
            (b"", Err(Unrepresentable::Empty)),
            (b"it's", Err(Unrepresentable::Quote)),
            (b"a\r\nb", Err(Unrepresentable::CarriageReturn)),
            (b"\xff", Err(Unrepresentable::NotText)),
            (b"a\0b", Err(Unrepresentable::Zero)),
            (long.as_bytes(), Err(Unrepresentable::LongLine)),
        ] {
            assert_eq!(representable(value), expected);
        }
    }
}
