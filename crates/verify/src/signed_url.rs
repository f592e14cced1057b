//! The URL that a source called, in pieces, so that it can be signed without being put together.

use crate::{ConfigError, Request};

/// `publicUrl`, checked when the configuration is compiled.
#[derive(Clone, Debug)]
pub(crate) struct PublicUrl {
    text: Box<str>,
}

impl PublicUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let error = |message: &str| Err(ConfigError::invalid("publicUrl", message));
        let Some(authority) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return error("must begin with https:// or http://");
        };
        if authority.is_empty() || authority.starts_with(['/', '?', ':']) {
            return error("has no host");
        }
        if text.contains('#') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return error("must be a URL without fragment and white space");
        }
        Ok(Self { text: text.into() })
    }
}

/// Whether the port is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// As it is.
    AsIs,
    /// Never.
    Without,
    /// Always, the scheme's own one where there is none.
    With,
}

/// A URL in the pieces that schemes disagree about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedUrl<'a> {
    scheme: &'a str,
    host: &'a str,
    port: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> SignedUrl<'a> {
    pub(crate) fn of(request: &Request<'a>, public: Option<&'a PublicUrl>) -> Self {
        let (path, query) = split_query(request.path_and_query);
        match public {
            None => Self::from_pieces("https://", request.host, path, query),
            Some(public) => {
                let url = Self::parse(&public.text);
                Self { query: if query.is_empty() { url.query } else { query }, ..url }
            }
        }
    }

    /// Splits an absolute URL. Total: what has no scheme is all path.
    pub(crate) fn parse(url: &'a str) -> Self {
        let (base, query) = split_query(url);
        let after_scheme = base.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = base.split_at(after_scheme);
        let authority = if scheme.is_empty() { 0 } else { rest.find('/').unwrap_or(rest.len()) };
        let (authority, path) = rest.split_at(authority);
        Self::from_pieces(scheme, authority, path, query)
    }

    fn from_pieces(scheme: &'a str, authority: &'a str, path: &'a str, query: &'a str) -> Self {
        // A colon begins the port only after the bracket of an IPv6 address.
        let address_end = authority.rfind(']').map_or(0, |at| at + 1);
        let host_end = authority[address_end..].rfind(':').map_or(authority.len(), |at| address_end + at);
        let (host, port) = authority.split_at(host_end);
        Self { scheme, host, port, path, query }
    }

    /// The query with its question mark, or nothing.
    pub(crate) fn query(&self) -> &'a str {
        self.query
    }

    /// The URL in pieces, to be read one after another.
    pub(crate) fn pieces(&self, port: Port) -> [&'a str; 5] {
        let default = if self.scheme == "http://" { ":80" } else { ":443" };
        let port = match port {
            Port::Without => "",
            Port::With if self.port.is_empty() => default,
            Port::AsIs | Port::With => self.port,
        };
        [self.scheme, self.host, port, self.path, self.query]
    }

    /// Path and query, as they stand in a request line.
    pub(crate) fn path_and_query(&self) -> String {
        format!("{}{}", if self.path.is_empty() { "/" } else { self.path }, self.query)
    }

    /// Host and port, as in `Host`.
    pub(crate) fn authority(&self) -> String {
        format!("{}{}", self.host, self.port)
    }
}

fn split_query(url: &str) -> (&str, &str) {
    url.split_at(url.find('?').unwrap_or(url.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, path_and_query: &str, public: Option<&str>, port: Port) -> String {
        let public = public.map(|text| PublicUrl::parse(text).unwrap());
        let headers = http::HeaderMap::new();
        let request = Request { method: &http::Method::POST, host, path_and_query, headers: &headers, body: b"" };
        SignedUrl::of(&request, public.as_ref()).pieces(port).concat()
    }

    #[test]
    fn received_url() {
        assert_eq!(url("h.example", "/a?b=c", None, Port::AsIs), "https://h.example/a?b=c");
        assert_eq!(url("h.example:8443", "/a", None, Port::AsIs), "https://h.example:8443/a");
        assert_eq!(url("h.example:8443", "/a", None, Port::Without), "https://h.example/a");
        assert_eq!(url("h.example", "/a", None, Port::With), "https://h.example:443/a");
        assert_eq!(url("h.example:8443", "/a", None, Port::With), "https://h.example:8443/a");
        assert_eq!(url("[::1]", "/a", None, Port::With), "https://[::1]:443/a");
        assert_eq!(url("[::1]:9", "/a", None, Port::Without), "https://[::1]/a");
    }

    #[test]
    fn public_url_takes_the_query_that_was_received() {
        let public = Some("https://p.example/x");
        assert_eq!(url("h", "/a?bodySHA256=1", public, Port::AsIs), "https://p.example/x?bodySHA256=1");
        assert_eq!(url("h", "/a", Some("http://p.example/x?q=1"), Port::With), "http://p.example:80/x?q=1");
        assert_eq!(url("h", "/a?q=2", Some("https://p.example/x?q=1"), Port::AsIs), "https://p.example/x?q=2");
    }

    #[test]
    fn bad_public_urls() {
        for text in ["", "hooks.example.com", "ftp://a", "https://", "https:///x", "https://a b", "https://a/#x"] {
            assert!(PublicUrl::parse(text).is_err(), "{text}");
        }
    }
}
