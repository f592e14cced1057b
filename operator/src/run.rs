//! The operator as a process: health, configuration, identity service, election, and what the leader does.
//!
//! Every replica answers health checks, follows the configuration, compiles the objects and issues certificates. The leader
//! alone writes. A lost lease ends the process: no state of a former leader can outlive its lease.

mod arguments;
mod role;
mod settings;

use std::time::Duration;

use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_audit::log::Metrics as AuditMetrics;
use zen_compile::{Plane, mesh};
use zen_identity::{Component, Mesh, http};
use zen_live::cluster::{self, Cluster, ZenLocks};
use zen_model::Namespace;
use zen_pod::audit::{self, Trail};
use zen_runtime::lease::{Elector, Lost, Options};
use zen_runtime::{Gate, Readiness, Shutdown, Tasks, admin};

pub use arguments::{Arguments, Command, Serve};

use crate::configuration::{self, Followed};
use crate::identity::{self, Changed};
use crate::member::{self, Leads, Member};
use crate::scale::drains::{self, Known, Orders};
use crate::settings::Workloads;
use crate::{Writer, enroll, names, reconcile, rotation, status, writer};

/// How often readiness looks at the identity service.
const LOOK: Duration = Duration::from_millis(500);
/// The lease is given back and connections end within this after a signal.
const LINGER: Duration = Duration::from_secs(5);

/// The process had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is lost. Another process leads by now, or soon.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A write found that this process does not lead.
    #[error(transparent)]
    Write(#[from] writer::Error),
    /// The mesh is another one now.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// The mesh configuration names no mesh.
    #[error("failed to read the mesh's identity: {0}")]
    Mesh(String),
    /// The watches ended.
    #[error("failed to follow the objects: {0}")]
    Objects(#[from] cluster::Error),
    /// A part ended that never ends.
    #[error("{0}")]
    Part(String),
}

/// Where the process listens.
#[derive(Debug)]
pub struct Listeners {
    /// Health and metrics.
    pub admin: TcpListener,
    /// The identity service.
    pub identity: TcpListener,
    /// What members ask of their hub.
    pub hub: TcpListener,
}

/// Runs the operator until `shutdown`.
///
/// # Errors
///
/// [`Error`]: the process has to end with a failure, and to be started anew.
pub async fn run(serve: Serve, client: Client, listeners: Listeners, shutdown: &Shutdown) -> Result<(), Error> {
    let end = CancellationToken::new();
    let readiness = Readiness::new();
    let gate = readiness.gate("identity");
    let (server, pending) = admin::Server::pending(readiness);
    let mut tasks = Tasks::new();
    let Listeners { admin, identity, hub } = listeners;
    tasks.spawn("admin server", ended("admin server", server.serve(admin, end.clone())));
    let replica = Replica { serve, client, tasks: &mut tasks, end: end.clone() };
    let outcome = tokio::select! {
        outcome = Box::pin(replica.run(identity, hub, gate, &pending, shutdown)) => outcome,
        // While it starts nothing was written yet.
        () = async { shutdown.begun().await; tokio::time::sleep(LINGER).await } => Ok(()),
    };
    end.cancel();
    tasks
        .ended(&["admin server", "identity service", "hub"], tokio::time::Instant::now() + LINGER + audit::CLOSED)
        .await;
    outcome
}

struct Replica<'a> {
    serve: Serve,
    client: Client,
    tasks: &'a mut Tasks,
    end: CancellationToken,
}

