//! `zen up DIR`: ingester, egress, queue and CA in one process on the manifests of a folder.
//!
//! The composition root, top-down: open what is durable, bind what listens, put the parts together, say what is there,
//! serve, drain. Nothing here is a stand-in: the parts are those of the pods, and the link between them is mutual TLS.

mod banner;
mod configuration;
mod demo;
mod narrate;
mod order;
mod printer;
mod receiver;
mod trust;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use configuration::Appliances;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trust::Trust;
use zen_compile::Mode;
use zen_ingester::admin as api;
use zen_ingester::ending::{Ending, Ends, Limits, part};
use zen_ingester::replica::{self, DURABILITY, Replica, build_info};
use zen_live::Live;
use zen_queue::embedded::{self, Embedded};
use zen_runtime::{Gate, Readiness, Shutdown, Tasks, admin, limits, watch};
use zen_seal::{Keyring, RootKey};

use crate::check::overrides;
use crate::failure::{Context as _, Failure, Outcome};
use crate::keys::signing_keys;
use crate::lock;
use crate::state::{Addresses, Place, State};
use banner::Facts;
use demo::Demo;
use printer::{Printer, Reader};
use receiver::Receiver;

/// What both sides of the link call themselves in logs.
const INSTANCE: &str = "zen-up";
/// After so long a start that is not finished says what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that `drainDelay` is kept: the process ends within 20 s whatever it says.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Observations that wait for a slow terminal; more are dropped and counted.
const TAP: usize = 4096;

/// Run everything on the manifests of a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen up examples/quickstart --demo
  zen up . --intake 0.0.0.0:8443 --service team-a/ci=127.0.0.1:9000

The folder is watched: a changed manifest takes effect at once, a bad one leaves the last good
version in force. Keys, certificates and events are kept in the state folder. SIGTERM finishes
what is in flight and leaves the rest on disk.")]
pub struct Up {
    /// The folder of the manifests (*.yaml, *.yml, *.json, and mesh.yaml).
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Also receive for the Destinations on loopback, send one signed sample to each Webhook and show its way.
    #[arg(long)]
    demo: bool,
    /// Where webhooks arrive, over TLS; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    intake: SocketAddr,
    /// Health, metrics and the admin API; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Where keys and events are kept [default: DIR/.zen].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The address of a Service, where no EndpointSlice in the folder tells it.
    #[arg(long, value_name = "NS/NAME=HOST:PORT")]
    service: Vec<String>,
    /// A file of private keys for ZenLocks, 0600; repeat it for several, the newest first
    /// [default: identity.txt of the state folder, where there is one].
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// No line per event.
    #[arg(short, long)]
    quiet: bool,
}

impl Up {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> Outcome {
        limits::raise_open_files();
        let shutdown = Shutdown::on_signals().context("failed to catch signals")?;
        let overrides = overrides(&self.service)?;
        let place = Place::find(self.state.as_deref(), Some(&self.dir));
        let keyring = lock::keyring(&self.identity, &place)?;
        let options = zen_live::Options { overrides, mode: Mode::Standalone, keyring };
        // The folder first: a state folder must not come to be where there is none.
        let live = Live::start(&self.dir, options).await.context("failed to start")?;
        let state = State::open(place.folder())?;
        // What a killed process left says nothing any more.
        state.withdraw();
        let intake = bind(self.intake, "--intake").await?;
        let admin = bind(self.admin, "--admin").await?;
        let addresses = Addresses { intake: text(&intake)?, admin: text(&admin)? };

        let (printer, ending) = Printer::stdout();
        let mesh = Mesh::assemble(&self, &live, &state, intake, admin, &printer).await?;
        state.publish(&addresses)?;
        let served = mesh.serve(&self, &live, &state, &addresses, &printer, &shutdown).await;
        state.withdraw();
        drop(printer);
        ending.finish();
        served
    }
}

