//! Whether this is a hub's operator or a member's; and the start of a member's: who this cluster is, which is known when it is
//! enrolled.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use zen_audit::Record;
use zen_compile::mesh;
use zen_model::ClusterId;
use zen_pki::TrustDomain;
use zen_runtime::lease::{Elector, Options};
use zen_runtime::{Gate, Shutdown, Tasks};

use super::{Error, LOOK, Serve};
use crate::configuration::Followed;
use crate::member::{Leads, Member, Metrics};
use crate::settings::Workloads;
use crate::{Writer, names, writer};

/// What is said while another replica is at it, or the API server was not asked yet.
const WAITS: &str = "this cluster is not enrolled yet";

/// Whether this is a member's operator.
pub(super) fn is_member(workloads: &Followed<Workloads>) -> bool {
    workloads.content.as_deref().is_some_and(|workloads| workloads.member.is_some())
}

/// Waits for settings that make it another. A hub and a member have different ids, roots and workloads: no process changes from
/// one to the other.
pub(super) async fn changes(mut workloads: watch::Receiver<Followed<Workloads>>, member: bool) -> Error {
    let changed = workloads.wait_for(|now| now.content.is_some() && is_member(now) != member).await.is_ok();
    if !changed {
        std::future::pending::<()>().await;
    }
    Error::Mesh("member.enabled was changed: the operator has to start anew".to_owned())
}

/// A member that knows who it is.
pub(super) struct Enrolled {
    pub(super) member: Member,
    pub(super) cluster: watch::Receiver<Option<ClusterId>>,
    /// What was done before there was an audit log.
    pub(super) records: Vec<Record>,
}

pub(super) struct Parts<'a> {
    pub(super) serve: &'a Serve,
    pub(super) client: &'a Client,
    pub(super) mesh: &'a watch::Receiver<Followed<mesh::Config>>,
    pub(super) workloads: &'a watch::Receiver<Followed<Workloads>>,
    pub(super) gate: &'a Gate,
    pub(super) metrics: Metrics,
    pub(super) writes: writer::Metrics,
}

/// Returns when this cluster is enrolled; none when the process is to end before. Whoever takes the lease enrolls it, and gives
/// the lease back for what follows.
pub(super) async fn enroll(
    parts: Parts<'_>,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<Option<Enrolled>, Error> {
    let Parts { serve, client, mesh, workloads, gate, metrics, writes } = parts;
    if serve.ca_path.is_some() {
        return Err(Error::Mesh("a member has no root CA of its own: leave --ca-path out".to_owned()));
    }
    let domain = mesh.borrow().content.as_deref().cloned().unwrap_or_default().trust_domain;
    let domain = domain.parse::<TrustDomain>().map_err(|error| Error::Mesh(error.to_string()))?;
    let member = Member::new(client.clone(), &serve.pod_namespace, domain, metrics);
    let (tell, mut cluster) = watch::channel(None);
    let follows = member.clone();
    tasks.spawn("enrollment", async move { follows.follow(tell).await });

    let holder = format!("{}_{:016x}", serve.pod_name, fastrand::u64(..));
    let elector = Elector::new(client.clone(), Options::new(&*serve.pod_namespace, names::OPERATOR, holder));
    let leadership = elector.leadership();
    let says = async {
        loop {
            gate.close(member.problem().unwrap_or_else(|| WAITS.to_owned()));
            tokio::time::sleep(LOOK).await;
        }
    };
    let records = Mutex::new(Vec::new());
    let note = |record| records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    let work = async {
        let held = tokio::select! {
            held = elector.acquire() => held,
            // By another replica, or long ago.
            _ = cluster.wait_for(Option::is_some) => return Ok(()),
        };
        let writer = Writer::new(client.clone(), leadership.clone(), &serve.pod_name, writes);
        let leads = Leads { writer: &writer, workloads: workloads.clone(), identity: None, note: &note };
        let outcome: Result<(), Error> = tokio::select! {
            () = member.enroll(&leads) => Ok(()),
            () = shutdown.begun() => Ok(()),
            lost = leadership.lost() => Err(lost.into()),
        };
        if outcome.is_ok() {
            writer.ended().await;
            held.release().await;
        }
        outcome
    };
    tokio::select! {
        outcome = work => outcome?,
        () = says => {}
        () = async { shutdown.begun().await; tokio::time::sleep(Duration::from_secs(2)).await } => {}
    }
    if shutdown.has_begun() {
        return Ok(None);
    }
    let _ = cluster.wait_for(Option::is_some).await;
    cluster.mark_unchanged();
    let records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Some(Enrolled { member, cluster, records }))
}
