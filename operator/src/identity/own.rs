//! The operator's own certificates: it signs them itself, on every replica.

use std::time::Duration;

use zen_compile::mesh::CertManager;
use zen_identity::Component;
use zen_identity::wire::Usage;
use zen_model::Timestamp;
use zen_pki::{HotCertificate, Identity, KeyPairAndChain, Names, SigningRequest, signing_request};

use super::{Current, Inner, audit, cert_manager};
use crate::names;

/// The wall clock is looked at this often.
const LOOK: Duration = Duration::from_mins(1);

/// Between two renewals at least.
const BREATH: Duration = Duration::from_secs(10);

/// What the operator presents; swapped in place.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// To the pods' control API.
    pub(super) identity: Identity,
    /// To who asks for certificates.
    pub(super) serving: HotCertificate,
}

/// Waits until there is something to present.
pub(super) async fn wait(inner: &Inner) -> Own {
    let mut own = inner.own.subscribe();
    loop {
        if let Some(own) = own.borrow_and_update().clone() {
            return own;
        }
        if own.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes them once there is an issuing CA, again whenever that or the trust bundle changes, and at two thirds of their
/// lifetime.
pub(super) async fn keep(inner: &Inner) {
    let mut changes = inner.current.subscribe();
    let mut failures = 0_u32;
    loop {
        let current = changes.borrow_and_update().clone();
        let of = current.as_deref().map(of);
        let renewed = match current {
            None => None,
            Some(current) => Some(renew(inner, &current).await),
        };
        let wait = match renewed {
            None => LOOK,
            Some(Ok(due)) => {
                failures = 0;
                // An issuing CA at its end gives what is due at once: that must not spin.
                due.since(inner.now()).max(BREATH)
            }
            Some(Err(reason)) => {
                failures = failures.saturating_add(1);
                tracing::warn!(%reason, "failed to issue the operator's own certificates; those in use stay");
                zen_pki::pause(Duration::ZERO, failures)
            }
        };
        let due = inner.now().plus(wait);
        loop {
            let left = due.since(inner.now());
            if left.is_zero() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                _ = changes.changed() => if changes.borrow_and_update().as_deref().map(self::of) != of { break },
            }
        }
    }
}

/// What they are made of: whatever else changes leaves them as they are.
fn of(current: &Current) -> ([String; 2], String, crate::identity::Settings) {
    let issuers = [current.own().fingerprint(), current.serves().fingerprint()];
    (issuers, current.bundle.clone(), current.settings.clone())
}

/// When to do it again.
async fn renew(inner: &Inner, current: &Current) -> Result<Timestamp, cert_manager::Error> {
    let namespace = inner.mesh.namespace();
    let (now, lifetime) = (inner.now(), current.settings.lifetime);
    let workload = match &current.settings.cert_manager {
        Some(issuer) => ask(inner, current, issuer).await?,
        None => current.own().issue_workload_at(inner.mesh.id(Component::Operator), now, lifetime)?,
    };
    let service = names::OPERATOR;
    let mut served = vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
    if !current.settings.hub.is_empty() {
        served.push(format!("{}.{namespace}.svc", names::OPERATOR_HUB));
        served.extend(current.settings.hub.iter().cloned());
    }
    let serving = current.serves().issue_server_at(&served, now, lifetime)?;
    let id = inner.mesh.id(Component::Operator);
    for (usage, issued) in [(Usage::Workload, &workload), (Usage::Serving, &serving)] {
        inner.audit.note(audit::own(id, namespace, usage, issued.validity().until));
    }
    let there = inner.own.borrow().clone();
    if let Some(own) = there {
        own.identity.replace_roots(&current.roots)?;
        own.identity.replace(&workload)?;
        own.serving.replace(&serving)?;
    } else {
        let identity = Identity::new(&workload, &current.roots)?;
        inner.own.send_replace(Some(Own { identity, serving: HotCertificate::new(&serving)? }));
    }
    Ok(zen_pki::renewal(&workload.validity()).min(zen_pki::renewal(&serving.validity())))
}

/// The operator's identity from another issuer, as any pod's.
async fn ask(inner: &Inner, current: &Current, issuer: &CertManager) -> Result<KeyPairAndChain, cert_manager::Error> {
    let due = Names::Workload(inner.mesh.id(Component::Operator).clone());
    let (csr, key) = signing_request(&due)?;
    let request = SigningRequest::from_pem(&csr).map_err(|error| cert_manager::Error::Denied(error.to_string()))?;
    let ask = cert_manager::Ask {
        csr: &csr,
        request: &request,
        account: Component::Operator.account(),
        due: &due,
        roots: &current.roots,
        clock: &inner.clock,
        lifetime: current.settings.lifetime,
    };
    let signed = cert_manager::sign(&inner.client, inner.mesh.namespace(), issuer, &ask).await?;
    Ok(KeyPairAndChain::from_pem(&signed.chain_pem, &key)?)
}
