//! What all deliveries to one revision of a Destination share, made once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use zen_compile::{Destination, Target};
use zen_model::header::{SAFE_FORWARD, may_forward};
use zen_verify::zen_signature::Keys;

use crate::pool::Pool;

/// A Destination, ready for attempts: prepared headers, keys, TLS and its pool of connections. Made anew when the
/// Destination's revision changes; the connections of the old one end with it.
pub struct Prepared {
    /// The configuration.
    pub destination: Arc<Destination>,
    pub(crate) uri: Uri,
    /// Every header that is the same for all events. Some are secret.
    pub(crate) headers: HeaderMap,
    /// Names of received headers to pass on, sorted.
    pub(crate) forward: Vec<HeaderName>,
    /// Standard Webhooks keys, newest first.
    pub(crate) signing: Vec<hmac::Key>,
    pub(crate) zen_keys: Arc<Keys>,
    pub(crate) tls: Option<Tls>,
    pub(crate) pool: Pool,
    turn: AtomicUsize,
}

pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
}

/// A Destination that cannot be prepared: the compiler let something through that it should have refused.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The path is no request target.
    #[error("failed to write the target's path as a request target")]
    Path(#[from] http::uri::InvalidUri),
    /// The host is no header value.
    #[error("failed to write the target's host as a header")]
    Host(#[from] http::header::InvalidHeaderValue),
    /// The server name is neither a DNS name nor an address.
    #[error("failed to use the server name for TLS")]
    ServerName(#[from] rustls_pki_types::InvalidDnsNameError),
    /// The target speaks TLS and no configuration for it is there.
    #[error("the target needs TLS and has no configuration for it")]
    TlsMissing,
}

impl Prepared {
    /// Prepares; `zen_keys` are those of this Destination alone (W-12).
    pub fn new(destination: Arc<Destination>, zen_keys: Arc<Keys>) -> Result<Self, PrepareError> {
        let (tls, host, port, path_and_query) = match &destination.target {
            Target::Url { tls, host, port, path_and_query }
            | Target::Service { tls, host, port, path_and_query, .. } => (*tls, host, *port, path_and_query),
        };
        let tls = if tls { Some(Tls::new(&destination)?) } else { None };
        let uri = Uri::from(path_and_query.parse::<PathAndQuery>()?);
        let mut headers = HeaderMap::with_capacity(32);
        for (name, value) in &destination.set {
            if may_forward(name.as_str()) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert(HOST, host_header(host, port, tls.is_some())?);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("zen-mesh/", env!("CARGO_PKG_VERSION"))));
        if let Some((name, value)) = &destination.authentication {
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let mut forward: Vec<_> = SAFE_FORWARD.into_iter().map(HeaderName::from_static).collect();
        forward.extend(destination.forward.iter().filter(|name| may_forward(name.as_str())).cloned());
        forward.retain(|name| !headers.contains_key(name));
        forward.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        forward.dedup();
        let signing = destination.signing.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect();
        let pool = Pool::new(destination.concurrency.max(1), destination.idempotent);
        Ok(Self { uri, headers, forward, signing, zen_keys, tls, pool, turn: AtomicUsize::new(0), destination })
    }

    /// Counts connections, so that they are spread over the addresses of a Service.
    pub(crate) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes idle connections that are too old. To be called every now and then.
    pub fn sweep(&self) {
        self.pool.sweep();
    }
}

impl Tls {
    fn new(destination: &Destination) -> Result<Self, PrepareError> {
        let config = destination.tls.as_ref().ok_or(PrepareError::TlsMissing)?;
        let name = ServerName::try_from(destination.server_name.clone())?;
        // HTTP/1.1 is what is spoken afterwards, so nothing else may be agreed on. The copy shares the session cache.
        let mut config = (**config).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

fn host_header(host: &str, port: u16, tls: bool) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let default = if tls { 443 } else { 80 };
    HeaderValue::from_str(&if port == default { host } else { format!("{host}:{port}") })
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("destination", &self.destination.key)
            .field("revision", &self.destination.revision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_names_an_unusual_port_and_brackets_ipv6() {
        let header = |host, port, tls| host_header(host, port, tls).expect("valid").to_str().expect("text").to_owned();
        assert_eq!(header("ci.test", 443, true), "ci.test");
        assert_eq!(header("ci.test", 443, false), "ci.test:443");
        assert_eq!(header("::1", 8443, true), "[::1]:8443");
        assert_eq!(header("127.0.0.1", 80, false), "127.0.0.1");
    }
}
