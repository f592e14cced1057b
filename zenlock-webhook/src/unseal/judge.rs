//! Whether a pod, or a plane, may have a ZenLock opened: plain functions of what the API server says now.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use zen_crds::{SubjectKind, ZenLock};
use zen_identity::Component;
use zen_model::reason::LockRefusal;
use zen_pod::Caller;

use super::wire::Subject;
use crate::admit::{REFRESH, UNSEAL};
use crate::fetch::Arguments;

/// The ZenLocks that a live pod was admitted for.
pub(super) fn admitted(caller: &Caller, pod: Option<&Pod>) -> Result<Vec<String>, LockRefusal> {
    let pod = pod.ok_or(LockRefusal::PodNotFound)?;
    if pod.metadata.uid.as_deref() != Some(&caller.pod_uid) {
        return Err(LockRefusal::PodReplaced);
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(LockRefusal::PodEnding);
    }
    let spec = pod.spec.as_ref().ok_or(LockRefusal::NotAdmitted)?;
    if spec.service_account_name.as_deref().unwrap_or("default") != caller.account {
        return Err(LockRefusal::AccountDiffers);
    }
    // The arguments of a container cannot be changed; annotations can.
    let ours = spec.init_containers.iter().flatten().find(|container| container.name == UNSEAL);
    let arguments = ours.and_then(|container| Arguments::of_args(container.args.as_deref()?));
    arguments.map(|arguments| arguments.locks).ok_or(LockRefusal::NotAdmitted)
}

/// Whether the ZenLock allows this account, or this object of the mesh.
pub(super) fn allowed(lock: &ZenLock, kind: SubjectKind, name: &str) -> Result<(), LockRefusal> {
    let listed = lock.spec.allowed_subjects.iter().any(|subject| subject.kind == kind && *subject.name == *name);
    if listed { Ok(()) } else { Err(LockRefusal::SubjectNotAllowed) }
}

/// On whose behalf a plane may ask: the ingester verifies webhooks, and delivers in mode `Direct`; the egress delivers.
pub(super) fn on_behalf(component: Component, subject: &Subject) -> Result<SubjectKind, LockRefusal> {
    match (component, subject.kind.as_str()) {
        (Component::Ingester, "Webhook") => Ok(SubjectKind::Webhook),
        (Component::Ingester | Component::Egress, "Destination") => Ok(SubjectKind::Destination),
        _ => Err(LockRefusal::SubjectNotPermitted),
    }
}

/// Whether an object has a `zenLockRef` of this name, wherever in it.
pub(super) fn names(object: &Value, lock: &str) -> bool {
    match object {
        Value::Object(members) => {
            members.iter().any(|(key, value)| key == "zenLockRef" && value["name"] == lock || names(value, lock))
        }
        Value::Array(elements) => elements.iter().any(|element| names(element, lock)),
        _ => false,
    }
}

/// Whether the container that follows changes is in the pod: nobody else has a reason to wait for them.
pub(super) fn follows(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == REFRESH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller() -> Caller {
        let text = |text: &str| text.to_owned();
        Caller { namespace: text("team-a"), account: text("ci"), pod: text("shop"), pod_uid: text("u1") }
    }

    /// Z-03: what a token proves is held against the pod as it is now.
    #[test]
    fn a_pod_has_what_it_was_admitted_for_and_only_while_it_lives() {
        let args = ["fetch", "--url", "https://x", "--ca", "", "--lock", "ci-token", "--lock", "db"];
        let good = json!({
            "metadata": {"name": "shop", "uid": "u1", "annotations": {"zen-mesh.io/inject": "everything"}},
            "spec": {"serviceAccountName": "ci", "containers": [], "initContainers": [{"name": "zen-mesh-unseal", "args": args}]},
            "status": {"phase": "Pending"},
        });
        let judge = |change: &dyn Fn(&mut Value)| {
            let mut pod = good.clone();
            change(&mut pod);
            admitted(&caller(), Some(&serde_json::from_value(pod).expect("a pod")))
        };
        assert_eq!(judge(&|_| {}), Ok(vec!["ci-token".to_owned(), "db".to_owned()]));
        assert_eq!(judge(&|pod| pod["status"]["phase"] = "Running".into()).map(|locks| locks.len()), Ok(2));
        assert_eq!(admitted(&caller(), None), Err(LockRefusal::PodNotFound));
        assert_eq!(judge(&|pod| pod["metadata"]["uid"] = "u2".into()), Err(LockRefusal::PodReplaced));
        let deleted = |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(judge(&deleted), Err(LockRefusal::PodEnding));
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(judge(&|pod| pod["status"]["phase"] = phase.into()), Err(LockRefusal::PodEnding));
        }
        assert_eq!(judge(&|pod| pod["spec"]["serviceAccountName"] = "web".into()), Err(LockRefusal::AccountDiffers));
        for init in [json!([]), json!([{"name": "other", "args": args}]), json!([{"name": "zen-mesh-unseal"}])] {
            assert_eq!(judge(&|pod| pod["spec"]["initContainers"] = init.clone()), Err(LockRefusal::NotAdmitted));
        }
    }

    #[test]
    fn subjects_by_kind_and_name() {
        let lock: ZenLock = serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"encryptedData": {}, "allowedSubjects": [{"kind": "ServiceAccount", "name": "ci"}, {"kind": "Webhook", "name": "github"}]},
        }))
        .expect("a ZenLock");
        assert_eq!(allowed(&lock, SubjectKind::ServiceAccount, "ci"), Ok(()));
        assert_eq!(allowed(&lock, SubjectKind::Webhook, "github"), Ok(()));
        for (kind, name) in [
            (SubjectKind::ServiceAccount, "github"),
            (SubjectKind::Webhook, "ci"),
            (SubjectKind::Destination, "github"),
        ] {
            assert_eq!(allowed(&lock, kind, name), Err(LockRefusal::SubjectNotAllowed));
        }
    }

    #[test]
    fn references_are_found_by_their_field() {
        let object =
            json!({"spec": {"a": [{"zenLockRef": {"name": "db", "key": "k"}}], "zenLockRef": "x", "name": "ci"}});
        assert!(names(&object, "db"));
        assert!(!names(&object, "ci") && !names(&object, "k") && !names(&json!({"secretRef": {"name": "db"}}), "db"));
    }

    #[test]
    fn planes_ask_for_what_is_theirs() {
        let subject = |kind: &str| Subject { kind: kind.to_owned(), namespace: "team-a".into(), name: "x".into() };
        for (component, kind, expected) in [
            (Component::Ingester, "Webhook", Ok(SubjectKind::Webhook)),
            (Component::Ingester, "Destination", Ok(SubjectKind::Destination)),
            (Component::Egress, "Destination", Ok(SubjectKind::Destination)),
            (Component::Egress, "Webhook", Err(LockRefusal::SubjectNotPermitted)),
            (Component::Ingester, "ServiceAccount", Err(LockRefusal::SubjectNotPermitted)),
            (Component::Operator, "Webhook", Err(LockRefusal::SubjectNotPermitted)),
            (Component::ZenLock, "Destination", Err(LockRefusal::SubjectNotPermitted)),
        ] {
            assert_eq!(on_behalf(component, &subject(kind)), expected, "{component:?} {kind}");
        }
    }
}
