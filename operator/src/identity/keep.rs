//! What the leader does: root, issuing CA and trust bundle come to be, and the issuing CA is renewed in time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use zen_identity::Component;
use zen_model::Timestamp;
use zen_model::reason::TrustRefusal;
use zen_pki::Ca;

use super::audit::administered;
use super::decide::{Facts, Issuer, Step, decide, late};
use super::source::{CERTIFICATE, Found, KEY, Root, Source};
use super::{CA, ISSUER, ISSUER_NEXT, Inner, follow, trusted};
use crate::object::Present;
use crate::writer::{Error as WriteError, Notice, Requeue};
use crate::{Object, Writer, names};

/// The wall clock and the root are looked at this often: timers stand still while a machine sleeps.
const LOOK: Duration = Duration::from_hours(1);
/// After something that only people can mend.
const BLOCKED: Duration = Duration::from_mins(1);
/// Until a store shows what was written.
const ECHO: Duration = Duration::from_secs(5);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read the root CA: {0}")]
    Read(#[from] kube::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
}

/// What to do after a step.
enum Next {
    /// Go on at once: what comes next does not come from a store.
    Again,
    /// A store will show it.
    Echo,
    Blocked(String),
    Rest(Timestamp),
}

pub(super) async fn forever(inner: &Inner, writer: &Writer, owner: Option<&Value>) {
    let (mut issuer, mut bundle) = (inner.issuer.subscribe(), inner.bundle.subscribe());
    let (mut rotation, mut settings) = (inner.rotation.subscribe(), inner.settings.clone());
    let mut failures = 0_u32;
    loop {
        let _ = issuer.wait_for(|seen| seen.synced).await;
        let _ = bundle.wait_for(|seen| seen.synced).await;
        let _ = rotation.wait_for(|seen| seen.synced).await;
        issuer.mark_unchanged();
        bundle.mark_unchanged();
        rotation.mark_unchanged();
        settings.mark_unchanged();
        let wait = match step(inner, writer, owner).await {
            Ok(Next::Again) => {
                failures = 0;
                continue;
            }
            Ok(Next::Echo) => ECHO,
            Ok(Next::Rest(until)) => {
                failures = 0;
                until.since(inner.now()).min(LOOK)
            }
            Ok(Next::Blocked(reason)) => {
                blocked(inner, writer, &reason).await;
                BLOCKED
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(%error, "failed to keep the CA; trying again");
                match error {
                    Error::Write(error) if error.requeue() == Requeue::Change => {
                        blocked(inner, writer, &error.to_string()).await;
                        BLOCKED
                    }
                    _ => zen_pki::pause(Duration::ZERO, failures),
                }
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            _ = issuer.changed() => {}
            _ = bundle.changed() => {}
            _ = rotation.changed() => {}
            () = inner.wake.notified() => {}
            // An error: nobody changes them any more.
            () = async { if settings.changed().await.is_err() { std::future::pending().await } } => {}
        }
    }
}

async fn step(inner: &Inner, writer: &Writer, owner: Option<&Value>) -> Result<Next, Error> {
    let (namespace, domain, now) = (inner.mesh.namespace(), inner.mesh.trust_domain(), inner.now());
    let root = inner.source.root(&inner.client, namespace, domain, now).await?;
    let (issuer, bundle) = (inner.issuer.borrow().object.clone(), inner.bundle.borrow().object.clone());
    let there = match &root {
        Found::There(root) => Some(root),
        Found::Missing | Found::Unusable(_) => None,
    };
    if let Some(root) = there {
        inner.metrics.root_until(root.ca.validity().until);
    }
    // Both read after the root: where that has just been taken away, what takes its place is known.
    let rotation = inner.rotation_now();
    let next = if there.is_none() || trusted::beside(&rotation).is_some() {
        inner.source.next_root(&inner.client, namespace, domain, now).await?
    } else {
        None
    };
    let beside = next.as_ref().map(|next| (next.certificate_pem(), next.fingerprint()));
    let beside = beside.as_ref().map(|(pem, fingerprint)| (*pem, fingerprint.as_str()));
    let roots = there.map(|root| trusted::roots((&root.bundle, &root.ca.fingerprint()), beside, &rotation));
    let trusted = match roots.as_deref().map(|roots| inner.settings.borrow().bundle(roots)).transpose() {
        Ok(trusted) => trusted,
        Err(error) => return Ok(Next::Blocked(format!("mesh.certificates.certManager.ca: {error}"))),
    };
    let facts = Facts {
        issuer: look(inner, issuer.as_deref(), there, roots.as_deref(), now),
        next_root_is_there: next.is_some(),
        next_issuer_is_due: next.as_ref().is_some_and(|next| is_next_issuer_due(inner, next, now)),
        bundle_is_current: trusted.is_some() && bundle.as_deref().and_then(follow::text) == trusted,
        may_make_root: inner.source == Source::Secret,
        root: match &root {
            Found::Missing => Found::Missing,
            Found::Unusable(reason) => Found::Unusable(reason.clone()),
            Found::There(_) => Found::There(()),
        },
        now,
    };
    let step = decide(&facts);
    match (&step, there) {
        (Step::MakeRoot, _) => {
            let made = Ca::new_root(domain, now)?;
            // One that another operator makes at the same time wins or loses here; the next look reads what is there.
            if writer.create(&secret(namespace, CA, &made, made.key_pem().expose(), true)).await? {
                tracing::info!(secret = CA, until = %made.validity().until, "made a root CA");
                note(inner, CA, "made a root CA", &made);
            }
            Ok(Next::Again)
        }
        (Step::AdoptRoot, _) => {
            let Some(next) = &next else { return Ok(Next::Again) };
            if writer.create(&secret(namespace, CA, next, next.key_pem().expose(), true)).await? {
                tracing::info!(secret = CA, until = %next.validity().until, "the next root CA is in use");
                note(inner, CA, "put the next root CA in the place of the one before", next);
            }
            Ok(Next::Again)
        }
        (Step::ApplyBundle, Some(_)) => {
            let object =
                Object::new::<ConfigMap>(Some(namespace), names::TRUST, json!({"data": {names::TRUST_KEY: trusted}}));
            let object = owner.map_or_else(|| object.clone(), |owner| object.clone().owned_by(owner));
            let object = object.component("operator");
            writer.apply(&object, bundle.as_deref().map(|bundle| bundle as &dyn Present)).await?;
            Ok(Next::Echo)
        }
        (Step::MakeIssuer, Some(root)) => {
            let made = root.ca.issue_intermediate(now)?;
            if writer
                .create(&secret(namespace, ISSUER, &made, &inner.source.stored(namespace, &root.ca, &made), false))
                .await?
            {
                tracing::info!(secret = ISSUER, until = %made.validity().until, "made an issuing CA");
                note(inner, ISSUER, "made an issuing CA", &made);
            }
            Ok(Next::Echo)
        }
        (Step::ReplaceIssuer(why), Some(root)) => {
            let made = root.ca.issue_intermediate(now)?;
            let observed = issuer.as_deref().map(|issuer| issuer as &dyn Present);
            let stored = inner.source.stored(namespace, &root.ca, &made);
            writer.apply(&secret(namespace, ISSUER, &made, &stored, false), observed).await?;
            tracing::info!(secret = ISSUER, why, until = %made.validity().until, "made a new issuing CA");
            note(inner, ISSUER, &format!("made a new issuing CA: {why}"), &made);
            Ok(Next::Echo)
        }
        (Step::ReplaceNextIssuer, _) => {
            let Some(next) = &next else { return Ok(Next::Again) };
            replace_next_issuer(inner, writer, next, now).await?;
            Ok(Next::Echo)
        }
        (Step::Blocked(reason), _) => Ok(Next::Blocked(reason.clone())),
        (Step::Rest(until), _) => Ok(Next::Rest(*until)),
        (Step::ApplyBundle | Step::MakeIssuer | Step::ReplaceIssuer(_), None) => {
            Ok(Next::Blocked("there is no root CA".to_owned()))
        }
    }
}

async fn replace_next_issuer(inner: &Inner, writer: &Writer, root: &Ca, now: Timestamp) -> Result<(), Error> {
    let namespace = inner.mesh.namespace();
    let made = root.issue_intermediate(now)?;
    let there = inner.next.borrow().object.clone();
    let observed = there.as_deref().map(|there| there as &dyn Present);
    let stored = inner.source.stored(namespace, root, &made);
    writer.apply(&secret(namespace, ISSUER_NEXT, &made, &stored, false), observed).await?;
    tracing::info!(secret = ISSUER_NEXT, until = %made.validity().until, "made a new issuing CA of the next root");
    note(inner, ISSUER_NEXT, "made a new issuing CA of the next root", &made);
    Ok(())
}

/// While the root is exchanged pods have their certificates from the issuing CA beneath this one.
fn is_next_issuer_due(inner: &Inner, root: &Ca, now: Timestamp) -> bool {
    let (namespace, domain) = (inner.mesh.namespace(), inner.mesh.trust_domain());
    let Some(secret) = inner.next.borrow().object.clone() else { return false };
    let Ok(issuer) = inner.source.issuer(&secret, namespace, domain, now) else { return false };
    let is_beneath = root.roots().is_ok_and(|roots| issuer.verify(&roots, now).is_ok());
    is_beneath && now >= late(&issuer.validity())
}

/// What was done to the CA is on the record.
fn note(inner: &Inner, secret: &str, done: &str, made: &Ca) {
    let object = format!("Secret/{}/{secret}", inner.mesh.namespace());
    let record = administered(inner.mesh.id(Component::Operator), &object, done);
    inner.audit.note(record.detail("until", &made.validity().until.to_string()));
}

/// The issuing CA as the store has it; `trusted` are the roots that pods are to trust, PEM.
fn look(
    inner: &Inner,
    secret: Option<&Secret>,
    root: Option<&Root>,
    trusted: Option<&str>,
    now: Timestamp,
) -> Found<Issuer> {
    let Some(secret) = secret else { return Found::Missing };
    let (namespace, domain) = (inner.mesh.namespace(), inner.mesh.trust_domain());
    let rotates = inner.rotates();
    let expired = |secret: &Secret| {
        // One that has ended can still be read; it is exchanged like one that is due.
        inner.source.issuer(secret, namespace, domain, Timestamp(0)).is_ok_and(|ca| now >= ca.validity().until)
    };
    if !inner.source.is_stored_right(namespace, secret, root) {
        let validity = zen_pki::Validity { from: Timestamp(0), until: Timestamp(0) };
        return Found::There(Issuer { validity, is_stored_right: false, is_of_root: true, is_of_mesh: true, rotates });
    }
    match inner.source.issuer(secret, namespace, domain, now) {
        Ok(ca) => {
            let roots = trusted.map(zen_pki::TrustRoots::from_pem);
            let is_of_root = roots.is_some_and(|roots| roots.is_ok_and(|roots| ca.verify(&roots, now).is_ok()));
            let is_of_mesh = ca.scope() == Some(&zen_pki::Scope::Hub);
            Found::There(Issuer { validity: ca.validity(), is_stored_right: true, is_of_root, is_of_mesh, rotates })
        }
        Err(_) if expired(secret) => {
            let past = Timestamp(0);
            let validity = zen_pki::Validity { from: past, until: past };
            Found::There(Issuer { validity, is_stored_right: true, is_of_root: true, is_of_mesh: true, rotates })
        }
        Err(reason) => Found::Unusable(reason),
    }
}

pub(super) fn secret(namespace: &str, name: &str, ca: &Ca, key: &[u8], is_root: bool) -> Object {
    let mut body = json!({
        "type": "kubernetes.io/tls",
        "data": {
            CERTIFICATE: STANDARD.encode(ca.certificate_pem()),
            KEY: STANDARD.encode(key),
        },
    });
    if is_root {
        // Nobody changes a root by mistake: to exchange it, it has to be deleted.
        body["immutable"] = true.into();
    }
    Object::new::<Secret>(Some(namespace), name, body).component("operator")
}

/// Says where people look what they have to mend. What is issued with goes on as long as it is good.
async fn blocked(inner: &Inner, writer: &Writer, reason: &str) {
    let namespace = inner.mesh.namespace();
    tracing::error!(source = inner.source.describe(namespace), %reason, "the CA cannot be kept");
    inner.fails(reason);
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(names::WORKLOADS.to_owned()),
        ..ObjectReference::default()
    };
    let notice =
        Notice { warning: true, reason: TrustRefusal::IssuerUnavailable.code(), action: "KeepCa", note: reason };
    if let Ok(Err(error)) = timeout(ECHO, writer.event(&regarding, &notice)).await {
        tracing::debug!(%error, "failed to write an Event");
    }
}
