//! Which headers may be kept, forwarded and set (D-08).

use http::{HeaderName, HeaderValue};

/// Received headers that every target gets beside the CloudEvents ones: they say how to read the body and which trace
/// it belongs to.
pub const SAFE_HEADERS: [&str; 3] = ["content-encoding", "content-language", "tracestate"];

/// Hop-by-hop (RFC 9110, 7.6.1) and connection framing: never kept, never set.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Credentials of the source: never passed on, whatever is listed.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "set-cookie"];

/// Headers that a delivery makes itself.
const OWN: [&str; 7] =
    ["content-type", "traceparent", "user-agent", "x-request-id", "x-zen-signature", "expect", "accept-encoding"];

/// Whether it is hop-by-hop or connection framing.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// A received header that may be forwarded; else why not.
pub fn forwardable(name: &str) -> Result<HeaderName, String> {
    let name = parse(name)?;
    let text = name.as_str();
    if CREDENTIALS.contains(&text) {
        return Err(format!("{text} holds credentials of the source and is never passed on; remove it"));
    }
    if is_hop_by_hop(text) {
        return Err(format!("{text} belongs to one connection and is never passed on; remove it"));
    }
    if is_own(text) {
        return Err(format!("{text} is written by the mesh itself; remove it"));
    }
    Ok(name)
}

/// A header that may be set to a constant; else why not.
pub fn settable(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = parse(name)?;
    let text = name.as_str();
    if CREDENTIALS.contains(&text) {
        return Err(format!("{text} is a credential and belongs into a Secret; use authentication instead"));
    }
    if is_hop_by_hop(text) {
        return Err(format!("{text} belongs to the connection and cannot be set; remove it"));
    }
    if is_own(text) {
        return Err(format!("{text} is written by the mesh itself and cannot be set; remove it"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| format!("the value of {text} holds a character that no header may hold, such as a line break"))?;
    Ok((name, value))
}

/// A name that credentials may be sent under.
pub fn credential(name: &str) -> Result<HeaderName, String> {
    let name = parse(name)?;
    let text = name.as_str();
    if is_hop_by_hop(text) || is_own(text) || text == "set-cookie" {
        return Err(format!("{text} cannot carry credentials; choose another header"));
    }
    Ok(name)
}

fn is_own(name: &str) -> bool {
    OWN.contains(&name) || name.starts_with("ce-") || name.starts_with("webhook-")
}

fn parse(name: &str) -> Result<HeaderName, String> {
    // `http` takes lower case and capitals alike, and refuses everything that RFC 9110 does not call a token.
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not the name of a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(SAFE_HEADERS.iter().all(|name| forwardable(name).is_ok()));
        assert_eq!(forwardable("X-GitHub-Event").expect("allowed"), "x-github-event");
        for name in
            ["Authorization", "cookie", "Connection", "Host", "content-length", "ce-id", "webhook-id", "a b", ""]
        {
            assert!(forwardable(name).is_err(), "{name}");
            assert!(settable(name, "x").is_err(), "{name}");
        }
        assert!(settable("X-Env", "prod").is_ok());
        assert!(settable("X-Env", "a\r\nb").is_err());
        assert!(settable("X-Zen-Signature", "a").is_err());
        assert!(credential("Authorization").is_ok() && credential("X-Api-Key").is_ok());
        assert!(credential("Host").is_err());
    }
}
