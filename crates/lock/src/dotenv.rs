//! `.env` files: `KEY=VALUE` lines as shells, Docker Compose and dotenv libraries agree on them. Nothing is expanded.

use zen_model::Secret;
use zeroize::Zeroizing;

/// A line that is no assignment. No message repeats any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct DotenvError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Names and values, in order. A name that stands twice is refused.
pub fn dotenv(text: &str) -> Result<Vec<(String, Secret)>, DotenvError> {
    let mut found: Vec<(String, Secret)> = Vec::new();
    let (mut rest, mut line) = (text.strip_prefix('\u{feff}').unwrap_or(text), 1);
    while !rest.is_empty() {
        let error = |what| DotenvError { line, what };
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let trimmed = rest[..end].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            (rest, line) = (&rest[end..], line + 1);
            continue;
        }
        let equals = rest[..end].find('=').ok_or_else(|| error("it is not KEY=VALUE"))?;
        let name = rest[..equals].trim();
        let name = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(name, str::trim);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
            return Err(error("the name before = has other characters than letters, digits, _, - and ."));
        }
        if found.iter().any(|(known, _)| known == name) {
            return Err(error("the name stands twice"));
        }
        let (value, used) = value(&rest[equals + 1..]).map_err(error)?;
        found.push((name.to_owned(), value));
        let used = equals + 1 + used;
        line += rest[..used].matches('\n').count();
        rest = &rest[used..];
    }
    Ok(found)
}

/// The value at the start of a text, and how many bytes it takes with its line end.
fn value(text: &str) -> Result<(Secret, usize), &'static str> {
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    let line = |from: usize| text[from..].find('\n').map_or(text.len(), |at| from + at + 1);
    let Some(quote) = text[blank..].chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = line(blank);
        let raw = &text[blank..end];
        // A # begins a comment only after a blank: passwords have them inside.
        let comment = raw.find(" #").or_else(|| raw.find("\t#")).or_else(|| raw.starts_with('#').then_some(0));
        return Ok((Secret::new(raw[..comment.unwrap_or(raw.len())].trim()), end));
    };
    let inner = &text[blank + 1..];
    let mut value = Zeroizing::new(String::with_capacity(inner.len()));
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            c if c == quote => {
                let after = blank + 1 + at + 1;
                let end = line(after);
                let rest = text[after..end].trim();
                if !rest.is_empty() && !rest.starts_with('#') {
                    return Err("there is something behind the closing quote");
                }
                return Ok((Secret::new(std::mem::take(&mut *value)), end));
            }
            '\\' if quote == '"' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let found = dotenv(text).expect("reads");
        let text = |secret: Secret| String::from_utf8(secret.expose().to_vec()).expect("text");
        found.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    #[test]
    fn values_as_people_write_them() {
        let table = [
            ("A=b", "b"),
            ("A = b  ", "b"),
            ("export A=b", "b"),
            ("A=", ""),
            ("A=b=c==", "b=c=="),
            ("A=pass#word", "pass#word"),
            ("A=b # comment", "b"),
            ("A=# comment", ""),
            ("A='b # $c \\n'  # comment", "b # $c \\n"),
            ("A=\"b \\\"c\\\" \\n\\\\ \\$d \\x\"", "b \"c\" \n\\ $d \\x"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("\u{feff}# c\n\n  A=b\r\n", "b"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), [("A".to_owned(), expected.to_owned())], "{text:?}");
        }
        assert_eq!(read("A='x\ny'\nB=2\n").len(), 2);
    }

    #[test]
    fn what_is_no_assignment_is_told_by_line_only() {
        let table =
            [("hunter2", 1), ("A=1\nB C=2", 2), ("A=1\n\nA=2", 3), ("A='x", 1), ("A=\"x\"y", 1), ("A=\"1\n2\"\n=x", 3)];
        for (text, line) in table {
            let refused = dotenv(text).expect_err("refused");
            assert_eq!(refused.line, line, "{text:?}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }
}