impl Replica<'_> {
    async fn run(
        self,
        listener: TcpListener,
        members: TcpListener,
        gate: Gate,
        metrics: &admin::Pending,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let Self { serve, client, tasks, end } = self;
        let namespace = serve.pod_namespace.clone();
        gate.close("the mesh configuration is being read");
        let (mesh, workloads) = follow_configuration(&client, &namespace, tasks, &gate).await;
        let (mut registry, figures) = register();
        let is_member = role::is_member(&workloads.borrow());
        let enrolled = if is_member {
            figures.member.register(registry.sub_registry_with_prefix("zen_operator"));
            let parts = role::Parts {
                serve: &serve,
                client: &client,
                mesh: &mesh,
                workloads: &workloads,
                gate: &gate,
                metrics: figures.member.clone(),
                writes: figures.writes.clone(),
            };
            match Box::pin(role::enroll(parts, tasks, shutdown)).await? {
                Some(enrolled) => Some(enrolled),
                None => return Ok(()),
            }
        } else {
            None
        };
        let cluster = enrolled.as_ref().map(|enrolled| enrolled.cluster.clone());
        let cluster_now = cluster.as_ref().and_then(|cluster| cluster.borrow().clone());
        let settings = settings::identity(&namespace, &mesh.borrow(), &workloads.borrow(), cluster.as_ref())?;
        let ours = settings.mesh.clone();

        let audited = AuditMetrics::default();
        audited.register(&mut registry);
        let (tell, settings) = watch::channel(settings);
        let source = serve.ca_path.clone().map_or(identity::Source::Secret, identity::Source::Folder);
        let service =
            identity::Service::new(client.clone(), source, settings, registry.sub_registry_with_prefix("zen_operator"));
        let operator = registry.sub_registry_with_prefix("zen_operator");
        let hub = enroll::Hub::new(client.clone(), service.clone(), ours.clone(), workloads.clone(), operator);
        metrics.complete(registry);
        tasks.spawn(
            "identity settings",
            settings::keep(tell, namespace.clone(), mesh.clone(), workloads.clone(), cluster),
        );
        if !is_member {
            let (hub, end) = (hub.clone(), end.clone());
            tasks.spawn("hub", ended("hub", async move { hub.serve(members, end).await }));
        }
        let issues = Issues {
            service: service.clone(),
            ours: ours.clone(),
            serve: serve.clone(),
            client: client.clone(),
            audited,
            end,
        };
        tasks.spawn("identity service", ended("identity service", issues.run(listener)));
        tasks.spawn("readiness", readiness(service.clone(), gate));

        for record in enrolled.iter().flat_map(|enrolled| enrolled.records.iter().cloned()) {
            service.note(record);
        }
        let member = enrolled.map(|enrolled| enrolled.member);
        let (follows, workloads_now) = (service.clone(), workloads.clone());
        let leads = async {
            let options = cluster::Options {
                plane: Plane::Operator,
                member: cluster_now,
                mesh_namespace: Namespace::from(&*namespace),
                cache: None,
            };
            let cluster = tokio::select! {
                // The pods open them, and say so where nothing does.
                cluster = Cluster::start_with(client.clone(), options, ZenLocks::Assumed) => cluster?,
                () = shutdown.begun() => return Ok(()),
            };
            let parts = Parts { serve: &serve, client, service, hub, ours, member, mesh, workloads, cluster, figures };
            Box::pin(lead(parts, shutdown)).await
        };
        tokio::select! {
            outcome = leads => outcome,
            changed = follows.run() => Err(changed.into()),
            error = role::changes(workloads_now, is_member) => Err(error),
            what = tasks.first_end() => Err(Error::Part(what)),
        }
    }
}

/// The identity service, on the record from its first certificate to its last.
struct Issues {
    service: identity::Service,
    ours: Mesh,
    serve: Serve,
    client: Client,
    audited: AuditMetrics,
    end: CancellationToken,
}

impl Issues {
    async fn run(self, listener: TcpListener) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Self { service, ours, serve, client, audited, end } = self;
        let identity = tokio::select! {
            identity = service.identity() => identity,
            () = end.cancelled() => return Ok(()),
        };
        let trail = Trail::open(audit::Parts {
            folder: &serve.audit.folder,
            place: &serve.audit.place,
            strict: serve.audit.strict,
            pod: &serve.pod_name,
            identity: &identity,
            mesh: &ours,
            events: Some((client, &serve.audit.pod_uid)),
            metrics: audited,
        });
        let trail = trail.await?;
        service.audit_to(trail.log());
        let served = service.serve(listener, end).await;
        trail.close().await;
        Ok(served?)
    }
}

type Configuration = (watch::Receiver<Followed<mesh::Config>>, watch::Receiver<Followed<Workloads>>);

