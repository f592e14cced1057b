//! Identities from cert-manager's own controllers, with the rights that the chart gives (T-03, K-06).

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zen_charts::Helm;
use zen_compile::mesh::CertManager;
use zen_e2e::{ControlPlane, binaries};
use zen_identity::Component;
use zen_identity::client::{Error, Issuer as _, Options, Remote};
use zen_identity::wire::{Certificate, CertificateRequest, Refused, Usage};
use zen_model::Timestamp;
use zen_model::reason::TrustRefusal;
use zen_operator::identity::{Service, Settings};
use zen_pki::{Ca, KeyPairAndChain, Names, SigningRequest, TrustRoots, signing_request};

use crate::identity::{NAMESPACE, PATIENCE, make_namespace, make_pod, mesh, remote, replica_with, token};
use crate::pods::stage::until;

const API_SERVER: &str = "https://kubernetes.default.svc.cluster.local";
const OPERATOR: &str = "zen-operator";
const HOUR: Duration = Duration::from_hours(1);

struct Stage {
    control_plane: ControlPlane,
    admin: Client,
    service: Service,
    /// The CA that the issuer signs with.
    corporate: Ca,
    options: Options,
    remote: Remote,
    _folder: TempDir,
    _controllers: Child,
}

impl Stage {
    /// The mesh takes its identities from an issuer of this API group.
    async fn start(group: &str) -> Self {
        let control_plane = ControlPlane::start_observed().await.unwrap();
        let admin = control_plane.client().await.unwrap();
        make_namespace(&admin, NAMESPACE).await;
        let resources = binaries().join("cert-manager.crds.yaml");
        control_plane.kubectl(&["apply", "--server-side", "-f", resources.to_str().unwrap()]).await.unwrap();
        let kinds = "crd/certificaterequests.cert-manager.io";
        control_plane.kubectl(&["wait", "--for=condition=Established", kinds, "--timeout=60s"]).await.unwrap();
        let controllers = Command::new(binaries().join("cert-manager"))
            .arg("-kubeconfig")
            .arg(control_plane.kubeconfig())
            // Its files are named from there.
            .current_dir(control_plane.kubeconfig().parent().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();

        // An organisation's CA, of which the mesh has the certificate alone.
        let corporate = authority();
        let key = STANDARD.encode(corporate.key_pem().expose());
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "corporate", "namespace": NAMESPACE},
            "data": {"tls.crt": STANDARD.encode(corporate.certificate_pem()), "tls.key": key}});
        let issuer = json!({"apiVersion": "cert-manager.io/v1", "kind": "Issuer",
            "metadata": {"name": "corporate", "namespace": NAMESPACE}, "spec": {"ca": {"secretName": "corporate"}}});
        let folder = tempfile::tempdir().unwrap();
        let named = CertManager {
            name: "corporate".to_owned(),
            kind: "Issuer".to_owned(),
            group: group.to_owned(),
            ca: corporate.certificate_pem().to_owned(),
        };
        let values =
            json!({"issuer": "cert-manager", "certManager": {"name": named.name, "group": group, "ca": named.ca}});
        let values = format!("mesh.certificates={values}");
        let rendered = Helm::find().unwrap().render(&["--set-json", &values]).unwrap().objects;
        let kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        let is_account = |object: &Value| object["kind"] == "ServiceAccount" && object["metadata"]["name"] == OPERATOR;
        let rights = rendered.into_iter();
        let rights = rights.filter(|object| is_account(object) || kinds.iter().any(|kind| object["kind"] == *kind));
        for object in [secret, issuer].into_iter().chain(rights) {
            apply(&control_plane, folder.path(), &object).await;
        }
        // The controllers are slow to start, and the operator asks ever more rarely while nobody answers.
        let issuer = ["-n", NAMESPACE, "issuer.cert-manager.io/corporate", "--timeout=180s"];
        control_plane.kubectl(&[&["wait", "--for=condition=Ready"][..], &issuer].concat()).await.unwrap();

        let account = token(&admin, NAMESPACE, OPERATOR, API_SERVER, None).await;
        let config = control_plane.config_of(account).await.unwrap();
        let settings = Settings::new(mesh(), HOUR, []).signed_by(Some(named));
        let service = replica_with(&Client::try_from(config).unwrap(), settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = service.clone();
        tokio::spawn(async move { serving.serve(listener, CancellationToken::new()).await });
        let (options, remote) = remote(folder.path(), port);
        Self { control_plane, admin, service, corporate, options, remote, _folder: folder, _controllers: controllers }
    }

    /// The service runs, and what is asked comes from this pod.
    async fn as_pod(&self, account: &str) {
        until("there is a trust bundle", async || self.service.bundle().is_some()).await;
        std::fs::write(&self.options.roots, self.service.bundle().unwrap().as_bytes()).unwrap();
        let uid = make_pod(&self.admin, NAMESPACE, account).await;
        let token = token(&self.admin, NAMESPACE, account, "zen-mesh-identity", Some(&uid)).await;
        std::fs::write(&self.options.token, token).unwrap();
    }

    /// What the service says, as soon as it has time to say something.
    async fn ask(&self, csr: String, usage: Usage) -> Result<Certificate, Error> {
        self.ask_until(csr, usage, |_| true).await
    }

    /// As a pod asks: again where nobody has signed in time.
    async fn ask_on(&self, csr: String, usage: Usage) -> Result<Certificate, Error> {
        self.ask_until(csr, usage, |refused| refused.code != TrustRefusal::IssuerUnavailable.code()).await
    }

    async fn ask_until(
        &self,
        csr: String,
        usage: Usage,
        is_final: impl Fn(&Refused) -> bool,
    ) -> Result<Certificate, Error> {
        let request = CertificateRequest { csr, usage };
        let mut answer = Err(Error::Answer("none".to_owned()));
        until("it is decided", async || {
            answer = self.remote.certificate(None, &request).await;
            match &answer {
                Err(Error::Refused(refused)) => is_final(refused),
                Err(Error::Exchange(_)) => false,
                _ => true,
            }
        })
        .await;
        answer
    }

    fn requests(&self) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "CertificateRequest"));
        Api::namespaced_with(self.admin.clone(), NAMESPACE, &kind)
    }

    async fn is_tidy(&self) {
        until("every request is deleted", async || {
            self.requests().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
    }

    /// Plays an issuer of another group that answers every request with this status, until that comes of it.
    async fn answering<T>(&self, status: impl Fn(&DynamicObject) -> Value, outcome: impl Future<Output = T>) -> T {
        // Approved it may be: cert-manager's approver knows every group.
        let decided = |condition: &Value| condition["type"] != "Approved";
        let waits = |request: &DynamicObject| {
            !request.data["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(decided))
        };
        let answers = until("never, by itself", async || {
            let list = self.requests().list(&ListParams::default()).await.unwrap();
            for request in list.items.iter().filter(|request| waits(request)) {
                let (name, patch) = (request.metadata.name.as_deref().unwrap(), json!({"status": status(request)}));
                // It may be gone: nobody waits for it any more.
                let _ = self.requests().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            }
            false
        });
        tokio::select! {
            outcome = outcome => outcome,
            () = answers => unreachable!("it ends in a panic"),
        }
    }

    /// What the operator has done with requests, as the API server knows it.
    fn used(&self) -> Vec<String> {
        let operator = format!("system:serviceaccount:{NAMESPACE}:{OPERATOR}");
        let entries = self.control_plane.audit().unwrap().into_iter();
        let of_operator = entries.filter(|it| it.user == operator && it.resource == "certificaterequests");
        of_operator.map(|entry| entry.verb).collect()
    }
}

async fn apply(control_plane: &ControlPlane, folder: &std::path::Path, object: &Value) {
    let path = folder.join("object.json");
    std::fs::write(&path, object.to_string()).unwrap();
    control_plane.kubectl(&["apply", "--server-side", "-f", path.to_str().unwrap()]).await.unwrap();
}

/// A CA of somebody else that signs whatever it is told to.
fn authority() -> Ca {
    let now = Timestamp::now();
    Ca::new_root(mesh().trust_domain(), now).unwrap().issue_intermediate(now).unwrap()
}

fn csr(component: Component) -> (String, zen_model::Secret) {
    signing_request(&Names::Workload(mesh().id(component).clone())).unwrap()
}

fn code(answer: Result<Certificate, Error>) -> String {
    match answer {
        Err(Error::Refused(refused)) => refused.code,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn workloads_have_their_identities_from_cert_manager() {
    let stage = Stage::start("cert-manager.io").await;
    // The operator's own, too.
    timeout(PATIENCE, stage.service.identity()).await.expect("in time");
    stage.as_pod("zen-ingester").await;
    let bundle = stage.service.bundle().unwrap();
    let roots = TrustRoots::from_pem(&bundle).unwrap();

    let (pem, key) = csr(Component::Ingester);
    let issued = stage.ask_on(pem, Usage::Workload).await.expect("issued");
    let pair = KeyPairAndChain::from_pem(&issued.chain, &key).unwrap();
    assert_eq!(pair.names(), Some(Names::Workload(mesh().id(Component::Ingester).clone())));
    pair.verify(&roots, Timestamp::now()).expect("what every pod finds");
    let corporate = TrustRoots::from_pem(stage.corporate.certificate_pem()).unwrap();
    assert!(pair.verify(&corporate, Timestamp::now()).is_err(), "a root of the mesh it is not");
    assert!(pair.validity().until <= Timestamp::now().plus(HOUR + Duration::from_mins(5)));

    // Names of the intake are for clients that know the mesh's own root.
    let names = ["zen-ingester-api", "zen-ingester"].map(|name| format!("{name}.{NAMESPACE}.svc"));
    let names = names.iter().flat_map(|name| [name.clone(), format!("{name}.cluster.local")]).collect();
    let (pem, key) = signing_request(&Names::Server(names)).unwrap();
    let served = stage.ask(pem, Usage::Serving).await.expect("issued");
    KeyPairAndChain::from_pem(&served.chain, &key).unwrap().verify(&roots, Timestamp::now()).expect("ours");

    // What is not due is refused before cert-manager hears of it.
    stage.is_tidy().await;
    let before = stage.used();
    assert_eq!(code(stage.ask(csr(Component::Egress).0, Usage::Workload).await), "CsrNamesDiffer");
    let made = |verbs: &[String]| verbs.iter().filter(|verb| *verb == "create").count();
    assert_eq!(made(&stage.used()), made(&before));
}

#[tokio::test]
async fn an_issuer_signs_what_was_asked_for_or_the_pod_gets_nothing() {
    let stage = Stage::start("issuers.example.com").await;
    let due = Names::Workload(mesh().id(Component::Operator).clone());
    let decided = |kind: &str, reason: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": "in words",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    // As an issuer that signs whatever it is told to.
    let signed = |request: &DynamicObject, ca: &Ca, names: &Names, lifetime: Duration| {
        let pem = STANDARD.decode(request.data["spec"]["request"].as_str().unwrap()).unwrap();
        let request = SigningRequest::from_pem(std::str::from_utf8(&pem).unwrap());
        let own = signing_request(names).unwrap().0;
        // Of another name the request itself would not do.
        let request = request.ok().filter(|request| request.check(names).is_ok());
        let request = request.unwrap_or_else(|| SigningRequest::from_pem(&own).unwrap());
        let chain = ca.sign_csr(&request, names, Timestamp::now(), lifetime).unwrap().chain_pem;
        json!({"certificate": STANDARD.encode(chain), "conditions": [decided("Ready", "Issued")]})
    };
    let corporate = &stage.corporate;
    // The operator asks first, and again until it has what it asked for.
    let own = timeout(PATIENCE, stage.service.identity());
    stage.answering(|request| signed(request, corporate, &due, HOUR), own).await.expect("in time");
    stage.as_pod("zen-ingester").await;

    let due = Names::Workload(mesh().id(Component::Ingester).clone());
    let other = Names::Workload(mesh().id(Component::Operator).clone());
    let stranger = authority();
    let ask = || stage.ask_on(csr(Component::Ingester).0, Usage::Workload);
    let denied = stage.answering(|_| json!({"conditions": [decided("Denied", "policy.example.com")]}), ask()).await;
    assert_eq!(code(denied), "IssuerDenied");
    let renamed = stage.answering(|request| signed(request, corporate, &other, HOUR), ask()).await;
    assert_eq!(code(renamed), "IssuerUnfit");
    let too_long = stage.answering(|request| signed(request, corporate, &due, 3 * HOUR), ask()).await;
    assert_eq!(code(too_long), "IssuerUnfit");
    let of_another = stage.answering(|request| signed(request, &stranger, &due, HOUR), ask()).await;
    assert_eq!(code(of_another), "IssuerUnfit");
    let failed = |_: &DynamicObject| {
        let mut ready = decided("Ready", "Failed");
        ready["status"] = "False".into();
        json!({"conditions": [ready]})
    };
    let ask_once = || stage.ask(csr(Component::Ingester).0, Usage::Workload);
    assert_eq!(code(stage.answering(failed, ask_once()).await), "IssuerUnavailable");
    // Nobody answers.
    assert_eq!(code(ask_once().await), "IssuerUnavailable");
    stage.is_tidy().await;
    let (pem, key) = csr(Component::Ingester);
    let issued = stage.ask_on(pem, Usage::Workload);
    let issued = stage.answering(|request| signed(request, corporate, &due, HOUR), issued).await.expect("issued");
    KeyPairAndChain::from_pem(&issued.chain, &key).unwrap();

    stage.is_tidy().await;
    let granted = BTreeSet::from(["create", "delete", "list", "watch"].map(str::to_owned));
    until("granted equals used", async || stage.used().into_iter().collect::<BTreeSet<_>>() == granted).await;
}
