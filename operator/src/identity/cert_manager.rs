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
use zen_model::Timestamp;
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
    pub(super) now: Timestamp,
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
    Ok(ask.request.accept(&chain, ask.due, ask.roots, ask.now, ask.lifetime)?)
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
    use super::*;

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
}