/// The parts, running.
struct Mesh {
    replica: Replica,
    readiness: Readiness,
    /// What the process is of no use without: one that ends ends all.
    tasks: Tasks,
    ends: Ends,
    process: Gate,
}

impl Mesh {
    async fn assemble(
        up: &Up,
        live: &Live,
        state: &State,
        intake: TcpListener,
        admin: TcpListener,
        printer: &Printer,
    ) -> Outcome<Self> {
        let place = state.place();
        let snapshot = live.snapshot();
        let settings = snapshot.load().mesh.clone();

        // Durable: keys, certificates, events.
        let root = RootKey::load_or_create(&place.mesh_key_file()).context("failed to open the root key")?;
        let keyring = Keyring::load_or_create(&place.mesh_key_file()).context("failed to open the data keys")?;
        let signing = Arc::new(signing_keys(&root));
        let address = intake.local_addr().context("failed to read the intake's address")?.ip();
        let trust = Trust::load(place.folder(), &settings.trust_domain, settings.certificate_lifetime, address)?;
        let trust = Arc::new(trust);
        let embedded = Embedded::open(&place.queue_folder(), keyring, embedded::Options::default());
        let embedded = embedded.context("failed to start")?;

        // Metrics and readiness: each part registers its own.
        let mut registry = Registry::default();
        registry.register("zen_build", "Version of the program, and what its acknowledgement means", build_info());
        embedded.register(registry.sub_registry_with_prefix("zen_queue"));
        let link_metrics = zen_link::Metrics::register(registry.sub_registry_with_prefix("zen_link"));
        let readiness = Readiness::new();
        let configured = readiness.gate("configuration");
        let linked = readiness.gate("link");
        let process = readiness.gate("process");

        // The mesh: the ingester with all that runs around it, and its egress at the other end of the link as well.
        let (tap, feed_of_events) = watch::Tap::new(TAP);
        let (mut tasks, ends) = (Tasks::new(), Ends::default());
        let parts = replica::Parts {
            instance: INSTANCE.to_owned(),
            snapshot: Arc::clone(&snapshot),
            queue: embedded,
            signing,
            observer: Arc::new(tap),
            limits: Limits::STANDALONE,
            term: replica::TERM,
        };
        let replica = Replica::start(parts, &mut registry, &readiness, &mut tasks, &ends);
        let verdicts = Arc::new(ArcSwap::default());
        let shown = api::Parts { verdicts: Arc::clone(&verdicts), token: state.admin_token()?, durability: DURABILITY };
        let routes = api::router(&replica.ingester, shown);
        let admin_server = admin::Server::new(readiness.clone(), Arc::new(registry)).merge(routes);
        let appliances = Appliances { replica: replica.clone(), verdicts, trust: Arc::clone(&trust), intake: address };
        appliances.apply(&live.published().borrow());
        configured.open();

        // In the direction of an event.
        replica.serve_intake(&mut tasks, intake, trust.intake()?);
        let link = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "the link").await?;
        let link_address = link.local_addr().context("failed to read the link's address")?;
        let (_, egresses) = tokio::sync::watch::channel(Arc::new(BTreeSet::from([link_address])));
        let sessions = replica.link(&mut tasks, egresses, trust.link_client()?, link_metrics.clone());
        tasks.spawn("link's health", follow_sessions(sessions, linked));
        let (egress, tls, end) = (Arc::clone(&replica.egress), trust.link_server()?, ends.deliveries.clone());
        tasks.spawn(part::EGRESS, egress.serve(link, tls, link_metrics, end));
        let end = ends.admin.clone();
        tasks.spawn(part::ADMIN, async move {
            if let Err(error) = admin_server.serve(admin, end).await {
                tracing::error!(%error, "the admin server failed");
            }
        });
        tasks.spawn("configuration", appliances.follow(live.published(), printer.clone()));
        tasks.spawn("certificates", async move { trust.keep_fresh().await });
        if !up.quiet {
            tokio::spawn(narrate::narrate(feed_of_events, printer.clone()));
        }
        process.open();
        Ok(Self { replica, readiness, tasks, ends, process })
    }

    /// Waits until everything works, says so, demonstrates, and serves until the end.
    async fn serve(
        mut self,
        up: &Up,
        live: &Live,
        state: &State,
        addresses: &Addresses,
        printer: &Printer,
        shutdown: &Shutdown,
    ) -> Outcome {
        let snapshot = live.snapshot();
        let demonstrated = CancellationToken::new();
        let _end_of_receiver = demonstrated.clone().drop_guard();
        let working = async {
            ready(&self.readiness).await;
            let published = live.published().borrow().clone();
            let current = snapshot.load_full();
            let facts =
                Facts { dir: &up.dir, place: state.place(), addresses, snapshot: &current, published: &published };
            match printer.reader() {
                Reader::People(style) => printer.text(facts.banner(style)),
                Reader::Machines => printer.text(format!("{}\n", facts.record())),
            };
            if up.demo {
                let receiver = Receiver::start(&current, printer, &demonstrated).await;
                let (dir, place) = (up.dir.as_path(), state.place());
                let (queue, receiver) = (&self.replica.queue, &receiver);
                // It was read at the start; should it be gone since, the samples of those Webhooks are not signed.
                let keyring = &lock::keyring(&up.identity, place).unwrap_or_default();
                Demo { dir, keyring, place, addresses, snapshot: &current, queue, receiver }.run(printer).await;
            }
            std::future::pending::<()>().await;
        };
        let failed = tokio::select! {
            () = shutdown.begun() => None,
            what = self.tasks.first_end() => Some(what),
            () = working => None,
        };
        printer.say(
            |style| format!("{}\n", style.faint("ending: what is in flight is finished, the rest stays on disk")),
            &serde_json::json!({"at": zen_model::Timestamp::now(), "what": "ending"}),
        );
        let delay = drain_delay(&up.dir, snapshot.load().mesh.drain_delay);
        let ending = Ending {
            readiness: self.process,
            ingester: &self.replica.ingester,
            tasks: self.tasks,
            ends: self.ends,
            queue: Arc::clone(&self.replica.queue),
            limits: Limits::STANDALONE,
        };
        ending.run(delay.min(LONGEST_DELAY)).await;
        match failed {
            None => Ok(()),
            Some(what) => Err(Failure::new(what).hint("the log says why; what was acknowledged is on disk")),
        }
    }
}

