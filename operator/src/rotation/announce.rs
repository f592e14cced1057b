//! What is said of a rotation where people look: an Event of its ConfigMap, and the record.

use k8s_openapi::api::core::v1::ObjectReference;
use zen_model::reason::RotationReason;
use zen_rotation::Phase;
use zen_rotation::record::{Active, CONFIG_MAP};

use crate::identity::Service;
use crate::writer::{Notice, Writer};

/// How a rotation stands now.
pub(super) async fn announce(service: &Service, writer: &Writer, namespace: &str, active: &Active) {
    let (rotation, reason) = (&active.rotation, active.rotation.reason());
    let code = reason.row().code;
    let note = note(active);
    tracing::info!(subject = rotation.subject.label(), phase = rotation.phase.label(), code, note, "rotation");
    service.did(&format!("ConfigMap/{namespace}/{CONFIG_MAP}"), &note, code);
    let warning = !matches!(reason, RotationReason::RotationProgressing | RotationReason::RotationFinished);
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(CONFIG_MAP.to_owned()),
        ..ObjectReference::default()
    };
    let notice = Notice { warning, reason: code, action: "Rotate", note: &note };
    if let Err(error) = writer.event(&regarding, &notice).await {
        // The condition says the same.
        tracing::debug!(%error, "failed to write an Event");
    }
}

fn note(active: &Active) -> String {
    let subject = active.rotation.subject.label();
    let what = match &active.rotation.phase {
        Phase::Planned => "it begins".to_owned(),
        Phase::Trusting => "everybody learns to trust the new".to_owned(),
        Phase::Canary { pods } => {
            format!("to be used first by {}", pods.iter().cloned().collect::<Vec<_>>().join(", "))
        }
        Phase::Probing { .. } => "the first are watched".to_owned(),
        Phase::RollingOut => "to be used by all".to_owned(),
        Phase::Verifying => "all are watched".to_owned(),
        Phase::Overlap => "what was made with the old may still be met".to_owned(),
        Phase::Retiring => "the old is given up".to_owned(),
        Phase::Finished => "done".to_owned(),
        Phase::RollingBack { .. } => "everybody goes back to the old".to_owned(),
        Phase::Distrusting { .. } => "the new is given up".to_owned(),
        Phase::RolledBack { .. } => "taken back".to_owned(),
    };
    let detail = if active.detail.is_empty() { String::new() } else { format!(" ({})", active.detail) };
    format!("{subject}: {what}{detail}")
}
