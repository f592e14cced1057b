//! In a member cluster (mode `Relay`, D-02): nothing listens. The egress dials its hub, proves its cluster's key, and leases
//! what is addressed to its cluster.
//!
//! A change of the keys or of the hub's address begins another session; the one before is drained beside it, so that an exchange
//! of keys ends no attempt (T-06).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zen_deliver::{Resolve, SystemResolver};
use zen_identity::Component;
use zen_link::proof::prove;
use zen_link::{Claim, Dialer, EgressSession, Target};
use zen_model::Secret;
use zen_pki::{Identity, Scope, SpiffeId};
use zen_pod::keys::Member;
use zen_verify::zen_signature::Keys;

use crate::{Egress, Link};

/// What this cluster is at its hub, as it is now.
pub type Following = watch::Receiver<Arc<Member>>;

/// Sessions with the hub.
pub struct Relay {
    /// What takes the leases.
    pub egress: Arc<Egress>,
    /// Of this egress.
    pub identity: Identity,
    /// Finds the hub's addresses, anew for each attempt.
    pub resolver: Arc<dyn Resolve>,
    /// Timings of the sessions.
    pub options: zen_link::Options,
    /// Counts sessions and dials.
    pub metrics: zen_link::Metrics,
}

impl Relay {
    /// With the resolver of the system.
    pub fn new(egress: Arc<Egress>, identity: Identity, metrics: zen_link::Metrics) -> Self {
        let resolver = Arc::new(SystemResolver::searching());
        Self { egress, identity, resolver, options: zen_link::Options::default(), metrics }
    }

    /// Keeps a session with the hub until `shutdown`, drains, and returns.
    pub async fn follow(self, mut member: Following, shutdown: CancellationToken) -> Result<(), zen_pki::Error> {
        let domain = self.identity.id().trust_domain();
        let hub = move |peer: &SpiffeId| peer.is_in(&domain) && is_ingester_of_hub(peer);
        let tls = zen_pki::mtls_client_by(&self.identity, Arc::new(hub))?;
        let mut sessions = JoinSet::new();
        let mut current: Option<(Dialling, CancellationToken)> = None;
        let mut known = true;
        loop {
            let now = Dialling::of(&member.borrow_and_update());
            if current.as_ref().map(|(dialling, _)| dialling) != now.as_ref() {
                if let Some((_, retired)) = current.take() {
                    retired.cancel();
                }
                if let Some(dialling) = now {
                    tracing::info!(relay = dialling.relay, key = dialling.keys[0].0, "leasing at the hub");
                    let end = shutdown.child_token();
                    let dialer = self.dialer(&dialling, Arc::clone(&tls));
                    sessions.spawn(keep(Arc::clone(&self.egress), dialer, dialling.clone(), end.clone()));
                    current = Some((dialling, end));
                } else {
                    tracing::warn!("the hub takes no streams: nothing is leased");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = member.changed(), if known => known = changed.is_ok(),
                Some(_) = sessions.join_next() => {}
            }
        }
        while sessions.join_next().await.is_some() {}
        Ok(())
    }

    fn dialer(&self, dialling: &Dialling, tls: Arc<rustls::ClientConfig>) -> Dialer<zen_link::Egress> {
        let resolver = Arc::clone(&self.resolver);
        let target = Target::with_resolver(dialling.relay.clone(), move |name| {
            let resolver = Arc::clone(&resolver);
            async move { addresses(&*resolver, &name).await }
        });
        let (keys, tries) = (dialling.keys.clone(), Arc::clone(&dialling.tries));
        let claim = Claim::Proven(Arc::new(move |instance, binding| {
            // A hub may know of the newest version a moment later than its members: then one before it still counts.
            let (id, key) = &keys[tries.fetch_add(1, Ordering::Relaxed) % keys.len()];
            prove(id, key, instance, binding)
        }));
        let side = zen_link::Egress { claim, ..self.egress.side() };
        Dialer::new(target, tls, side, self.metrics.clone()).with_options(self.options.clone())
    }
}

/// What decides how the hub is dialled.
#[derive(Clone)]
struct Dialling {
    relay: String,
    /// Link keys, each with its id, the newest first.
    keys: Vec<(String, Secret)>,
    tries: Arc<AtomicUsize>,
}

impl Dialling {
    fn of(member: &Member) -> Option<Self> {
        let keys: Vec<_> = member.keys.iter().map(|key| (key.id().to_owned(), key.link())).collect();
        let relay = member.relay.clone().filter(|_| !keys.is_empty())?;
        Some(Self { relay, keys, tries: Arc::default() })
    }

