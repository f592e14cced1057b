//! `zen-egress` as a pod (K-04): configuration from the API server, identity from the operator, sessions of the ingesters.
//!
//! It keeps nothing: what is lost with it is leased again. On SIGTERM it tells its sessions, finishes what is in flight and
//! gives the rest back.

mod arguments;
mod member;
mod reporting;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_compile::Plane;
use zen_deliver::{Deliverer, SystemResolver};
use zen_identity::{Action, control};
use zen_model::observe::Unwatched;
use zen_model::{ClusterId, ObjectKey};
use zen_pod::audit::Beside;
use zen_pod::ground::{self, address, bind};
use zen_pod::keys::Member;
use zen_pod::{Ground, Known, Platform, Reports, Sink, keys};
use zen_runtime::{Gate, Shutdown};
use zen_verify::SigningKeys;
use zen_verify::zen_signature::Keys;

pub use arguments::Arguments;
pub use zen_pod::ground::Error;

use crate::relay::{Following, Relay};
use crate::{Egress, Options, Parts, TargetKeys};

/// Attempts in flight at the end. A pod has `drainDelay` and 30 s before it is killed; farewells take up to six.
const ATTEMPTS: Duration = Duration::from_secs(22);
/// The end of all sessions.
const SESSIONS: Duration = Duration::from_secs(28);
const LINK: &str = "link";

/// The pod, running.
pub struct Pod {
    ground: Ground,
    process: Gate,
    end: CancellationToken,
    addresses: Addresses,
    audit: Beside,
}

/// How leases reach this egress, and what it knows of their keys.
enum Way {
    Link(TcpListener, SigningKeys),
    Relay(Member),
}

/// The same, once the keys are with the egress.
enum Carried {
    Link(TcpListener, keys::Followed),
    Relay(Following, BoxFuture<'static, ()>),
}

struct Keyed {
    link: Arc<Keys>,
    targets: TargetKeys,
}

impl Way {
    fn member(&self) -> Option<ClusterId> {
        match self {
            Self::Link(..) => None,
            Self::Relay(member) => Some(member.cluster.clone()),
        }
    }

    fn keys(self, folder: &Path, registry: &mut Registry) -> Result<(Carried, Keyed), Error> {
        Ok(match self {
            Self::Link(listener, signing) => {
                let (link, followed) = (signing.link(), keys::Followed::register(signing.clone(), registry));
                let targets = move |key: &ObjectKey| Arc::new(signing.destination(key));
                (Carried::Link(listener, followed), Keyed { link, targets: Arc::new(targets) })
            }
            Self::Relay(member) => {
                // Each session brings the key that it has proven; this ring is for none of them.
                let link = Arc::new(member::link(&member)?);
                let (following, reading) = member::follow(folder.to_owned(), member);
                let targets = member::targets(following.clone());
                (Carried::Relay(following, reading.boxed()), Keyed { link, targets })
            }
        })
    }
}

/// Where the pod listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Sessions of ingesters; none in a member, which dials its hub.
    pub link: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
}

/// Runs the program until SIGTERM.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let (shutdown, platform) = ground::begin(&arguments.pod).await?;
    let pod = tokio::select! {
        pod = Pod::start(arguments, platform) => pod?,
        () = shutdown.begun() => return Ok(()),
    };
    pod.serve(&shutdown).await
}

impl Pod {
    /// Puts the pod together; returns when it knows who it is and what it has to do.
    pub async fn start(arguments: Arguments, platform: Platform) -> Result<Self, Error> {
        let sink = Sink::new(&arguments.pod.pod_namespace);
        let mut ground = Ground::lay_with(arguments.pod.clone(), platform, sink.routes())?;
        let process = ground.readiness.gate("process");
        // At the hub ingesters connect; in a member nothing listens.
        let (way, link) = if let Some(member) = Member::mounted(&arguments.pod.keys)? {
            (Way::Relay(member), None)
        } else {
            let listener = bind("link", arguments.link)?;
            let link = address("link", &listener)?;
            let signing = keys::signing(&arguments.pod.keys, &arguments.pod.pod_name)?;
            sink.open(signing.clone());
            (Way::Link(listener, signing), Some(link))
        };
        let member = way.member();
        let plane = if member.is_some() { Plane::Member } else { Plane::Egress };

        let Known { identity, mesh, cluster } = ground.know(plane, member.clone(), &arguments.unseal).await?;

        let mut registry = ground.registry();
        ground.unsealing.register(&mut registry);
        let link_metrics = zen_link::Metrics::register(registry.sub_registry_with_prefix("zen_link"));
        let (way, keys) = way.keys(&arguments.pod.keys, &mut registry)?;
        let egress = Egress::new(
            Parts {
                snapshot: cluster.snapshot(),
                deliverer: Deliverer::new(Arc::new(SystemResolver::new())),
                link_keys: keys.link,
                target_keys: keys.targets,
                observer: Arc::new(Unwatched),
                member,
                options: Options {
                    instance: arguments.pod.pod_name.clone(),
                    drain_limit: ATTEMPTS,
                    ..Options::default()
                },
            },
            registry.sub_registry_with_prefix("zen_egress"),
        );
        let audit = ground.audit(&arguments.audit, &identity, &mesh, &mut registry);
        ground.metrics.complete(registry);

        let reports = Reports::new(&arguments.pod.pod_name, control::Plane::Egress, ground.end.clone());
        ground.tasks.spawn("configuration", reporting::follow(reports.clone(), cluster));
        let control = ground.serve_control(&identity, reports.routes(), audit.notes())?;

        let end = CancellationToken::new();
        match way {
            Carried::Link(listener, followed) => {
                let rekeyed = Arc::clone(&egress);
                let following = keys::follow(arguments.pod.keys.clone(), followed, move || rekeyed.rekey());
                ground.tasks.spawn("signing keys", following);
                // Only ingesters of this mesh get in (T-05).
                let tls = zen_pki::mtls_server(&identity, mesh.permitted(&[Action::Link]))?;
                let handshakes = audit.notes().handshakes("link");
                let telling = link_metrics.telling(move |peer, error| handshakes.failed(peer, error));
                ground.tasks.spawn(LINK, egress.serve(listener, tls, telling, end.clone()));
            }
            Carried::Relay(following, reading) => {
                ground.tasks.spawn("member's keys", reading);
                ground.tasks.spawn("target keys", member::rekey(Arc::clone(&egress), following.clone()));
                let handshakes = audit.notes().dialled("relay");
                let telling = link_metrics.telling(move |peer, error| handshakes.failed(peer, error));
                let (relay, ended) = (Relay::new(egress, identity, telling), end.clone());
                ground.tasks.spawn(LINK, async move {
                    if let Err(error) = relay.follow(following, ended).await {
                        tracing::error!(%error, "failed to set up the TLS towards the hub");
                    }
                });
            }
        }
        process.open();
        let addresses = Addresses { link, admin: ground.admin, control };
        Ok(Self { ground, process, end, addresses, audit })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, then ends in order.
    pub async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let Self { mut ground, process, end, addresses, audit } = self;
        tracing::info!(?addresses, "running");
        let failed = ground.serve(&process, shutdown).await;
        end.cancel();
        ground.tasks.ended(&[LINK], Instant::now() + SESSIONS).await;
        tokio::join!(ground.finish(), audit.close());
        failed.map_or(Ok(()), Err)
    }
}
