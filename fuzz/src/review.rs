use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::AdmissionReview;
use zenlock_webhook::admit::{KeyFacts, Known, Mutation, Settings, Wanted, mutate};
use zenlock_webhook::fetch::Arguments;

/// An AdmissionReview of a pod, as anybody who reaches the port can send it.
///
/// A pod that is admitted gets a patch that applies to it, and what comes out is admitted again as it is.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn review(data: &[u8]) {
    let Ok(review) = serde_json::from_slice::<AdmissionReview<Pod>>(data) else { return };
    let Some(pod) = review.request.and_then(|request| request.object) else { return };
    let Some((first, wanted)) = judge(&pod) else { return };
    let mut after = serde_json::to_value(&pod).expect("a pod is JSON");
    json_patch::patch(&mut after, &first.patch).expect("the patch applies");
    let after: Pod = serde_json::from_value(after).expect("a pod");
    let (second, again) = judge(&after).expect("what was admitted is admitted again");
    assert!(second.patch.0.is_empty(), "a second call changes something: {:?}", second.patch);
    assert_eq!(again, wanted);
}

/// With every ZenLock there is, open to the pod's account.
fn judge(pod: &Pod) -> Option<(Mutation, Wanted)> {
    let wanted = Wanted::of(pod.metadata.annotations.as_ref()).ok()??;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let known = |name: &String| {
        let keys = BTreeMap::from([(format!("{name}.key"), KeyFacts { size: 8, ..KeyFacts::default() })]);
        (name.clone(), Some(Known { accounts: BTreeSet::from([account.clone()]), keys }))
    };
    let locks = wanted.locks.iter().map(known).collect();
    let settings = Settings {
        image: "image".to_owned(),
        pull_policy: None,
        url: "https://zenlock-webhook.zen-mesh.svc".to_owned(),
        roots: Arguments::encode_roots("roots"),
        env_files: true,
    };
    let mutation = mutate(pod, &wanted, &locks, "zen-mesh-unsealed-x", &settings).ok()?;
    Some((mutation, wanted))
}
