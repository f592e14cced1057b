//! Workload certificates from cert-manager (T-03): a `CertificateRequest` for each, approved and signed by whoever the cluster's
//! administrators chose.
//!
//! Who may have which name is decided before a request is made, exactly as for the built-in CA, and what comes back is judged
//! before it is handed over: the issuer is trusted to sign, not to choose. Certificates of DNS names, for clients that know the
//! mesh's own root, stay with the built-in CA.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{DeleteParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;
use zen_compile::mesh::CertManager;
use zen_identity::client::Clock;
use zen_model::reason::TrustRefusal;
use zen_pki::{Names, Signed, SigningRequest, TrustRoots};

use crate::names;

/// A pod waits ten seconds for its certificate, and asks again.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is to be signed.
pub(super) struct Ask<'a> {
    /// PEM.
    pub(super) csr: &'a str,
    pub(super) request: &'a SigningRequest,
    /// The ServiceAccount that it is for.
    pub(super) account: &'a str,
    pub(super) due: &'a Names,
    pub(super) roots: &'a TrustRoots,
    pub(super) clock: &'a Clock,
    pub(super) lifetime: Duration,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to ask cert-manager: {0}")]
    Kube(#[from] kube::Error),
    #[error("failed to follow the CertificateRequest: {0}")]
    Wait(#[from] kube::runtime::wait::Error),
    #[error("the CertificateRequest was refused: {0}")]
    Denied(String),
    #[error("the issuer failed: {0}")]
    Failed(String),
    #[error("nobody has signed the CertificateRequest in time: {0}")]
    TimedOut(String),
    #[error(transparent)]
    Unfit(#[from] zen_pki::Error),
}

impl Error {
    pub(super) fn reason(&self) -> TrustRefusal {
        match self {
            Self::Denied(_) => TrustRefusal::IssuerDenied,
            Self::Unfit(_) => TrustRefusal::IssuerUnfit,
            Self::Kube(_) | Self::Wait(_) | Self::Failed(_) | Self::TimedOut(_) => TrustRefusal::IssuerUnavailable,
        }
    }
}

/// Has it signed. The request object is deleted whatever comes of it.
pub(super) async fn sign(
    client: &Client,
    namespace: &str,
    issuer: &CertManager,
    ask: &Ask<'_>,
) -> Result<Signed, Error> {
    ask.request.check(ask.due).map_err(|refused| Error::Denied(refused.to_string()))?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "CertificateRequest"));
    let requests: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let object: DynamicObject = serde_json::from_value(object(&kind, issuer, ask)).map_err(kube::Error::SerdeError)?;
    let made = requests.create(&PostParams::default(), &object).await?;
    let made = Made { name: made.metadata.name.unwrap_or_default(), requests };
    let last = Mutex::new(Value::Null);
    let decided = await_condition(made.requests.clone(), &made.name, |request: Option<&DynamicObject>| {
        let Some(request) = request else { return true };
        last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&request.data);
        outcome(&request.data).is_some()
    });
    let Ok(decided) = timeout(PATIENCE, decided).await else {
        return Err(Error::TimedOut(said(&last.into_inner().unwrap_or_else(PoisonError::into_inner))));
    };
    let decided = decided?.ok_or_else(|| Error::Failed("somebody has deleted it".to_owned()))?;
    let chain = outcome(&decided.data).unwrap_or(Err(Error::Failed("it is not decided".to_owned())))?;
    // Now, and not when it was asked for: issuers need not backdate, and cert-manager's do not.
    Ok(ask.request.accept(&chain, ask.due, ask.roots, (ask.clock)(), ask.lifetime)?)
}

fn object(kind: &ApiResource, issuer: &CertManager, ask: &Ask<'_>) -> Value {
    json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "generateName": format!("{}-", ask.account),
            "labels": {
                names::NAME_LABEL: names::NAME,
                names::COMPONENT_LABEL: ask.account,
                names::MANAGED_BY_LABEL: names::MANAGED_BY,
            },
        },
        "spec": {
            "request": STANDARD.encode(ask.csr),
            "duration": format!("{}s", ask.lifetime.as_secs()),
            "isCA": false,
            "usages": ["digital signature", "server auth", "client auth"],
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
        },
    })
}

