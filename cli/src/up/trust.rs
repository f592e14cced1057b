//! Certificates of one process: a CA in the state folder, the intake's certificate, and the workload identities of
//! ingester and egress, which speak mutual TLS to each other even here (D-03).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use zen_pki::{Ca, HotCertificate, Identity, KeyPairAndChain, SpiffeId, TrustDomain, keep_fresh};

use crate::failure::{Context as _, Outcome};

/// Lifetime of the intake's certificate.
const INTAKE_LIFETIME: Duration = Duration::from_hours(24 * 30);
/// The namespace that the mesh's own workloads are said to live in.
const NAMESPACE: &str = "zen-mesh";

/// What this process trusts and presents.
#[derive(Debug)]
pub struct Trust {
    /// The root that clients trust; kept in the state folder.
    ca: Ca,
    /// The workloads' root, in memory: they are all in this process, and no client's trust reaches them.
    mesh: Ca,
    intake: HotCertificate,
    ingester: Identity,
    egress: Identity,
    /// Lifetime of workload certificates.
    lifetime: Duration,
    names: Mutex<BTreeSet<String>>,
}

impl Trust {
    /// The CA of the folder (made on first use) and fresh leaves from it.
    pub fn load(folder: &Path, domain: &str, lifetime: Duration, intake: IpAddr) -> Outcome<Self> {
        let domain: TrustDomain = domain.parse().context("failed to read trustDomain of mesh.yaml")?;
        let ca = Ca::load_or_create(folder, &domain).context("failed to open the CA")?;
        let mesh = Ca::ephemeral(&domain).context("failed to make the workloads' CA")?;
        let roots = mesh.roots().context("failed to make the workloads' CA")?;
        let names = names(intake, &BTreeSet::new());
        let issued = issue_intake(&ca, &names).context("failed to issue the intake's certificate")?;
        let workload = |account| {
            let id = SpiffeId::workload(&domain, NAMESPACE, account).context("failed to name a workload")?;
            let issued = mesh.issue_workload(&id, lifetime).context("failed to issue a workload certificate")?;
            Identity::new(&issued, &roots).context("failed to take on an identity")
        };
        Ok(Self {
            intake: HotCertificate::new(&issued).context("failed to use the intake's certificate")?,
            ingester: workload("zen-ingester")?,
            egress: workload("zen-egress")?,
            names: Mutex::new(names),
            lifetime,
            mesh,
            ca,
        })
    }

    /// For the intake's listener.
    pub fn intake(&self) -> Outcome<Arc<ServerConfig>> {
        zen_pki::intake_server(&self.intake).context("failed to set up the intake's TLS")
    }

    /// For the egress's side of the link: the ingester alone gets in.
    pub fn link_server(&self) -> Outcome<Arc<ServerConfig>> {
        zen_pki::mtls_server(&self.egress, vec![self.ingester.id().clone()]).context("failed to set up the link's TLS")
    }

    /// For the ingester's side of the link: the egress alone is spoken to.
    pub fn link_client(&self) -> Outcome<Arc<ClientConfig>> {
        zen_pki::mtls_client(&self.ingester, self.egress.id().clone()).context("failed to set up the link's TLS")
    }

    /// The hosts of the Webhooks changed: the intake's certificate carries them from the next handshake on.
    pub fn serve_hosts(&self, intake: IpAddr, hosts: &BTreeSet<String>) -> Outcome {
        let wanted = names(intake, hosts);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if *names == wanted {
            return Ok(());
        }
        let issued = issue_intake(&self.ca, &wanted).context("failed to issue the intake's certificate")?;
        self.intake.replace(&issued).context("failed to use the intake's certificate")?;
        *names = wanted;
        Ok(())
    }

    /// Renews every certificate in time, for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let intake = keep_fresh(&self.intake, async || {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
            issue_intake(&self.ca, &names)
        });
        let ingester = keep_fresh(&self.ingester, async || self.mesh.issue_workload(self.ingester.id(), self.lifetime));
        let egress = keep_fresh(&self.egress, async || self.mesh.issue_workload(self.egress.id(), self.lifetime));
        tokio::join!(intake, ingester, egress);
    }
}

fn issue_intake(ca: &Ca, names: &BTreeSet<String>) -> Result<KeyPairAndChain, zen_pki::Error> {
    let names: Vec<_> = names.iter().cloned().collect();
    ca.issue_server(&names, INTAKE_LIFETIME)
}

/// Loopback in all spellings, the address that we listen on unless it stands for any, and the Webhooks' hosts.
fn names(intake: IpAddr, hosts: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names: BTreeSet<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !intake.is_unspecified() {
        names.insert(intake.to_string());
    }
    names.extend(hosts.iter().cloned());
    names
}
