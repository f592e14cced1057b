//! Every certificate of the mesh, as `kubectl zen certs` shows it.

use std::collections::HashMap;
use std::sync::Arc;

use zen_identity::Component;
use zen_pki::Presented;
use zen_rotation::Subject;
use zen_rotation::inventory::{Certificate, Inventory, Kind, Standing};
use zen_rotation::record::Active;

use super::field::Pod;
use super::servers::Servers;
use crate::enroll::Cluster;
use crate::identity::{CA, CA_NEXT, ISSUER, ISSUER_NEXT, Next, Service};
use crate::names;

/// What was met.
pub(super) struct Met<'a> {
    pub(super) pods: &'a [Pod],
    /// By UID.
    pub(super) presented: &'a HashMap<Arc<str>, Presented>,
    pub(super) servers: &'a Servers,
    /// This replica of the operator, and what it presents itself with. Of the others nobody sees that.
    pub(super) own: (&'a str, Option<Presented>),
    /// Whether what sources see is the user's own.
    pub(super) own_intake: bool,
}

pub(super) fn inventory(
    service: &Service,
    met: &Met<'_>,
    next: &Next,
    clusters: &[Cluster],
    active: Option<&Active>,
) -> Inventory {
    let mut certificates = Vec::new();
    // Signing keys have no certificate.
    let active = active.filter(|active| active.issues());
    let root = active.filter(|active| active.rotation.subject == Subject::Root);
    for (fingerprint, validity) in service.bundle().as_deref().map(zen_pki::certificates).unwrap_or_default() {
        let (name, state) = match root {
            Some(root) if root.new.as_ref() == Some(&fingerprint) => (format!("Secret/{CA_NEXT}"), Standing::Next),
            Some(root) if root.everybody() => (format!("Secret/{CA}"), Standing::Old),
            Some(_) => (format!("Secret/{CA}"), Standing::InUse),
            None => (format!("ConfigMap/{}", names::TRUST), Standing::InUse),
        };
        let (from, until) = (validity.from, validity.until);
        certificates.push(Certificate { kind: Kind::Root, name, fingerprint, issuer: None, from, until, state });
    }
    let issuers = [(ISSUER, &next.issuer, Standing::InUse), (ISSUER_NEXT, &next.coming, Standing::Next)];
    for (name, issuer, state) in issuers {
        if let Some((fingerprint, validity)) = issuer {
            certificates.push(Certificate {
                kind: Kind::Issuer,
                name: format!("Secret/{name}"),
                fingerprint: fingerprint.clone(),
                issuer: None,
                from: validity.from,
                until: validity.until,
                state,
            });
        }
    }
    let new = match root {
        // With a root comes an issuing CA of its own.
        Some(_) => next.coming.as_ref().map(|(issuer, _)| issuer.as_str()),
        None => active.filter(|active| active.issues()).and_then(|active| active.new.as_deref()),
    };
    let in_use = next.issuer.as_ref().map(|(issuer, _)| issuer.as_str());
    for cluster in clusters {
        let state = match root {
            Some(root) if cluster.root == root.new => Standing::Next,
            Some(root) if root.everybody() => Standing::Old,
            _ => Standing::InUse,
        };
        certificates.push(Certificate {
            kind: Kind::Issuer,
            name: format!("ClusterEnrollment/{}", cluster.name),
            fingerprint: cluster.told.as_ref().map(|told| told.holds.issuer.clone()).unwrap_or_default(),
            issuer: cluster.root.clone(),
            // One of a release before did not write it down.
            from: cluster.issued_at.unwrap_or(cluster.until),
            until: cluster.until,
            state,
        });
    }
    let standing = |issuer: Option<&str>| {
        if issuer.is_some() && issuer == new {
            Standing::Next
        } else if issuer == in_use && (new.is_none() || new == in_use) {
            Standing::InUse
        } else {
            Standing::Old
        }
    };
    let workloads = met.pods.iter().filter_map(|pod| {
        // Of the webhook others see what it serves.
        let kind = if pod.component == Component::ZenLock { Kind::Serving } else { Kind::Workload };
        let presented = met.presented.get(&pod.uid)?;
        Some((&*pod.name, kind, presented, standing(presented.issuer.as_deref())))
    });
    let (name, presented) = &met.own;
    let own = presented.iter().map(|own| (*name, Kind::Workload, own, standing(own.issuer.as_deref())));
    let servers = met.servers.presented().map(|(pod, presented)| {
        // Of no issuer that is exchanged here.
        let is_foreign = pod.component == Component::Ingester && met.own_intake;
        let state = if is_foreign { Standing::InUse } else { standing(presented.issuer.as_deref()) };
        (&*pod.name, Kind::Serving, presented, state)
    });
    let mut of_pods: Vec<_> = workloads.chain(own).chain(servers).collect();
    of_pods.sort_by_key(|(pod, kind, ..)| (*pod, *kind));
    certificates.extend(of_pods.into_iter().map(|(pod, kind, presented, state)| Certificate {
        kind,
        name: format!("Pod/{pod}"),
        fingerprint: presented.leaf.clone(),
        issuer: presented.issuer.clone(),
        from: presented.validity.from,
        until: presented.validity.until,
        state,
    }));
    Inventory { certificates }
}