/// The chain, or why there will be none; none while it is not decided.
fn outcome(request: &Value) -> Option<Result<String, Error>> {
    let condition = |name: &str| {
        let conditions = request["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().find(|condition| condition["type"] == name)
    };
    let is_true = |name: &str| condition(name).is_some_and(|condition| condition["status"] == "True");
    if is_true("Denied") || is_true("InvalidRequest") {
        return Some(Err(Error::Denied(said(request))));
    }
    if condition("Ready").is_some_and(|ready| ready["reason"] == "Failed" || ready["reason"] == "Denied") {
        return Some(Err(Error::Failed(said(request))));
    }
    if !is_true("Ready") {
        return None;
    }
    let chain = request["status"]["certificate"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let chain = chain.and_then(|bytes| String::from_utf8(bytes).ok());
    Some(chain.ok_or_else(|| Error::Failed("it is ready and holds no certificate".to_owned())))
}

/// What its conditions say, for people.
fn said(request: &Value) -> String {
    let conditions = request["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = conditions.iter().map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
    });
    let words = words.collect::<Vec<_>>().join("; ");
    if words.is_empty() { "no condition yet; is cert-manager running?".to_owned() } else { words }
}

/// A request that is there. Deleted when it has served, or when nobody waits for it any more.
struct Made {
    requests: Api<DynamicObject>,
    name: String,
}

impl Drop for Made {
    fn drop(&mut self) {
        let (requests, name) = (self.requests.clone(), std::mem::take(&mut self.name));
        tokio::spawn(async move {
            if let Err(error) = requests.delete(&name, &DeleteParams::default()).await {
                tracing::warn!(%error, name, "failed to delete a CertificateRequest that has served");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zen_model::Timestamp;
    use zen_pki::{Ca, signing_request};
    use zen_testkit::api_server::{ApiServer, Call, Reply};

    use super::*;

    const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/zen-mesh/certificaterequests";

    fn request(conditions: &[(&str, &str, &str)], certificate: Option<&str>) -> Value {
        let conditions = conditions.iter().map(
            |(name, status, reason)| json!({"type": name, "status": status, "reason": reason, "message": "in words"}),
        );
        let mut status = json!({"conditions": conditions.collect::<Vec<_>>()});
        if let Some(certificate) = certificate {
            status["certificate"] = STANDARD.encode(certificate).into();
        }
        json!({"status": status})
    }

    #[test]
    fn what_a_request_has_come_to() {
        let approved = ("Approved", "True", "cert-manager.io");
        let undecided = [
            json!({}),
            request(&[], None),
            request(&[approved], None),
            request(&[approved, ("Ready", "False", "Pending")], None),
            request(&[("Denied", "False", "x")], None),
        ];
        for request in undecided {
            assert!(outcome(&request).is_none(), "{request}");
        }
        for (request, reason) in [
            (request(&[("Denied", "True", "policy")], None), TrustRefusal::IssuerDenied),
            (request(&[approved, ("InvalidRequest", "True", "x")], None), TrustRefusal::IssuerDenied),
            (request(&[approved, ("Ready", "False", "Failed")], None), TrustRefusal::IssuerUnavailable),
            (request(&[approved, ("Ready", "True", "Issued")], None), TrustRefusal::IssuerUnavailable),
        ] {
            let error = outcome(&request).expect("decided").expect_err("no certificate");
            assert_eq!(error.reason(), reason, "{request}");
        }
        let ready = request(&[approved, ("Ready", "True", "Issued")], Some("PEM"));
        assert_eq!(outcome(&ready).expect("decided").expect("a certificate"), "PEM");
        // Denied after all: what is there already does not count.
        let both = request(&[("Denied", "True", "policy"), ("Ready", "True", "Issued")], Some("PEM"));
        assert!(outcome(&both).expect("decided").is_err());
    }

    /// Nothing of it was valid yet when it was asked for.
    #[tokio::test]
    async fn a_certificate_counts_when_it_comes() {
        let (began, server) = (Timestamp::now(), ApiServer::new());
        let signed_at = began.plus(Duration::from_mins(10));
        let root = Ca::new_root(&"zen-mesh.local".parse().expect("valid"), began).expect("a root");
        let due = Names::Workload("spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-ingester".parse().expect("valid"));
        let (csr, _) = signing_request(&due).expect("a request");
        let asked = SigningRequest::from_pem(&csr).expect("a request");
        let lifetime = Duration::from_hours(1);
        let issuer = root.issue_intermediate(began).expect("an issuing CA");
        let chain = issuer.sign_csr(&asked, &due, signed_at, lifetime).expect("signed").chain_pem;
        let mut ready = request(&[("Ready", "True", "Issued")], Some(&chain));
        ready["metadata"] = json!({"name": "zen-ingester-x", "namespace": "zen-mesh"});

        let time = Arc::new(Mutex::new(began));
        let clock: Clock = Arc::new({
            let time = Arc::clone(&time);
            move || *time.lock().expect("no panic")
        });
        let made = move |received: &zen_testkit::api_server::Received| {
            *time.lock().expect("no panic") = signed_at;
            let mut object = received.body.clone();
            object["metadata"]["name"] = "zen-ingester-x".into();
            object
        };
        server.expect(Call::post(REQUESTS), Reply::with(made));
        let of_it = Call::get(REQUESTS).query("fieldSelector", "metadata.name=zen-ingester-x");
        server.expect(of_it, Reply::list(vec![ready]));
        server.expect(Call::delete(&format!("{REQUESTS}/zen-ingester-x")), Reply::ok(json!({})));
        let roots = TrustRoots::from_pem(root.certificate_pem()).expect("roots");
        let named = CertManager {
            name: "corporate".to_owned(),
            kind: "Issuer".to_owned(),
            group: "cert-manager.io".to_owned(),
            ca: String::new(),
        };
        let account = "zen-ingester";
        let ask = Ask { csr: &csr, request: &asked, account, due: &due, roots: &roots, clock: &clock, lifetime };
        let signed = sign(&server.client(), "zen-mesh", &named, &ask).await.expect("it is what was asked for");
        assert_eq!(signed.chain_pem, chain);
        server.done().await;
    }
}
