//! A cluster is enrolled at a hub on a real API server, and is not when it should not be (T-01, T-06): the operator's whole process with the
//! chart's roles, and a member of which only the requests are real.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kube::Api;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use zen_crds::ClusterEnrollment;
use zen_enroll::proof::{self, Proof};
use zen_enroll::{Answer, Bundle, Opened, Redeem, Sync, Synced, path, sync_path};
use zen_identity::exchange::exchange;
use zen_lock::Keyring;
use zen_model::{Secret, Timestamp};
use zen_pki::{Ca, Identity, Scope, TrustDomain, TrustRoots, hub_client, issuer_request};
use zen_seal::cluster::ClusterKey;

use crate::pods::stage::until;
use crate::rights::stage::Stage;

const NAME: &str = "prod-eu";

struct Hub {
    stage: Stage,
    enrollments: Api<ClusterEnrollment>,
    member: zen_lock::Identity,
}

impl Hub {
    async fn start() -> Self {
        let mut stage = Stage::hub().await;
        stage.start_operator().await;
        let enrollments = Api::namespaced(stage.admin(), "team-a");
        Self { stage, enrollments, member: zen_lock::Identity::generate() }
    }

    async fn apply(&self, bundle: &str, disabled: bool) {
        let enrollment = json!({
            "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ClusterEnrollment",
            "metadata": {"name": NAME, "namespace": "team-a"},
            "spec": {"recipient": self.member.recipient().as_str(), "bundle": bundle, "disabled": disabled},
        });
        self.stage.apply(&enrollment.to_string()).await;
    }

    async fn status(&self) -> Value {
        serde_json::to_value(self.enrollments.get(NAME).await.unwrap().status).unwrap()
    }

    async fn phase(&self, phase: &str) -> Value {
        until(phase, async || self.status().await["phase"] == phase).await;
        self.status().await
    }

    /// What `zen enroll` prints, opened with the member's key and the hub's fingerprint.
    async fn bundle(&self, id: &str) -> Opened {
        until("the bundle is made", async || {
            let bundle = self.status().await["bundle"].clone();
            bundle["id"] == id && bundle["data"].is_object()
        })
        .await;
        let data = self.status().await["bundle"]["data"].clone();
        let pins: Vec<String> = serde_json::from_value(data["fingerprints"].clone()).unwrap();
        let text = |key: &str| data[key].as_str().unwrap().to_owned();
        let bundle = Bundle::from_data(&text("clear"), &text("sealed")).unwrap();
        bundle.open(&Keyring::new(vec![self.member.clone()]), &pins, Timestamp::now()).unwrap()
    }

    async fn ask(&self, path: &str, proof: &Proof, body: Vec<u8>, identity: Option<&Identity>) -> (u16, Value) {
        let roots = TrustRoots::from_pem(self.stage.bundle()).unwrap();
        let tls = hub_client(&roots, &domain(), identity).unwrap();
        let request = Request::post(path).header("host", "127.0.0.1").header(proof::HEADER, proof.value());
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let answer =
            exchange(self.stage.hub.address(), name, tls, request, Duration::from_secs(20), 1 << 20).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    async fn redeem(&self, opened: &Opened, csr: &str) -> Result<Answer, String> {
        let prove = || Redeem::new(opened, csr.to_owned()).prove(opened, Timestamp::now()).unwrap();
        self.led(&path(&opened.cluster), prove, None).await
    }

    /// As members do, who prove anew what a leader takes for made before it led.
    async fn led<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        prove: impl Fn() -> (Vec<u8>, Proof),
        identity: Option<&Identity>,
    ) -> Result<T, String> {
        loop {
            let (body, proof) = prove();
            match self.ask(path, &proof, body, identity).await {
                (200, answer) => return Ok(serde_json::from_value(answer).unwrap()),
                (_, refused) if refused["code"] == "NotLeader" => tokio::time::sleep(Duration::from_millis(200)).await,
                (_, refused) => return Err(refused["code"].as_str().unwrap().to_owned()),
            }
        }
    }

