//! The objects of a member, read from the API server and made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use zen_enroll::bundle;
use zen_lock::Identity;
use zen_pod::keys;
use zeroize::Zeroizing;

use super::state::{self, Agent, Pending, Purpose, entry};
use super::{AGENT, MEMBER, PENDING, RECIPIENT};
use crate::identity::ISSUER;
use crate::{Object, names};

/// All of them, as they are now.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) identity: Option<Secret>,
    pub(super) recipient: Option<ConfigMap>,
    pub(super) bundle: Option<Secret>,
    pub(super) pending: Option<Secret>,
    pub(super) agent: Option<Secret>,
    pub(super) issuer: Option<Secret>,
    pub(super) keys: Option<Secret>,
    pub(super) trust: Option<ConfigMap>,
}

impl Objects {
    /// Asked for one by one: a cache could show a key that was replaced since.
    pub(super) async fn read(client: &Client, namespace: &str) -> Result<Self, kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let (identity, recipient, bundle, pending, agent, issuer, keys, trust) = tokio::try_join!(
            one(&secrets, MEMBER),
            one(&maps, MEMBER),
            one(&secrets, bundle::SECRET),
            one(&secrets, PENDING),
            one(&secrets, AGENT),
            one(&secrets, ISSUER),
            one(&secrets, names::EGRESS_KEYS),
            one(&maps, names::TRUST),
        )?;
        Ok(Self { identity, recipient, bundle, pending, agent, issuer, keys, trust })
    }
}

/// A list of one name: the right to list names is all that is needed.
async fn one<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(api.list(&only).await?.items.into_iter().next())
}

/// The first key for bundles. Without an owner: a bundle that is on its way is for it.
pub(super) fn identity(namespace: &str, now: jiff::Timestamp) -> Object {
    let file = Identity::generate().to_file(now);
    secret(namespace, MEMBER, "Opaque", &[(state::IDENTITY, file.expose())])
}

/// What the hub's `ClusterEnrollment` is told.
pub(super) fn recipient(namespace: &str, recipient: &str) -> Object {
    Object::new::<ConfigMap>(Some(namespace), MEMBER, json!({"data": {RECIPIENT: recipient}})).component("operator")
}

pub(super) fn pending(namespace: &str, purpose: &Purpose, request: &str, key: &zen_model::Secret) -> Object {
    let purpose = serde_json::to_string(purpose).expect("strings and times are JSON");
    let data: [(&str, &[u8]); 3] =
        [(state::PURPOSE, purpose.as_bytes()), (state::REQUEST, request.as_bytes()), (state::KEY, key.expose())];
    secret(namespace, PENDING, "Opaque", &data)
}

pub(super) fn agent(namespace: &str, agent: &Agent) -> Object {
    secret(namespace, AGENT, "Opaque", &[(state::ANSWER, &agent.to_json())])
}

pub(super) fn issuer(namespace: &str, agent: &Agent, pending: &Pending) -> Object {
    let data = [("tls.crt", agent.issued.chain.as_bytes()), ("tls.key", pending.key.expose())];
    secret(namespace, ISSUER, "kubernetes.io/tls", &data)
}

pub(super) fn trust(namespace: &str, agent: &Agent) -> Object {
    let body = json!({"data": {names::TRUST_KEY: agent.given.roots}});
    Object::new::<ConfigMap>(Some(namespace), names::TRUST, body).component("operator")
}

/// What the planes have: who they are, where they lease, and the keys of the signing branch. Pods follow it; the annotation, by
/// which others are restarted, names the cluster alone.
pub(super) fn planes(namespace: &str, agent: &Agent) -> Option<Object> {
    let (keys, _) = agent.keys()?;
    let fingerprint = keys.first()?.id().split('-').next().unwrap_or_default().to_owned();
    let member = keys::Member { cluster: agent.cluster.clone(), relay: agent.given.relay.clone(), keys };
    let mut body = data(&[(keys::MEMBER, &member.to_json())]);
    body["type"] = "Opaque".into();
    body["metadata"] = json!({"annotations": {names::KEYS: fingerprint}});
    Some(Object::new::<Secret>(Some(namespace), names::EGRESS_KEYS, body).component("egress"))
}

/// Whether the Secret holds exactly what this object says.
pub(super) fn holds(there: Option<&Secret>, wanted: &Object) -> bool {
    let Some(wanted) = wanted.body().get("data").and_then(Value::as_object) else { return false };
    let Some(there) = there else { return false };
    let of = |key: &String| entry(there, key).map(|bytes| STANDARD.encode(bytes));
    let same = wanted.iter().all(|(key, value)| of(key).is_some_and(|text| *value == text));
    same && there.data.as_ref().is_some_and(|data| data.len() == wanted.len())
}

pub(super) fn text<'a>(map: Option<&'a ConfigMap>, key: &str) -> Option<&'a str> {
    map?.data.as_ref()?.get(key).map(String::as_str)
}

fn secret(namespace: &str, name: &str, kind: &str, entries: &[(&str, &[u8])]) -> Object {
    let mut body = data(entries);
    body["type"] = kind.into();
    Object::new::<Secret>(Some(namespace), name, body).component("operator")
}

fn data(entries: &[(&str, &[u8])]) -> Value {
    let encode = |bytes: &[u8]| Zeroizing::new(STANDARD.encode(bytes));
    let data: Map<_, _> =
        entries.iter().map(|(key, bytes)| ((*key).to_owned(), Value::from(encode(bytes).as_str()))).collect();
    json!({"data": data})
}
