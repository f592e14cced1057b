//! The ZenLock webhook: admission of pods and ZenLocks, and the unseal API (Z-02, Z-03, Z-05).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use zen_lock::Identity;

use super::pod::{SECRET_MODE, Shape, port, selector, service_port};
use super::{Inputs, Problem, audit, object};
use crate::names::{self, ADMISSION, ZENLOCK, port as ports};
use crate::object::Object;
use crate::settings::{ServiceType, ZenLock};

/// Where the age identities are mounted.
const IDENTITIES: &str = "/etc/zen-mesh/age";
/// The API server gives up on an answer after so long: short, for it makes somebody wait. Seconds.
const TIMEOUT: u32 = 5;
/// A pod that asks for nothing is never sent, so that it starts also when nobody answers here.
const ANNOTATED: &str = "has(object.metadata.annotations) && 'zen-mesh.io/inject' in object.metadata.annotations";
/// Labels and finalizers change when nobody answers here, too: otherwise a namespace could not be deleted.
const CHANGED: &str = "oldObject == null || object.spec != oldObject.spec";

pub(super) fn deployment(inputs: &Inputs<'_>, settings: &ZenLock) -> Object {
    let image = &*inputs.workloads.images.zenlock_webhook;
    // The same image fetches the plaintext in the pods that are admitted.
    let mut environment = vec![
        json!({"name": "ZEN_IMAGE", "value": image}),
        json!({"name": "ZEN_IMAGE_PULL_POLICY", "value": inputs.workloads.images.pull_policy}),
        json!({"name": "ZEN_SECRET_DELIVERY", "value": settings.secret_delivery.to_string()}),
    ];
    environment.extend(audit::environment(inputs));
    let shape = Shape {
        component: ZENLOCK,
        image,
        log: &settings.log,
        pod: &settings.pod,
        keys: None,
        ports: json!([port("https", ports::ZENLOCK), port("admin", ports::ADMIN)]),
        environment,
        mounts: vec![json!({"name": "age", "mountPath": IDENTITIES, "readOnly": true})],
        volumes: vec![identities(settings)],
    };
    let spec = json!({
        "replicas": settings.replicas,
        "revisionHistoryLimit": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": selector(ZENLOCK)},
        "template": shape.template(inputs, names::REPLICA),
    });
    object::<Deployment>(inputs, ZENLOCK, ZENLOCK, json!({"spec": spec}))
}

fn identities(settings: &ZenLock) -> Value {
    let custody = &settings.custody;
    let mut volume = if custody.has_volume() {
        custody.volume.clone()
    } else {
        let secret = if custody.secret_name.is_empty() { names::AGE } else { &*custody.secret_name };
        json!({"secret": {"secretName": secret, "defaultMode": SECRET_MODE}})
    };
    volume["name"] = "age".into();
    volume
}

/// A first identity. Without an owner: what it opens lies in repositories.
pub fn age_identity(namespace: &str, now: jiff::Timestamp) -> Object {
    // The greatest file name is the newest key.
    let file = format!("{}.txt", now.strftime("%Y-%m-%d"));
    let data = STANDARD.encode(Identity::generate().to_file(now).expose());
    Object::new::<Secret>(Some(namespace), names::AGE, json!({"type": "Opaque", "data": {file: data}}))
        .component(ZENLOCK)
}

/// The Secret is gone, and public keys of it were in use.
pub fn age_lost() -> Problem {
    let message = format!(
        "the Secret {AGE} is gone, and ZenLocks were made for the public keys in the ConfigMap {RECIPIENTS}: restore the \
         Secret from its copy, or, if no ZenLock is worth it, delete that ConfigMap to have a new identity made",
        AGE = names::AGE,
        RECIPIENTS = names::RECIPIENTS,
    );
    Problem { reason: "AgeIdentityLost", message }
}

pub(super) fn service(inputs: &Inputs<'_>) -> Object {
    let mut https = service_port("https", ports::ZENLOCK);
    https["port"] = 443.into();
    let spec = json!({"type": ServiceType::ClusterIP.as_str(), "selector": selector(ZENLOCK), "ports": [https]});
    super::service(inputs, ZENLOCK, ZENLOCK, json!({"spec": spec}))
}

/// Pods that ask for ZenLocks. Refused while nobody answers: a pod without its secrets is worse than a pod that waits.
pub(super) fn mutating(inputs: &Inputs<'_>, trust: &str) -> Object {
    let webhook = webhook(
        inputs,
        trust,
        "/v1/admit/pods",
        json!({
            "name": "pods.zenlock.zen-mesh.io",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                       "scope": "Namespaced"}],
            "matchConditions": [{"name": "annotated", "expression": ANNOTATED}],
            // Also with Secret delivery: that Secret is made once the pod exists.
            "sideEffects": "None",
            // Another webhook may add containers after us.
            "reinvocationPolicy": "IfNeeded",
        }),
    );
    Object::new::<MutatingWebhookConfiguration>(None, ADMISSION, json!({"webhooks": [webhook]})).component(ZENLOCK)
}

/// ZenLocks that are made and changed.
pub(super) fn validating(inputs: &Inputs<'_>, trust: &str) -> Object {
    let webhook = webhook(
        inputs,
        trust,
        "/v1/admit/zenlocks",
        json!({
            "name": "zenlocks.zenlock.zen-mesh.io",
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["zen-mesh.io"], "apiVersions": ["v1alpha1"],
                       "resources": ["zenlocks"], "scope": "Namespaced"}],
            "matchConditions": [{"name": "changed", "expression": CHANGED}],
            "sideEffects": "None",
        }),
    );
    Object::new::<ValidatingWebhookConfiguration>(None, ADMISSION, json!({"webhooks": [webhook]})).component(ZENLOCK)
}

fn webhook(inputs: &Inputs<'_>, trust: &str, path: &str, mut webhook: Value) -> Value {
    webhook["admissionReviewVersions"] = json!(["v1"]);
    webhook["clientConfig"] = json!({
        "service": {"namespace": inputs.namespace, "name": ZENLOCK, "path": path, "port": 443},
        "caBundle": STANDARD.encode(trust),
    });
    webhook["failurePolicy"] = "Fail".into();
    webhook["matchPolicy"] = "Equivalent".into();
    webhook["timeoutSeconds"] = TIMEOUT.into();
    webhook
}
