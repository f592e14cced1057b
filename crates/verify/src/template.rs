//! Templates of signed content: literal text and `{timestamp}`, `{body}`, `{url}`, `{header:NAME}`. `{{` and `}}` are
//! braces. The presets' templates and `generic.signedContent` are the same language; `{form}` is for presets only.

use http::HeaderName;

/// A piece of the signed content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Text(Box<[u8]>),
    /// The timestamp exactly as the request writes it.
    Timestamp,
    /// The body.
    Body,
    /// The URL that the source called.
    Url,
    /// A header's value; the header must be there exactly once.
    Header(HeaderName),
    /// Twilio's rule: form fields sorted, or nothing when the URL carries the body's hash.
    Form,
}

/// Why a template is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A brace without its partner.
    #[error("a brace is not closed; write {{{{ and }}}} for braces that are meant as such")]
    Unbalanced,
    /// A placeholder that does not exist.
    #[error("there is no placeholder {{{0}}}; there are {{timestamp}}, {{body}}, {{url}} and {{header:NAME}}")]
    Unknown(String),
    /// A placeholder that is part of the API but not built.
    #[error("the placeholder {{nonce}} is not built in this release")]
    Nonce,
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    Header(String),
}

/// Parses a template. Never panics, whatever the text.
pub fn parse(template: &str) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let close = rest.find('}').filter(|_| brace == "{").ok_or(Error::Unbalanced)?;
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text).into_bytes().into()));
        }
        parts.push(placeholder(&rest[..close])?);
        rest = &rest[close + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text.into_bytes().into()));
    }
    Ok(parts)
}

fn placeholder(name: &str) -> Result<Part, Error> {
    match name {
        "timestamp" => Ok(Part::Timestamp),
        "body" => Ok(Part::Body),
        "url" => Ok(Part::Url),
        "form" => Ok(Part::Form),
        "nonce" => Err(Error::Nonce),
        _ => match name.strip_prefix("header:") {
            Some(header) => {
                HeaderName::try_from(header).map(Part::Header).map_err(|_| Error::Header(header.to_owned()))
            }
            None => Err(Error::Unknown(name.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.as_bytes().into())
    }

    #[test]
    fn placeholders_and_text() {
        let header = Part::Header(HeaderName::from_static("x-id"));
        for (template, parts) in [
            ("{body}", vec![Part::Body]),
            ("v0:{timestamp}:{body}", vec![text("v0:"), Part::Timestamp, text(":"), Part::Body]),
            ("{header:X-Id}.{url}", vec![header, text("."), Part::Url]),
            ("{{{body}}}", vec![text("{"), Part::Body, text("}")]),
            ("ä{{}}", vec![text("ä{}")]),
            ("", vec![]),
        ] {
            assert_eq!(parse(template), Ok(parts), "{template}");
        }
    }

    #[test]
    fn what_is_not_a_template() {
        for (template, error) in [
            ("{body", Error::Unbalanced),
            ("body}", Error::Unbalanced),
            ("{", Error::Unbalanced),
            ("{nonce}", Error::Nonce),
            ("{Body}", Error::Unknown("Body".into())),
            ("{header:a b}", Error::Header("a b".into())),
        ] {
            assert_eq!(parse(template), Err(error), "{template}");
        }
    }
}
