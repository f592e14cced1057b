//! What the engine looks at, and the one rule by which it reads headers.

use std::fmt;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderValue};

/// A request as the engine sees it. Nothing here is copied.
pub struct Request<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// `Host` (or `:authority`) as received, with its port if it had one. `https://HOST` + `path_and_query` is what
    /// schemes that sign the URL are checked against, unless `publicUrl` is set.
    pub host: &'a str,
    /// Path and query exactly as received.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// Neither values of headers nor query nor payload.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Request")
            .field("method", self.method)
            .field("headers", &names)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The value of a header that must be there exactly once. Two fields of one name are refused: which of them a
/// provider's own code, a proxy and we would take is not certain to be the same.
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
