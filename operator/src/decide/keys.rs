//! The root of HMAC and data keys, and the branches that each plane gets (T-06, Q-03).
//!
//! A queue that was sealed with one key opens with no other: a root key that is missing where there was one, or another
//! than before, is never papered over with a new one.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use zen_model::signing::Versions;
use zen_pod::keys::VERSIONS;
use zen_seal::RootKey;
use zen_verify::signing_keys;
use zeroize::Zeroizing;

use super::Problem;
use crate::names::{self, EGRESS_KEYS, INGESTER_KEYS, ROOT, ROOT_KEY};
use crate::object::Object;

/// Root of the signing keys, in both Secrets.
const SIGNING: &str = "signing.key";
/// Root of the data keys, in the ingester's alone.
const DATA: &str = "data.key";
/// Label of the branch that data keys come from.
const DATA_BRANCH: &str = "zen/data";
/// Label of the derivation that names a root key without telling it.
const FINGERPRINT: &str = "zen/fingerprint";

/// The Secrets as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// `zen-mesh-root`.
    pub root: Option<&'a Secret>,
    /// `zen-mesh-ingester-keys`.
    pub ingester: Option<&'a Secret>,
    /// `zen-mesh-egress-keys`.
    pub egress: Option<&'a Secret>,
}

/// What is to be done about them.
#[derive(Debug)]
pub enum Keys {
    /// There never was a root key: this one is to be made, once.
    Make(Box<Object>),
    /// The branches that belong to the root key.
    Branches {
        /// Both Secrets.
        objects: Box<[Object; 2]>,
        /// Names the root key.
        fingerprint: String,
        /// Whether both are there, so that pods can mount them.
        there: bool,
    },
    /// Somebody has to decide.
    Stuck(Problem),
}

/// Decides about the keys. `signing`: the versions of the signing keys that count, where something is stored of them.
pub fn keys(namespace: &str, observed: Observed<'_>, signing: Option<&Versions>) -> Keys {
    let branches = [observed.ingester, observed.egress];
    let Some(root) = observed.root else {
        if branches.iter().any(Option::is_some) {
            return stuck(
                "RootKeyMissing",
                "the Secret zen-mesh-root is gone, but keys that were derived from it are in use: restore it from a backup. \
                 Events that wait in the queues cannot be read with another one. To begin anew without them, delete the \
                 Secrets zen-mesh-ingester-keys and zen-mesh-egress-keys, too.",
            );
        }
        let text = RootKey::random().text();
        return Keys::Make(Box::new(secret(namespace, ROOT, &[(ROOT_KEY, &text)], None)));
    };
    let text = root.data.as_ref().and_then(|data| data.get(ROOT_KEY));
    let text = text.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let Some(root) = text.and_then(|text| RootKey::from_text(text).ok()) else {
        return stuck(
            "RootKeyDamaged",
            "the Secret zen-mesh-root holds no root key under root.key: restore it from a backup.",
        );
    };
    let fingerprint = fingerprint(&root);
    for branch in branches.into_iter().flatten() {
        let annotations = branch.metadata.annotations.as_ref();
        if annotations.and_then(|annotations| annotations.get(names::KEYS)).is_some_and(|of| *of != fingerprint) {
            return stuck(
                "RootKeyChanged",
                "the Secret zen-mesh-root holds another root key than the one that the keys in use were derived from: restore \
                 it from a backup. Events that wait in the queues cannot be read with another one. To begin anew without them, \
                 delete the Secrets zen-mesh-ingester-keys and zen-mesh-egress-keys.",
            );
        }
    }
    let versions = versions(branches, signing);
    let (signing, data) = (root.branch(signing_keys::BRANCH).text(), root.branch(DATA_BRANCH).text());
    let mut ingester = vec![(DATA, &data), (SIGNING, &signing)];
    let mut egress = vec![(SIGNING, &signing)];
    for entries in [&mut ingester, &mut egress] {
        entries.extend(versions.as_ref().map(|versions| (VERSIONS, versions)));
    }
    let objects = [
        secret(namespace, INGESTER_KEYS, &ingester, Some(&fingerprint)).component("ingester"),
        secret(namespace, EGRESS_KEYS, &egress, Some(&fingerprint)).component("egress"),
    ];
    Keys::Branches { objects: Box::new(objects), fingerprint, there: branches.iter().all(Option::is_some) }
}

/// What is said of the versions of the signing keys: both planes are told the same. Where nothing is stored of them, those that
/// either has count on; where nothing was ever said, nothing is.
fn versions(branches: [Option<&Secret>; 2], stored: Option<&Versions>) -> Option<Zeroizing<String>> {
    let said = branches.into_iter().flatten().filter_map(|secret| secret.data.as_ref()?.get(VERSIONS));
    let said: Vec<_> = said.filter_map(|text| Versions::from_json(&text.0).ok()).collect();
    let versions = match stored {
        Some(stored) if said.is_empty() && *stored == Versions::default() => return None,
        Some(stored) => stored.clone(),
        None => said.into_iter().max_by_key(|versions| versions.current)?,
    };
    Some(Zeroizing::new(versions.to_json()))
}

