//! A control plane with a namespace for the mesh, an operator that only signs, and pods on loopback with their volumes.

mod kubelet;
mod operator;
mod pod;
mod probe;

use std::collections::HashMap;
use std::fs::Permissions;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::RootCertStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zen_e2e::ControlPlane;
use zen_identity::client::{Answering, Error, Issuer, Options, Remote, StaticResolver};
use zen_identity::wire::{Certificate, CertificateRequest, Refused, Usage, Who};
use zen_identity::{Client, Component};
use zen_model::reason::TrustRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Ca, Identity, Names, Scope, SigningRequest, SpiffeId, TrustDomain};
use zen_pod::Platform;
use zen_pod::keys::Member;
use zen_runtime::Shutdown;
use zen_seal::RootKey;
use zen_seal::cluster::ClusterKey;
use zen_testkit::Reserved;
use zen_verify::SigningKeys;

use crate::api_server::install;
use operator::{Operator, PodIssuer};
pub use pod::{Egress, Ingester};
pub use probe::{get, metric, own_address, ready, until};

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The release namespace.
pub const NAMESPACE: &str = "zen-mesh";
/// A name that the intake's certificate carries.
pub const INTAKE: &str = "zen-ingester.zen-mesh.svc";

const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: zen-mesh, namespace: zen-mesh}
data:
  mesh.yaml: |
    grants: [{namespace: team-a, cidrs: [127.0.0.0/8]}]
    drainDelay: 1s
";

/// Everything around the pods.
pub struct Stage {
    control_plane: Option<ControlPlane>,
    /// The pods' own.
    client: kube::Client,
    operator: Operator,
    root: RootKey,
    folder: TempDir,
    /// The identity service of a whole operator, which pods then ask.
    identity: Option<SocketAddr>,
}

impl Stage {
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        install(&control_plane.client().await.unwrap()).await;
        for namespace in [NAMESPACE, "team-a"] {
            control_plane.kubectl(&["create", "namespace", namespace]).await.unwrap();
        }
        let root = Ca::new_root(&domain(), Timestamp::now()).unwrap();
        let issuer = Arc::new(root.issue_intermediate(Timestamp::now()).unwrap());
        let member = Arc::new(root.issue_issuer(&Scope::Cluster(cluster()), Timestamp::now()).unwrap());
        let bundle = root.certificate_pem().to_owned();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &bundle).unwrap();
        let (kubeconfig, options) = (Kubeconfig::read_from(control_plane.kubeconfig()), KubeConfigOptions::default());
        let config = kube::Config::from_custom_kubeconfig(kubeconfig.unwrap(), &options).await.unwrap();
        let client = zen_live::cluster::client(config).unwrap();
        let lifetime = Duration::from_hours(1);
        let operator = Operator { issuer, member, bundle, away: Arc::default(), lifetime };
        let stage = Self {
            control_plane: Some(control_plane),
            client,
            operator,
            root: RootKey::random(),
            folder,
            identity: None,
        };
        stage.apply(&[MESH]).await;
        stage
    }

    /// From now on pods have their certificates from this identity service, whose trust bundle this is.
    pub async fn issued_by(&mut self, service: &zen_operator::identity::Service) {
        let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
        self.identity = Some(listener.local_addr().unwrap());
        let serving = service.clone();
        tokio::spawn(async move { serving.serve(listener, tokio_util::sync::CancellationToken::new()).await });
        tokio::time::timeout(PATIENCE, service.identity()).await.expect("a CA in time");
        service.bundle().unwrap().as_ref().clone_into(&mut self.operator.bundle);
        std::fs::write(self.folder.path().join("ca.crt"), &self.operator.bundle).unwrap();
    }

    /// From now on pods have the trust bundle that the API server has, as a kubelet brings it: a while later, and whole.
    pub fn bring_trust(&self) -> tokio::task::AbortHandle {
        let config_maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::namespaced(self.client(), NAMESPACE);
        let (file, fresh) = (self.trust(), self.folder.path().join("ca.crt.new"));
        let bring = async move {
            let mut brought = String::new();
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let bundle = config_maps.get_opt("zen-mesh-trust").await.ok().flatten();
                let Some(bundle) = bundle.and_then(|bundle| bundle.data?.remove("ca.crt")) else { continue };
                if bundle != brought {
                    std::fs::write(&fresh, &bundle).unwrap();
                    std::fs::rename(&fresh, &file).unwrap();
                    brought = bundle;
                }
            }
        };
        tokio::spawn(bring).abort_handle()
    }

    /// The file that is mounted into every pod.
    pub fn trust(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The pods' client of the API server.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// What pods that start from now on are given lasts so long.
    pub fn certificates_last(&mut self, lifetime: Duration) {
        self.operator.lifetime = lifetime;
    }

    /// API server and operator are gone from now on.
    pub fn leave(&mut self) {
        self.control_plane = None;
        self.operator.away.store(true, Ordering::Relaxed);
    }

    /// The operator is back, the API server is not.
    pub fn operator_returns(&self) {
        self.operator.away.store(false, Ordering::Relaxed);
    }

    pub async fn apply(&self, manifests: &[&str]) {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifests.join("\n---\n")).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]).await;
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.control_plane.as_ref().expect("the API server is there").kubectl(arguments).await.unwrap()
    }

    /// What clients of the intake trust.
    pub fn roots(&self) -> RootCertStore {
        roots(&self.operator.bundle)
    }

    /// An identity of the mesh.
    pub fn identity(&self, component: Component) -> Identity {
        let lifetime = Duration::from_hours(1);
        let issued = self.operator.issuer.issue_workload(&id(component), lifetime).unwrap();
        Identity::new(&issued, &zen_pki::TrustRoots::from_pem(&self.operator.bundle).unwrap()).unwrap()
    }
}

pub fn roots(pem: &str) -> RootCertStore {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

fn domain() -> TrustDomain {
    "zen-mesh.local".parse().unwrap()
}

/// A member of this hub.
pub fn cluster() -> ClusterId {
    "team-a/eu".parse().unwrap()
}

fn id(component: Component) -> SpiffeId {
    SpiffeId::workload(&domain(), NAMESPACE, component.account()).unwrap()
}

/// A free port of the loopback.
pub const ANY: &str = "127.0.0.1:0";
