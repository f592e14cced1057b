//! The identity service over HTTPS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use zen_deliver::Resolve;
use zen_model::Timestamp;
use zen_pki::{Identity, TrustRoots, named_client};

use super::{Answering, Error, Issuer, Options};
use crate::endpoint::{self, Endpoint};
use crate::exchange;
use crate::token::authorization;
use crate::wire::{CERTIFICATES, Certificate, CertificateRequest, IDENTITY, Refused, Who};

/// A request with its TokenReview.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is a chain and a trust bundle.
const MAX_BODY: usize = 256 << 10;
/// A certificate that ends sooner is not presented: an expired one would refuse the connection that renews it.
const MARGIN: Duration = Duration::from_mins(1);

/// Speaks to the service; each request is a connection of its own, with the token and the trust bundle of that moment.
#[derive(Debug)]
pub struct Remote {
    endpoint: Endpoint,
    token: PathBuf,
    roots: PathBuf,
}

impl Remote {
    /// Resolves as the pod does.
    pub fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self::at(Endpoint::new(&options.url)?, options))
    }

    /// Resolves otherwise, for tests.
    pub fn with_resolver(options: &Options, resolver: Arc<dyn Resolve>) -> Result<Self, Error> {
        Ok(Self::at(Endpoint::with_resolver(&options.url, resolver)?, options))
    }

    fn at(endpoint: Endpoint, options: &Options) -> Self {
        Self { endpoint, token: options.token.clone(), roots: options.roots.clone() }
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
            .header(HOST, self.endpoint.host())
            .header(AUTHORIZATION, self.authorization()?);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body.unwrap_or_default());
        let request = request.body(body).map_err(|error| Error::Url(error.to_string()))?;
        let roots = TrustRoots::from_pem(&read(&self.roots)?)?;
        let tls = named_client(&roots, identity)?;
        let response = self.endpoint.send(&tls, &request, TIMEOUT, MAX_BODY).await?;
        if response.status().is_success() {
            return serde_json::from_slice(response.body()).map_err(|error| Error::Answer(error.to_string()));
        }
        let refused = serde_json::from_slice::<Refused>(response.body());
        Err(refused.map_or_else(|_| Error::Answer(response.status().to_string()), Error::Refused))
    }

    fn authorization(&self) -> Result<HeaderValue, Error> {
        authorization(&self.token).map_err(|source| Error::File { path: self.token.clone(), source })
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

impl From<endpoint::Error> for Error {
    fn from(error: endpoint::Error) -> Self {
        match error {
            endpoint::Error::Url { .. } => Self::Url(error.to_string()),
            endpoint::Error::Resolve { host, fault } => Self::Resolve { host, fault },
            endpoint::Error::Exchange(error) => Self::Exchange(error),
            endpoint::Error::Nobody => Self::Answer(error.to_string()),
        }
    }
}
