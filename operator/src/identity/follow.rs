//! What every replica follows: the issuing CA, the trust bundle, and the settings.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use zen_pki::{Ca, TrustDomain, TrustRoots};
use zen_rotation::Subject;
use zen_rotation::record::{self, State};

use super::{Current, Inner};
use crate::names;
use crate::watching::Watched;

/// One object of the API server.
#[derive(Clone, Debug)]
pub(crate) struct Seen<K> {
    /// Whether the API server was heard at all.
    pub(crate) synced: bool,
    /// The object; none when there is none.
    pub(crate) object: Option<Arc<K>>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self { synced: false, object: None }
    }
}

/// Follows one object by name. While the API server is away, what was seen last counts.
pub(crate) async fn object<K>(api: Api<K>, name: &str, seen: &watch::Sender<Seen<K>>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut changes = std::pin::pin!(watch_object(api, name).default_backoff());
    let mut watched = Watched::new(name);
    while let Some(change) = changes.next().await {
        if let Some(object) = watched.heard(change) {
            seen.send_replace(Seen { synced: true, object: object.map(Arc::new) });
        }
    }
    // A watch has no end of its own; if it had, what was seen last would count.
    std::future::pending::<()>().await;
}

/// Keeps what certificates are issued with. What is there and cannot be used does not replace what can.
pub(super) async fn current(inner: &Inner) {
    let (mut issuer, mut bundle) = (inner.issuer.subscribe(), inner.bundle.subscribe());
    let (mut next, mut rotation) = (inner.next.subscribe(), inner.rotation.subscribe());
    let mut settings = inner.settings.clone();
    loop {
        let (issuing, trusted) = (issuer.borrow_and_update().clone(), bundle.borrow_and_update().clone());
        next.mark_unchanged();
        rotation.mark_unchanged();
        settings.mark_unchanged();
        match build(inner, &issuing, &trusted) {
            Ok(Some(current)) => {
                let text = current.bundle.clone();
                inner.metrics.issuer_until(current.ca.validity().until);
                inner.problem.store(None);
                inner.current.send_replace(Some(Arc::new(current)));
                inner.roots.send_if_modified(|roots| {
                    let changed = roots.as_deref() != Some(text.as_str());
                    *roots = Some(text.as_str().into());
                    changed
                });
            }
            Ok(None) => {}
            Err(reason) => {
                tracing::warn!(%reason, "failed to use the issuing CA; what was there before counts");
                inner.fails(&reason);
            }
        }
        tokio::select! {
            _ = issuer.changed() => {}
            _ = bundle.changed() => {}
            _ = next.changed() => {}
            _ = rotation.changed() => {}
            // An error: nobody changes them any more.
            () = async { if settings.changed().await.is_err() { std::future::pending().await } } => {}
        }
    }
}

/// Which versions of the signing keys count. What cannot be read, or is gone, changes nothing.
pub(super) async fn signing(inner: &Inner) {
    let mut rotation = inner.rotation.subscribe();
    loop {
        let stored = rotation.borrow_and_update().object.as_deref().and_then(state);
        if let Some(versions) = stored.and_then(|state| state.signing_versions()) {
            inner.signing.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&versions);
                *known = Some(versions);
                changed
            });
        }
        if rotation.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// None: not everything is there yet.
fn build(inner: &Inner, issuer: &Seen<Secret>, bundle: &Seen<ConfigMap>) -> Result<Option<Current>, String> {
    let (Some(secret), Some(bundle)) = (&issuer.object, &bundle.object) else { return Ok(None) };
    let settings = inner.settings.borrow().clone();
    let now = inner.now();
    let ca = inner.source.issuer(secret, inner.mesh.namespace(), settings.mesh.trust_domain(), now)?;
    let text = text(bundle).ok_or_else(|| format!("ConfigMap {} has no {}", names::TRUST, names::TRUST_KEY))?;
    let roots = TrustRoots::from_pem(&text).map_err(|error| error.to_string())?;
    ca.verify(&roots, now)
        .map_err(|error| format!("the issuing CA does not verify under the trust bundle: {error}"))?;
    let rotation = inner.rotation.borrow().object.as_deref().and_then(state).unwrap_or_default();
    let next = coming(inner, &rotation, &roots, settings.mesh.trust_domain());
    Ok(Some(Current { ca, next, rotation, roots, bundle: text, settings }))
}

/// The issuing CA that comes: the one that the rotation has made, and no other.
fn coming(inner: &Inner, rotation: &State, roots: &TrustRoots, domain: &TrustDomain) -> Option<Ca> {
    let active = rotation.issuing()?;
    let new = active.new.as_deref()?;
    let secret = inner.next.borrow().object.clone()?;
    let now = inner.now();
    let usable = inner.source.issuer(&secret, inner.mesh.namespace(), domain, now).and_then(|ca| {
        ca.verify(roots, now).map_err(|error| error.to_string())?;
        Ok(ca)
    });
    match usable {
        // With a root comes whatever issuing CA is beneath it.
        Ok(ca) if active.rotation.subject == Subject::Root => {
            let bundle = inner.bundle.borrow().object.as_deref().and_then(text)?;
            let only = TrustRoots::single(&bundle, new)?;
            Some(ca).filter(|ca| ca.verify(&only, now).is_ok())
        }
        Ok(ca) => Some(ca).filter(|ca| ca.fingerprint() == new),
        Err(reason) => {
            tracing::warn!(%reason, "the next issuing CA cannot be used; the one before counts");
            None
        }
    }
}

/// How a rotation stands, in its ConfigMap. What cannot be read counts for nothing: then all is as it was before.
pub(super) fn state(rotation: &ConfigMap) -> Option<State> {
    let text = rotation.data.as_ref()?.get(record::STATE)?;
    serde_json::from_str(text)
        .inspect_err(|error| tracing::error!(%error, "the state of the rotation cannot be read"))
        .ok()
}

/// The trust bundle in its ConfigMap.
pub(super) fn text(bundle: &ConfigMap) -> Option<String> {
    bundle.data.as_ref()?.get(names::TRUST_KEY).cloned()
}