/// Waits until every gate is open; says now and then which are not.
async fn ready(readiness: &Readiness) {
    while tokio::time::timeout(PATIENCE, readiness.wait()).await.is_err() {
        for (gate, reason) in readiness.missing() {
            tracing::warn!(gate, reason, "not ready yet");
        }
    }
}

/// Readiness follows the sessions of the link, for as long as it is polled.
async fn follow_sessions(mut sessions: tokio::sync::watch::Receiver<usize>, gate: Gate) {
    loop {
        match *sessions.borrow_and_update() {
            0 => gate.close("no egress is connected"),
            _ => gate.open(),
        }
        if sessions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Behind a load balancer `mesh.yaml` asks for a delay; on a laptop nobody waits for one.
fn drain_delay(dir: &Path, configured: Duration) -> Duration {
    if dir.join(zen_live::manifest::MESH_FILE).exists() { configured } else { Duration::ZERO }
}

async fn bind(address: SocketAddr, option: &str) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(format!("failed to listen on {address} ({option}): {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure
                .hint(format!("another process has the port; stop it, or name another one with {option}, or port 0")),
            std::io::ErrorKind::PermissionDenied => failure.hint(format!("name a port above 1023 with {option}")),
            std::io::ErrorKind::AddrNotAvailable => {
                failure.hint(format!("name an address of this machine with {option}"))
            }
            _ => failure,
        }
    })
}

fn text(listener: &TcpListener) -> Outcome<String> {
    listener.local_addr().map(|address| address.to_string()).context("failed to read an address")
}
