//! Names → addresses, by ourselves (D-07): what is checked is what is connected to.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::{DnsError, NetError};
use zen_model::Fault;

/// Boxed: resolving happens once for many deliveries.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Fault>> + Send + 'a>>;

/// Finds the addresses of a host name.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// Every address, IPv4 and IPv6; `NameNotFound` when there is none, `ResolverFailed` when nobody could be asked.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// `localhost` and everything below it is loopback and never asked for (RFC 6761, 6.3).
pub(crate) fn localhost(host: &str) -> Option<[IpAddr; 2]> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = host.rsplit('.').next().unwrap_or(host);
    label
        .eq_ignore_ascii_case("localhost")
        .then_some([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}

/// The resolver of `/etc/resolv.conf` and `/etc/hosts`, read again when one of them changes. Names are absolute: the search
/// list of a pod would ask the cluster for public names first, and let a Service shadow them.
#[derive(Default)]
pub struct SystemResolver {
    current: Mutex<Option<Current>>,
    search: bool,
}

#[derive(Clone)]
struct Current {
    stamp: [Option<SystemTime>; 2],
    resolver: TokioResolver,
}

impl SystemResolver {
    /// Reads the configuration at the first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// For names of the cluster such as `zen-operator.zen-mesh.svc`, which the search list completes; never for targets.
    pub fn searching() -> Self {
        Self { search: true, ..Self::default() }
    }

    fn current(&self) -> Result<TokioResolver, Fault> {
        let stamp = ["/etc/resolv.conf", "/etc/hosts"]
            .map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref().filter(|current| current.stamp == stamp) {
            return Ok(current.resolver.clone());
        }
        let resolver = build().map_err(|error| {
            tracing::warn!(%error, "failed to read the resolver configuration");
            Fault::ResolverFailed
        })?;
        *current = Some(Current { stamp, resolver: resolver.clone() });
        Ok(resolver)
    }
}

fn build() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 1024;
    options.negative_max_ttl = Some(Duration::from_secs(10));
    options.positive_max_ttl = Some(Duration::from_mins(5));
    builder.build()
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let name = if self.search || host.ends_with('.') { host.to_owned() } else { format!("{host}.") };
            let found = self.current()?.lookup_ip(name).await.map_err(|error| fault(&error))?;
            let addresses: Vec<_> = found.iter().collect();
            if addresses.is_empty() { Err(Fault::NameNotFound) } else { Ok(addresses) }
        })
    }
}

/// A name server that answers, whatever it says, is charged to the name: the breaker then holds the events. One that
/// cannot be reached is our own side.
fn fault(error: &NetError) -> Fault {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_) | DnsError::ResponseCode(_)) | NetError::Proto(_) => {
            Fault::NameNotFound
        }
        _ => Fault::ResolverFailed,
    }
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemResolver")
    }
}

/// A fixed table, for tests and for targets that are known beforehand.
#[derive(Clone, Debug, Default)]
pub struct StaticResolver(pub HashMap<String, Vec<IpAddr>>);

impl Resolve for StaticResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move { self.0.get(host).cloned().ok_or(Fault::NameNotFound) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_never_asked_for() {
        for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost"] {
            assert!(localhost(name).is_some(), "{name}");
        }
        for name in ["localhost.example.com", "notlocalhost", ""] {
            assert!(localhost(name).is_none(), "{name}");
        }
    }
}
