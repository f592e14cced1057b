//! The identity service over HTTPS.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use url::Url;
use zen_deliver::{Resolve, SystemResolver};
use zen_model::{Secret, Timestamp};
use zen_pki::{Identity, TrustRoots, named_client};

use super::{Answering, Error, Issuer, Options};
use crate::exchange::{self, exchange};
use crate::wire::{CERTIFICATES, Certificate, CertificateRequest, IDENTITY, Refused, Who};

/// A request with its TokenReview.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is a chain and a trust bundle.
const MAX_BODY: usize = 256 << 10;
/// A certificate that ends sooner is not presented: an expired one would refuse the connection that renews it.
const MARGIN: Duration = Duration::from_mins(1);

/// Speaks to the service; each request is a connection of its own, with the token and the trust bundle of that moment.
pub struct Remote {
    host: String,
    port: u16,
    name: ServerName<'static>,
    token: PathBuf,
    roots: PathBuf,
    resolver: Arc<dyn Resolve>,
}

impl Remote {
    /// Resolves as the pod does, with the search list of the cluster: `<service>.<namespace>.svc` is not a whole name.
    pub fn new(options: &Options) -> Result<Self, Error> {
        Self::with_resolver(options, Arc::new(SystemResolver::searching()))
    }

    /// Resolves otherwise, for tests.
    pub fn with_resolver(options: &Options, resolver: Arc<dyn Resolve>) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Url(format!("{}: {reason}", options.url));
        let url = Url::parse(&options.url).map_err(|error| wrong(&error.to_string()))?;
        if url.scheme() != "https" || !url.username().is_empty() || !matches!(url.path(), "" | "/") {
            return Err(wrong("it is not https://<host>[:<port>]"));
        }
        let host = url.host_str().ok_or_else(|| wrong("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|error| wrong(&error.to_string()))?;
        let port = url.port_or_known_default().unwrap_or(443);
        let (token, roots) = (options.token.clone(), options.roots.clone());
        Ok(Self { host, port, name, token, roots, resolver })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        identity: Option<&Identity>,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        let identity = identity.filter(|identity| Timestamp::now().plus(MARGIN) < identity.validity().until);
        let answered = self.send::<T>(identity, &method, path, body.clone()).await;
        match answered {
            // The certificate may be what the other end does not take; the token proves enough.
            Err(Error::Exchange(exchange::Error::Tls(_) | exchange::Error::Http(_))) if identity.is_some() => {
                self.send(None, &method, path, body).await
            }
            answered => answered,
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        identity: Option<&Identity>,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, self.authorization()?);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body.unwrap_or_default());
        let request = request.body(body).map_err(|error| Error::Url(error.to_string()))?;
        let roots = TrustRoots::from_pem(&read(&self.roots)?)?;
        let tls = named_client(&roots, identity)?;
        let mut last = None;
        for address in self.addresses().await? {
            let address = SocketAddr::new(address, self.port);
            let (name, tls) = (self.name.clone(), Arc::clone(&tls));
            match exchange(address, name, tls, request.clone(), TIMEOUT, MAX_BODY).await {
                Err(error @ exchange::Error::Connect { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
                Ok(response) if response.status().is_success() => {
                    return serde_json::from_slice(response.body()).map_err(|error| Error::Answer(error.to_string()));
                }
                Ok(response) => {
                    let refused = serde_json::from_slice::<Refused>(response.body());
                    return Err(refused.map_or_else(|_| Error::Answer(response.status().to_string()), Error::Refused));
                }
            }
        }
        Err(last.map_or_else(|| Error::Answer("nobody was asked".to_owned()), Error::Exchange))
    }

    fn authorization(&self) -> Result<HeaderValue, Error> {
        let token = Secret::new(read(&self.token)?);
        let mut bytes = b"Bearer ".to_vec();
        bytes.extend_from_slice(token.expose().trim_ascii());
        let value = HeaderValue::from_maybe_shared(Bytes::from(bytes));
        let mut value = value.map_err(|_| Error::Answer("the token is not one".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        self.resolver.resolve(&self.host).await.map_err(|fault| Error::Resolve { host: self.host.clone(), fault })
    }
}

/// Small files of the pod's own file system: reading them does not wait.
fn read(path: &PathBuf) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })
}

impl Issuer for Remote {
    fn who<'a>(&'a self, identity: Option<&'a Identity>) -> Answering<'a, Who> {
        Box::pin(self.ask(identity, Method::GET, IDENTITY, None))
    }

    fn certificate<'a>(
        &'a self,
        identity: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(async move {
            let body = serde_json::to_vec(request).map_err(|error| Error::Answer(error.to_string()))?;
            self.ask(identity, Method::POST, CERTIFICATES, Some(body.into())).await
        })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