    /// As the operator of an enrolled member.
    async fn sync(&self, answer: &Answer, key: &Secret, csr: Option<String>) -> Result<Synced, String> {
        let cluster = "team-a/prod-eu".parse().unwrap();
        let now = Timestamp::now();
        let ca = Ca::from_pem(&answer.issued.chain, key, "the issuing CA", &domain(), now).unwrap();
        let id = Scope::Cluster(cluster).workload(&domain(), "zen-mesh", "zen-operator").unwrap();
        let issued = ca.issue_workload_at(&id, now, Duration::from_hours(1)).unwrap();
        let identity = Identity::new(&issued, &TrustRoots::from_pem(&answer.given.roots).unwrap()).unwrap();
        let cluster = "team-a/prod-eu".parse().unwrap();
        let newest = &answer.given.keys[0];
        let agent = ClusterKey::given(&newest.agent_key.0, &cluster, newest.version).unwrap();
        let sync = Sync { cluster: cluster.clone(), csr, holds: None };
        let prove = || sync.prove(agent.id(), &agent.agent(), Timestamp::now()).unwrap();
        self.led(&sync_path(&cluster), prove, Some(&identity)).await
    }
}

fn domain() -> TrustDomain {
    "zen-mesh.local".parse().unwrap()
}

fn csr(opened: &Opened) -> (String, Secret) {
    issuer_request(&domain(), &Scope::Cluster(opened.cluster.clone())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_enrolled_renewed_enrolled_anew_and_revoked() {
    let hub = Hub::start().await;
    hub.apply("1", false).await;
    let first = hub.bundle("1").await;
    let (request, key) = csr(&first);
    let (a, b) = tokio::join!(hub.redeem(&first, &request), hub.redeem(&first, &request));
    let (answer, twin) = (a.unwrap(), b.unwrap());
    assert_eq!(
        (answer.issued.not_after, &answer.given),
        (twin.issued.not_after, &twin.given),
        "at one time, one answer"
    );
    let status = hub.phase("Enrolled").await;
    assert!(status["bundle"]["data"].is_null() && status["bundle"]["usedAt"].is_string(), "{status}");
    assert_eq!(hub.redeem(&first, &request).await.unwrap().issued.not_after, answer.issued.not_after);
    assert_eq!(hub.redeem(&first, &csr(&first).0).await.unwrap_err(), "BundleReused");

    assert_eq!(hub.sync(&answer, &key, None).await.unwrap().given, answer.given);
    let (renewal, renewed) = csr(&first);
    let told = hub.sync(&answer, &key, Some(renewal)).await.unwrap();
    Ca::from_pem(&told.issued.unwrap().chain, &renewed, "the renewed one", &domain(), Timestamp::now()).unwrap();
    assert_eq!(hub.status().await["connected"], true);

    hub.apply("2", false).await;
    let second = hub.bundle("2").await;
    assert_eq!(hub.redeem(&first, &request).await.unwrap_err(), "BundleVoid");
    let (request, key_of_second) = csr(&second);
    let again = hub.redeem(&second, &request).await.unwrap();
    assert_eq!(again.given.keys[0].version, answer.given.keys[0].version + 1);
    assert_eq!(hub.sync(&answer, &key, None).await.unwrap_err(), "KeyNotAccepted");
    assert!(hub.sync(&again, &key_of_second, None).await.is_ok());

    hub.apply("2", true).await;
    hub.phase("Disabled").await;
    assert_eq!(hub.sync(&again, &key_of_second, None).await.unwrap_err(), "EnrollmentDisabled");
    assert_eq!(hub.redeem(&second, &request).await.unwrap_err(), "EnrollmentDisabled");
    let reasons =
        async || hub.stage.kubectl(&["get", "events", "-n", "team-a", "-o", "jsonpath={.items[*].reason}"]).await;
    until("it is said", async || {
        let said = reasons().await;
        ["BundleIssued", "ClusterEnrolled", "BundleReused", "CertificateRenewed", "EnrollmentDisabled"]
            .iter()
            .all(|reason| said.contains(reason))
    })
    .await;
    hub.stage.kubectl(&["delete", "clusterenrollment", NAME, "-n", "team-a"]).await;
    until("it is forgotten", async || {
        hub.sync(&again, &key_of_second, None).await == Err("EnrollmentUnknown".to_owned())
    })
    .await;
    assert_eq!(hub.redeem(&second, &request).await.unwrap_err(), "BundleVoid");
}
