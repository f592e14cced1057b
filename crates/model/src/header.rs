//! Which headers of a source may reach a target (D-08). Names in lower case.

/// Passed on without being asked for: the body cannot be read without them, or a trace would break.
pub const SAFE_FORWARD: [&str; 3] = ["content-encoding", "content-language", "tracestate"];

/// Whether a header may be passed on or set at all: not hop-by-hop (RFC 9110, 7.6.1), no framing, no credentials, no
/// cookies, and not one that the mesh writes itself.
pub fn may_forward(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !matches!(
            name,
            "authorization"
                | "cookie"
                | "cookie2"
                | "content-length"
                | "expect"
                | "forwarded"
                | "host"
                | "set-cookie"
                | "traceparent"
                | "x-request-id"
                | "x-zen-signature"
        )
        && !name.starts_with("x-forwarded-")
        && !name.starts_with("ce-")
}

/// Whether a header speaks of one connection only.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_safe_defaults_may_be_forwarded_and_credentials_never() {
        assert!(SAFE_FORWARD.iter().all(|name| may_forward(name)));
        for name in ["authorization", "cookie", "connection", "transfer-encoding", "ce-id", "x-forwarded-for", "host"] {
            assert!(!may_forward(name), "{name}");
        }
        assert!(may_forward("x-github-event") && may_forward("webhook-id"));
    }
}
