//! Every certificate of the mesh, as `kubectl zen certs` shows it.

use std::collections::HashMap;
use std::sync::Arc;

use zen_identity::Component;
use zen_rotation::Subject;
use zen_rotation::inventory::{Certificate, Inventory, Kind, Standing};
use zen_rotation::record::Active;

use super::field::{Pod, Presented};
use crate::enroll::Cluster;
use crate::identity::{CA, CA_NEXT, ISSUER, ISSUER_NEXT, Next, Service};
use crate::names;

pub(super) fn inventory(
    service: &Service,
    pods: &[Pod],
    met: &HashMap<Arc<str>, Presented>,
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
    let mut pods: Vec<_> = pods.iter().collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    for pod in pods {
        let Some(met) = met.get(&pod.uid) else { continue };
        let issuer = met.issuer.as_deref();
        let state = if issuer.is_some() && issuer == new {
            Standing::Next
        } else if issuer == in_use && (new.is_none() || new == in_use) {
            Standing::InUse
        } else {
            Standing::Old
        };
        certificates.push(Certificate {
            // Of the webhook others see what it serves.
            kind: if pod.component == Component::ZenLock { Kind::Serving } else { Kind::Workload },
            name: format!("Pod/{}", pod.name),
            fingerprint: met.leaf.clone(),
            issuer: met.issuer.clone(),
            from: met.validity.from,
            until: met.validity.until,
            state,
        });
    }
    Inventory { certificates }
}
