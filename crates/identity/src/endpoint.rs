//! An HTTPS server that is known by its name, such as `https://zen-operator.zen-mesh.svc`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use url::Url;
use zen_deliver::{Resolve, SystemResolver};
use zen_model::Fault;

use crate::exchange::{self, Connection};

/// Where requests go.
pub struct Endpoint {
    host: String,
    port: u16,
    name: ServerName<'static>,
    resolver: Arc<dyn Resolve>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("{url}: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has no address.
    #[error("failed to resolve {host}: {}", .fault.words())]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        fault: Fault,
    },
    /// Nobody answers as it should be.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
    /// The name has no address at all.
    #[error("nobody was asked")]
    Nobody,
}

impl Endpoint {
    /// `https://<host>[:<port>]`. Names are resolved as the pod does, with the search list of the cluster:
    /// `<service>.<namespace>.svc` is not a whole name.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_resolver(url, Arc::new(SystemResolver::searching()))
    }

    /// Resolves otherwise, for tests.
    pub fn with_resolver(url: &str, resolver: Arc<dyn Resolve>) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Url { url: url.to_owned(), reason: reason.to_owned() };
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "https" || !parsed.username().is_empty() || !matches!(parsed.path(), "" | "/") {
            return Err(wrong("it is not https://<host>[:<port>]"));
        }
        let host = parsed.host_str().ok_or_else(|| wrong("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|error| wrong(&error.to_string()))?;
        let port = parsed.port_or_known_default().unwrap_or(443);
        Ok(Self { host, port, name, resolver })
    }

    /// For the header `Host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request to the first of the addresses that can be connected to, and reads the whole answer.
    pub async fn send(
        &self,
        tls: &Arc<ClientConfig>,
        request: &Request<Full<Bytes>>,
        timeout: Duration,
        max_body: usize,
    ) -> Result<Response<Bytes>, Error> {
        self.send_over(&mut None, tls, request, timeout, max_body).await
    }

    /// As [`Self::send`], over the connection that the request before it left in `kept`. A peer may end that one at any time; the
    /// request is sent again over another then, so it must be one that may arrive twice.
    pub async fn send_over(
        &self,
        kept: &mut Option<Connection>,
        tls: &Arc<ClientConfig>,
        request: &Request<Full<Bytes>>,
        timeout: Duration,
        max_body: usize,
    ) -> Result<Response<Bytes>, Error> {
        let whole = async {
            if let Some(mut connection) = kept.take()
                && let Ok(response) = connection.send(request.clone(), max_body).await
            {
                return Ok::<_, Error>((connection, response));
            }
            let mut connection = self.connect(tls, timeout).await?;
            let response = connection.send(request.clone(), max_body).await?;
            Ok((connection, response))
        };
        let exchanged = tokio::time::timeout(timeout, whole).await;
        let (connection, response) = exchanged.map_err(|_| exchange::Error::Timeout(timeout))??;
        *kept = Some(connection);
        Ok(response)
    }

    async fn connect(&self, tls: &Arc<ClientConfig>, timeout: Duration) -> Result<Connection, Error> {
        let mut last = None;
        for address in self.addresses().await? {
            let address = SocketAddr::new(address, self.port);
            match Connection::open(address, self.name.clone(), Arc::clone(tls), timeout).await {
                Err(error @ exchange::Error::Connect { .. }) => last = Some(error),
                other => return Ok(other?),
            }
        }
        Err(last.map_or(Error::Nobody, Error::Exchange))
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        self.resolver.resolve(&self.host).await.map_err(|fault| Error::Resolve { host: self.host.clone(), fault })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