    /// The ring of the key that a session has proven: no other signs its leases.
    fn ring(&self, proof: &str) -> Option<Keys> {
        let id = zen_link::proof::Proof::parse(proof)?.key_id;
        let key = self.keys.iter().find(|(own, _)| own == id)?;
        Keys::new(vec![key.clone()]).ok()
    }
}

/// A version that is no longer accepted makes no difference to the session of a newer one.
impl PartialEq for Dialling {
    fn eq(&self, other: &Self) -> bool {
        self.relay == other.relay && self.keys[0] == other.keys[0]
    }
}

impl fmt::Debug for Dialling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialling").field("relay", &self.relay).finish_non_exhaustive()
    }
}

async fn keep(egress: Arc<Egress>, dialer: Dialer<zen_link::Egress>, dialling: Dialling, end: CancellationToken) {
    let on_session = |session: EgressSession| {
        dialling.tries.store(0, Ordering::Relaxed);
        let ring = dialling.ring(&session.hello.proof).map(Arc::new);
        let (egress, end) = (Arc::clone(&egress), end.clone());
        async move {
            let Some(keys) = ring else { return };
            egress.run(Link { keys: Some(keys), ..Link::from(session) }, end).await;
        }
    };
    dialer.keep_connected_until(end.cancelled(), on_session).await;
}

/// In whatever namespace the hub is installed: its issuing CA vouches for the hub's workloads alone.
fn is_ingester_of_hub(peer: &SpiffeId) -> bool {
    Scope::of(peer)
        .is_some_and(|workload| workload.scope == Scope::Hub && workload.account == Component::Ingester.account())
}

/// In another order each time: several addresses are several ingesters, or several ways to them.
async fn addresses(resolver: &dyn Resolve, name: &str) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let unusable = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the hub's relay is not host:port");
    let (host, port) = name.rsplit_once(':').ok_or_else(unusable)?;
    let port = port.parse().map_err(|_| unusable())?;
    let found = resolver.resolve(host).await.map_err(|fault| std::io::Error::other(fault.words()))?;
    let mut found: Vec<_> = found.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    fastrand::shuffle(&mut found);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zen_deliver::StaticResolver;
    use zen_seal::cluster::ClusterKey;

    use super::*;

    fn member(relay: Option<&str>, versions: &[u32]) -> Member {
        let cluster: zen_model::ClusterId = "team-a/eu".parse().expect("a cluster");
        let secret = |version| Secret::new([u8::try_from(version).expect("small"); 32]);
        let key = |version: &u32| ClusterKey::given(&secret(*version), &cluster, *version).expect("32 bytes");
        Member { keys: versions.iter().map(key).collect(), relay: relay.map(str::to_owned), cluster }
    }

    #[test]
    fn what_begins_another_session() {
        let of = |relay, versions: &[u32]| Dialling::of(&member(relay, versions));
        let now = of(Some("hub:1"), &[2, 1]);
        assert_eq!(now, of(Some("hub:1"), &[2]), "the end of an overlap");
        assert_ne!(now, of(Some("hub:1"), &[3, 2]), "a new version");
        assert_ne!(now, of(Some("hub:2"), &[2, 1]), "another address");
        assert_eq!(of(None, &[1]), None, "the hub takes no streams");
    }

    /// T-06: leases of a session are signed with the version that it proved and no other.
    #[test]
    fn a_session_has_the_ring_of_its_proof() {
        let dialling = Dialling::of(&member(Some("hub:1"), &[2, 1])).expect("dialled");
        let binding = zen_link::proof::Binding::new([1; 32]);
        for (id, key) in &dialling.keys {
            let ring = dialling.ring(&prove(id, key, "e", &binding)).expect("a ring");
            assert_eq!(format!("{ring:?}"), format!("Keys[{id:?}]"));
        }
        assert!(dialling.ring(&prove("other-1", &Secret::new([1; 32]), "e", &binding)).is_none());
    }

    #[test]
    fn the_hub_is_its_ingester_wherever_it_is_installed() {
        let is = |id: &str| is_ingester_of_hub(&id.parse().expect("an id"));
        assert!(is("spiffe://m.local/ns/anywhere/sa/zen-ingester"));
        for other in ["ns/n/sa/zen-egress", "tenant/a/cluster/b/ns/n/sa/zen-ingester", "ns/n/sa/zen-ingester/x"] {
            assert!(!is(&format!("spiffe://m.local/{other}")), "{other}");
        }
    }

    #[tokio::test]
    async fn a_relay_is_an_address_or_a_name_with_a_port() {
        let table = HashMap::from([("hub.example".to_owned(), vec!["10.0.0.1".parse().expect("an address")])]);
        let resolver = StaticResolver(table);
        let of = async |name| addresses(&resolver, name).await.map_err(|error| error.kind());
        assert_eq!(of("hub.example:443").await, Ok(vec!["10.0.0.1:443".parse().expect("an address")]));
        assert_eq!(of("[::1]:443").await, Ok(vec!["[::1]:443".parse().expect("an address")]));
        assert_eq!(of("hub.example").await, Err(std::io::ErrorKind::InvalidInput));
        assert!(of("other.example:443").await.is_err());
    }
}