/// Follows both files from now on; returns when it is known who the mesh is.
async fn follow_configuration(client: &Client, namespace: &str, tasks: &mut Tasks, gate: &Gate) -> Configuration {
    let (tell_mesh, mut mesh) = watch::channel(Followed::default());
    let (tell_workloads, mut workloads) = watch::channel(Followed::default());
    tasks.spawn("mesh configuration", configuration::mesh(client.clone(), namespace.to_owned(), tell_mesh));
    tasks.spawn(
        "workload configuration",
        configuration::workloads(client.clone(), namespace.to_owned(), tell_workloads),
    );
    usable(&mut mesh, gate).await;
    let _ = workloads.wait_for(|workloads| workloads.is_known).await;
    mesh.mark_unchanged();
    workloads.mark_unchanged();
    (mesh, workloads)
}

/// A file that is there and cannot be used names no trust domain: certificates of another one must not be issued. Nobody leads
/// yet, so that the gate alone can say what is wrong.
async fn usable(mesh: &mut watch::Receiver<Followed<mesh::Config>>, gate: &Gate) {
    loop {
        {
            let now = mesh.borrow_and_update();
            if now.is_known && (now.content.is_some() || now.object.is_none()) {
                return;
            }
            if let Some(problem) = &now.problem {
                gate.close(problem.message.clone());
            }
        }
        if mesh.changed().await.is_err() {
            return;
        }
    }
}

/// What is counted.
#[derive(Clone, Debug, Default)]
struct Figures {
    writes: writer::Metrics,
    reconcile: reconcile::Metrics,
    status: status::Metrics,
    rotation: rotation::Metrics,
    member: member::Metrics,
    leads: Gauge,
}

fn register() -> (Registry, Figures) {
    let (mut registry, figures) = (Registry::default(), Figures::default());
    let operator = registry.sub_registry_with_prefix("zen_operator");
    figures.writes.register(operator);
    figures.reconcile.register(operator);
    figures.status.register(operator);
    figures.rotation.register(operator);
    operator.register("leader", "1 while this replica leads", figures.leads.clone());
    (registry, figures)
}

struct Parts<'a> {
    serve: &'a Serve,
    client: Client,
    service: identity::Service,
    hub: enroll::Hub,
    ours: Mesh,
    /// Where this cluster is a member's.
    member: Option<Member>,
    mesh: watch::Receiver<Followed<mesh::Config>>,
    workloads: watch::Receiver<Followed<Workloads>>,
    cluster: Cluster,
    figures: Figures,
}

/// Waits for the lease, does what the leader does, and gives it back when all of that has ended.
async fn lead(parts: Parts<'_>, shutdown: &Shutdown) -> Result<(), Error> {
    let serve = parts.serve;
    // Another process of the same pod is another holder: the one before may still be writing.
    let holder = format!("{}_{:016x}", serve.pod_name, fastrand::u64(..));
    let elector = Elector::new(parts.client.clone(), Options::new(&*serve.pod_namespace, names::OPERATOR, holder));
    let leadership = elector.leadership();
    let held = tokio::select! {
        held = elector.acquire() => held,
        () = shutdown.begun() => return Ok(()),
    };
    parts.figures.leads.set(1);
    let writer = Writer::new(parts.client.clone(), leadership.clone(), &serve.pod_name, parts.figures.writes.clone());
    let outcome = tokio::select! {
        outcome = write(&parts, &writer, shutdown) => outcome,
        lost = leadership.lost() => Err(lost.into()),
    };
    if outcome.is_ok() {
        // What is on its way might reach the API server after the first write of the next leader.
        writer.ended().await;
        held.release().await;
    }
    outcome
}