/// Without an owner: the queues' volumes outlive an uninstall, and so do the keys that open them.
fn secret(namespace: &str, name: &str, data: &[(&str, &Zeroizing<String>)], fingerprint: Option<&str>) -> Object {
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, text)| ((*key).to_owned(), Value::from(STANDARD.encode(text.as_bytes())))).collect();
    let mut body = json!({"type": "Opaque", "data": data});
    if let Some(fingerprint) = fingerprint {
        body["metadata"] = json!({"annotations": {names::KEYS: fingerprint}});
    }
    Object::new::<Secret>(Some(namespace), name, body)
}

fn fingerprint(root: &RootKey) -> String {
    let mut hex = String::with_capacity(16);
    for byte in &root.derive(FINGERPRINT, &[])[..8] {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn stuck(reason: &'static str, message: &str) -> Keys {
    Keys::Stuck(Problem { reason, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(object: &Object) -> Secret {
        serde_json::from_value(Value::Object(object.body().clone())).expect("a Secret")
    }

    fn made() -> Secret {
        let Keys::Make(root) = keys("zen-mesh", Observed::default(), None) else { panic!("a new root key") };
        stored(&root)
    }

    fn branches(root: &Secret) -> ([Secret; 2], String) {
        let Keys::Branches { objects, fingerprint, there } =
            keys("zen-mesh", Observed { root: Some(root), ..Observed::default() }, None)
        else {
            panic!("branches")
        };
        assert!(!there);
        (objects.map(|object| stored(&object)), fingerprint)
    }

    #[test]
    fn branches_are_the_same_every_time_and_each_plane_has_its_own() {
        let root = made();
        let ([ingester, egress], fingerprint) = branches(&root);
        let data =
            |secret: &Secret, key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|data| data.0.clone());
        assert_eq!(data(&ingester, SIGNING), data(&egress, SIGNING));
        assert!(data(&ingester, DATA).is_some() && data(&egress, DATA).is_none());
        assert_ne!(data(&ingester, DATA), data(&ingester, SIGNING));
        let again = Observed { root: Some(&root), ingester: Some(&ingester), egress: Some(&egress) };
        let Keys::Branches { objects, fingerprint: same, there } = keys("zen-mesh", again, None) else {
            panic!("branches")
        };
        assert!(there && same == fingerprint);
        assert_eq!(objects.map(|object| stored(&object)), [ingester, egress]);
    }

    /// W-12: both planes are told the same versions; what was never rotated is as it was, and what is not known any more is not
    /// guessed.
    #[test]
    fn the_versions_of_signing_keys_stand_beside_them() {
        let root = made();
        let (fresh, _) = branches(&root);
        let second = Versions { current: 2, ..Versions::default() };
        let third = Versions { current: 3, ..Versions::default() };
        let written = |[ingester, egress]: &[Secret; 2], signing: Option<&Versions>| {
            let observed = Observed { root: Some(&root), ingester: Some(ingester), egress: Some(egress) };
            let Keys::Branches { objects, .. } = keys("zen-mesh", observed, signing) else { panic!("branches") };
            objects.map(|object| stored(&object))
        };
        let said = |secrets: &[Secret; 2]| {
            secrets.each_ref().map(|secret| {
                let text = secret.data.as_ref().and_then(|data| data.get(VERSIONS));
                text.and_then(|text| Versions::from_json(&text.0).ok())
            })
        };
        let again = written(&fresh, Some(&Versions::default()));
        assert_eq!((said(&fresh), said(&again)), ([None, None], [None, None]), "never rotated");
        let rotated = written(&fresh, Some(&second));
        assert_eq!(said(&rotated), [Some(second.clone()), Some(second.clone())]);
        assert_eq!(said(&written(&rotated, None)), said(&rotated), "nothing is stored any more");
        assert_eq!(
            said(&written(&rotated, Some(&Versions::default()))),
            [Some(Versions::default()), Some(Versions::default())]
        );
        let [ingester, _] = written(&fresh, Some(&third));
        let [_, egress] = rotated;
        let apart = [ingester, egress];
        assert_eq!(said(&written(&apart, None)), [Some(third.clone()), Some(third)], "the newer of both");
    }

    #[test]
    fn a_root_key_is_never_replaced_where_something_was_sealed() {
        let (root, other) = (made(), made());
        let ([ingester, egress], _) = branches(&root);
        let mut damaged = root.clone();
        damaged.data = None;
        for (root, expected) in
            [(None, "RootKeyMissing"), (Some(&other), "RootKeyChanged"), (Some(&damaged), "RootKeyDamaged")]
        {
            for observed in [
                Observed { root, ingester: Some(&ingester), egress: Some(&egress) },
                Observed { root, ingester: Some(&ingester), egress: None },
                Observed { root, ingester: None, egress: Some(&egress) },
            ] {
                let Keys::Stuck(problem) = keys("zen-mesh", observed, None) else { panic!("{expected}") };
                assert_eq!(problem.reason, expected);
            }
        }
    }
}
