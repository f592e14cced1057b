//! What the head of a request says, checked where hyper leaves something to check (RFC 9112, sections 3.2 and 6.3).

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Version};
use zen_compile::Webhook;
use zen_model::Refusal;

use super::cloudevent;
use crate::limits::Limits;

/// A head that is well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    /// Host as received, port included; empty where HTTP/1.0 sent none.
    pub(crate) host: &'a str,
    /// Path, undecoded.
    pub(crate) path: &'a str,
    /// Path and query as received.
    pub(crate) path_and_query: &'a str,
    /// `Content-Type` as received; empty where there is none.
    pub(crate) content_type: &'a str,
}

impl<'a> Head<'a> {
    /// Reads and checks it.
    pub(crate) fn read(parts: &'a Parts, limits: &Limits) -> Result<Self, Refusal> {
        let headers = &parts.headers;
        if parts.version >= Version::HTTP_2 {
            // On HTTP/1 hyper has counted already.
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
            if headers.len() > limits.header_fields || bytes > limits.header_bytes {
                return Err(Refusal::HeadersTooLarge);
            }
        }
        if differing_lengths(headers) {
            return Err(Refusal::BadRequest);
        }
        let content_type = match headers.get(CONTENT_TYPE) {
            Some(value) => value.to_str().map_err(|_| Refusal::BadRequest)?.trim(),
            None => "",
        };
        Ok(Self {
            host: host(parts)?,
            path: parts.uri.path(),
            path_and_query: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            content_type,
        })
    }

    /// The host as Webhooks name it: without port, in lower case.
    pub(crate) fn lookup_host(&self) -> Cow<'a, str> {
        let host = without_port(self.host);
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// `type/subtype` without parameters.
    pub(crate) fn media_type(&self) -> &'a str {
        self.content_type.split(';').next().unwrap_or_default().trim_end()
    }

    /// Whether the Webhook takes this content type. A `CloudEvent` in structured mode is JSON to who takes JSON.
    pub(crate) fn check_content_type(&self, webhook: &Webhook) -> Result<(), Refusal> {
        let media_type = self.media_type();
        let takes = |wanted: &str| webhook.content_types.iter().any(|listed| listed.eq_ignore_ascii_case(wanted));
        let welcome = webhook.content_types.is_empty()
            || takes(media_type)
            || cloudevent::is_structured(media_type) && cloudevent::is_read(webhook) && takes("application/json");
        if welcome { Ok(()) } else { Err(Refusal::UnsupportedMediaType) }
    }
}

/// Authority of an absolute-form target or of HTTP/2 before `Host`; exactly one `Host` on HTTP/1.1.
fn host(parts: &Parts) -> Result<&str, Refusal> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let (first, second) = (fields.next(), fields.next());
    if second.is_some() || (first.is_none() && parts.version == Version::HTTP_11) {
        return Err(Refusal::BadRequest);
    }
    let host = match (parts.uri.authority(), first) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(field)) => field.to_str().map_err(|_| Refusal::BadRequest)?,
        (None, None) => "",
    };
    if is_host(host) { Ok(host) } else { Err(Refusal::BadRequest) }
}

/// Only what a host and port can be made of: the URL that a provider signed is rebuilt from it.
fn is_host(host: &str) -> bool {
    host.len() <= 261
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => {
            // `[::1]` has colons and no port.
            if name.starts_with('[') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

fn differing_lengths(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return false };
    lengths.any(|length| length != first)
}

/// Whether nothing more may be read from this HTTP/1 connection: a request with `Transfer-Encoding` and `Content-Length`
/// may have been cut differently by a proxy before us (RFC 9112, 6.3). hyper lets chunked win and hides a length that
/// comes second, so `length_seen` says whether one was ever on the wire; a wrong yes costs a connection, no more.
pub(crate) fn closes_after(headers: &HeaderMap, length_seen: bool) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && (length_seen || headers.contains_key(CONTENT_LENGTH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_are_removed() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("[::1]:8443", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:", "a"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn hosts_hold_nothing_that_changes_a_url() {
        for bad in ["a b", "user@host", "a/b", "a?b", "a#b", "a\\b", "a%2f"] {
            assert!(!is_host(bad), "{bad}");
        }
        assert!(is_host("hooks.example.com:443") && is_host("[::1]:1"));
    }

    fn parts(build: http::request::Builder) -> Parts {
        build.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn one_host_and_one_length() {
        let limits = Limits::default();
        let read = |parts: &Parts| Head::read(parts, &limits).map(|head| head.host.to_owned());
        let plain = http::Request::builder().uri("/x").header("host", "a:1");
        assert_eq!(read(&parts(plain)), Ok("a:1".into()));
        let absolute = http::Request::builder().uri("https://b/x").header("host", "a");
        assert_eq!(read(&parts(absolute)), Ok("b".into()), "the target names the host (RFC 9112, 3.2.2)");
        for bad in [
            http::Request::builder().uri("/x"),
            http::Request::builder().uri("/x").header("host", "a").header("host", "a"),
            http::Request::builder().uri("/x").header("host", "a b"),
            http::Request::builder()
                .uri("/x")
                .header("host", "a")
                .header("content-length", "1")
                .header("content-length", "2"),
        ] {
            assert_eq!(read(&parts(bad)), Err(Refusal::BadRequest));
        }
        let old = http::Request::builder().uri("/x").version(Version::HTTP_10);
        assert_eq!(read(&parts(old)), Ok(String::new()));
    }

    proptest! {
        /// A host that passes can be put into a URL and means the same there.
        #[test]
        fn a_host_that_passes_is_the_host_of_its_url(host in "[ -~]{0,20}") {
            if is_host(&host) && let Ok(url) = http::Uri::try_from(format!("https://{host}/p?q")) {
                prop_assert_eq!(url.authority().map(http::uri::Authority::as_str), Some(host.as_str()));
                prop_assert_eq!(url.path(), "/p");
            }
            let _ = without_port(&host);
        }
    }
}