async fn write(parts: &Parts<'_>, writer: &Writer, shutdown: &Shutdown) -> Result<(), Error> {
    let Parts { serve, client, service, hub, ours, member, mesh, workloads, cluster, figures } = parts;
    let (orders, ordered) = watch::channel(Orders::default());
    let (tell, known) = watch::channel(Known::new());
    let reconcile = reconcile::Parts {
        client: client.clone(),
        writer: writer.clone(),
        namespace: serve.pod_namespace.clone(),
        workloads: workloads.clone(),
        mesh: mesh.clone(),
        bundles: service.bundles(),
        signing: service.signing_versions(),
        published: cluster.published(),
        orders,
        known,
        metrics: figures.reconcile.clone(),
    };
    // Both need a certificate, which needs what `keep` makes.
    let with_identity = async {
        let identity = service.identity().await;
        let ingester = ours.id(Component::Ingester).clone();
        let control = drains::Mtls { client: http::Client::new(&identity), ingester, port: serve.control_port };
        let status = status::Parts {
            client: client.clone(),
            writer: writer.clone(),
            namespace: serve.pod_namespace.clone(),
            snapshot: cluster.snapshot(),
            published: cluster.published(),
            settings: settings::status(&serve.pod_namespace, workloads.clone()),
            source: status::Pods::new(&identity, ours.clone(), serve.control_port),
            metrics: figures.status.clone(),
        };
        tokio::select! {
            outcome = status::run(status, shutdown.child()) => outcome,
            () = drains::run(control, ordered, tell) => Ok(()),
        }
    };
    let rotates = async {
        if *ours.scope() != zen_pki::Scope::Hub {
            // A member's issuing CA is the hub's to exchange.
            shutdown.begun().await;
            return Ok(());
        }
        let field = rotation::Pods::watch(client.clone(), ours.clone(), serve.control_port, service.bundles());
        let rotation = rotation::Parts {
            service: service.clone(),
            writer: writer.clone(),
            namespace: serve.pod_namespace.clone(),
            workloads: workloads.clone(),
            clusters: hub.clusters(),
            field,
            metrics: figures.rotation.clone(),
        };
        rotation::run(rotation, shutdown.child()).await
    };
    let kept = async {
        match member {
            Some(member) => {
                let (identity, note) = (|| service.identity_now(), |record| service.note(record));
                let workloads = workloads.clone();
                member.keep(&Leads { writer, workloads, identity: Some(&identity), note: &note }).await;
            }
            None => keep(service, writer, workloads.clone()).await,
        }
    };
    let enrolls = async {
        match member {
            // It enrolls nobody.
            Some(_) => std::future::pending().await,
            None => hub.lead(writer, shutdown.child()).await,
        }
    };
    let work = async {
        tokio::try_join!(
            Box::pin(reconcile::run(reconcile, shutdown.child())),
            Box::pin(with_identity),
            Box::pin(rotates),
            Box::pin(enrolls),
        )
    };
    tokio::select! {
        outcome = work => outcome.map(drop).map_err(Error::from),
        () = kept => Ok(()),
        () = shutdown.begun() => Ok(()),
    }
}

/// Keeps the CA and the trust bundle, which belongs to the settings. Never ends.
async fn keep(service: &identity::Service, writer: &Writer, mut workloads: watch::Receiver<Followed<Workloads>>) {
    loop {
        let owner = workloads.borrow_and_update().owner();
        let another = async {
            if workloads.wait_for(|now| now.object.is_some() && now.owner() != owner).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = service.keep(writer, owner.as_ref()) => {}
            // Settings that were deleted and made again: what the old ones own is collected.
            () = another => {}
        }
    }
}

/// The gate is open while certificates can be issued.
async fn readiness(service: identity::Service, gate: Gate) {
    loop {
        match service.problem() {
            None => gate.open(),
            Some(problem) => gate.close(problem),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ended<E: std::fmt::Display>(what: &str, server: impl Future<Output = Result<(), E>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "the {what} failed");
    }
}

/// Shared by what runs once: a client as a pod, or from a kubeconfig.
///
/// # Errors
///
/// Neither is there, or it cannot be used.
pub async fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let config = kube::Config::infer().await?;
    Ok(cluster::client(config)?)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;
    use crate::decide::Problem;

    /// K-02: a first installation with settings that cannot be used says so where `kubectl describe pod` shows it.
    #[tokio::test]
    async fn settings_that_cannot_be_used_are_the_reason_of_not_being_ready() {
        let readiness = Readiness::new();
        let gate = readiness.gate("identity");
        let (tell, mut mesh) = watch::channel(Followed::default());
        let task = tokio::spawn(async move {
            usable(&mut mesh, &gate).await;
            gate
        });
        let object = Some(ObjectReference::default());
        let problem =
            Some(Problem { reason: "InvalidConfiguration", message: "999.1.1.1/99 is no network".to_owned() });
        tell.send_replace(Followed { is_known: true, object: object.clone(), problem, content: None });
        while readiness.missing()[0].1 != "999.1.1.1/99 is no network" {
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished());
        let content = Some(std::sync::Arc::new(mesh::Config::default()));
        tell.send_replace(Followed { is_known: true, object, problem: None, content });
        task.await.expect("goes on");
    }
}
