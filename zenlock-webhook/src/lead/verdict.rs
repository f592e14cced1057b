//! What is said about one ZenLock: a plain function of the object and the keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use zen_crds::{ShortText, ZenLock, ZenLockStatus};
use zen_lock::{MAX_KEYS, OpenError};
use zen_model::reason::{ConditionReason, LockReason, ObjectReason};

use crate::custody::Keys;

/// Names of keys in one message.
const NAMED: usize = 5;

/// Types of conditions.
pub(super) const ACCEPTED: &str = "Accepted";
pub(super) const DECRYPTABLE: &str = "Decryptable";
pub(super) const PLAINTEXT: &str = "PlaintextInEtcd";

/// The status that is due. Times of transitions are taken over from `before`.
pub(super) fn status(object: &ZenLock, keys: &Keys, in_etcd: bool, now: jiff::Timestamp) -> ZenLockStatus {
    let generation = object.metadata.generation;
    let before = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let found = Found::of(object, keys);
    let mut conditions = Vec::new();
    let mut push = |about: &str, state: &str, reason: &str, message: String| {
        let same = before.iter().find(|condition| condition.type_ == about && condition.status == state);
        conditions.push(Condition {
            type_: about.to_owned(),
            status: state.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        });
    };
    push(ACCEPTED, "True", ObjectReason::Accepted.code(), "The object is in effect.".to_owned());
    let (state, reason, message) = found.decryptable(keys);
    push(DECRYPTABLE, state, reason, message);
    let was_in_etcd = before.iter().any(|condition| condition.type_ == PLAINTEXT);
    if in_etcd {
        let message = "Plaintext lies in Secrets, because pods ask for zen-mesh.io/delivery: secret: kubectl get secrets \
                       -l zen-mesh.io/delivery=secret";
        push(PLAINTEXT, "True", ConditionReason::SecretDelivery.code(), message.to_owned());
    } else if was_in_etcd {
        push(PLAINTEXT, "False", ConditionReason::MemoryDelivery.code(), "No pod has it in a Secret now.".to_owned());
    }
    ZenLockStatus {
        observed_generation: generation,
        conditions,
        decryptable_with: found.with.into_iter().map(ShortText::from).collect(),
        needs_reencryption: found.older.into_iter().map(Into::into).collect(),
    }
}

/// How the keys of one object open.
struct Found {
    broken: Vec<(String, OpenError)>,
    /// Those that only an older key opens.
    older: Vec<String>,
    /// Public keys whose private half opens all of it.
    with: Vec<String>,
}

impl Found {
    fn of(object: &ZenLock, keys: &Keys) -> Self {
        let files: Vec<_> = object.spec.encrypted_data.iter().take(MAX_KEYS).collect();
        let (mut broken, mut older) = (Vec::new(), Vec::new());
        for (key, file) in &files {
            match keys.ring.open(file) {
                Ok(opened) if opened.newest => {}
                Ok(_) => older.push((*key).clone()),
                Err(error) => broken.push(((*key).clone(), error)),
            }
        }
        let all = |ring: &zen_lock::Keyring| !files.is_empty() && files.iter().all(|(_, file)| ring.open(file).is_ok());
        let with = keys.each.iter().filter(|(_, ring)| all(ring)).map(|(key, _)| key.to_string()).collect();
        Self { broken, older, with }
    }

    fn decryptable(&self, keys: &Keys) -> (&'static str, &'static str, String) {
        if keys.each.is_empty() {
            let row = LockReason::NoIdentity.row();
            return ("Unknown", row.code, row.meaning.to_owned());
        }
        if let Some((_, worst)) = self.broken.first() {
            let codes: BTreeSet<_> = self.broken.iter().map(|(_, error)| error.reason().code()).collect();
            let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
            let names = named(self.broken.iter().map(|(key, _)| key));
            let message = format!("{names} cannot be opened ({codes}): {worst}. {}", worst.reason().row().hint);
            return ("False", worst.reason().code(), message);
        }
        if !self.older.is_empty() {
            let names = named(self.older.iter());
            let message = format!(
                "{names} can be opened with an older key only. {}",
                ConditionReason::NeedsReencryption.row().hint
            );
            return ("True", ConditionReason::NeedsReencryption.code(), message);
        }
        ("True", ConditionReason::Decryptable.code(), "Every key opens with the newest identity.".to_owned())
    }
}

fn named<'a>(keys: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = keys.len().saturating_sub(NAMED);
    let mut text = keys.take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// What a transition is worth saying: a warning or not, a code, and words.
pub(super) fn transition(before: Option<&ZenLockStatus>, after: &ZenLockStatus) -> Option<(bool, String, String)> {
    let of =
        |status: &ZenLockStatus| status.conditions.iter().find(|condition| condition.type_ == DECRYPTABLE).cloned();
    let (was, is) = (before.and_then(of), of(after)?);
    let was_bad = was.as_ref().is_some_and(|was| was.status == "False");
    let news = match is.status.as_str() {
        "False" => was.is_none_or(|was| was.status != is.status || was.reason != is.reason),
        "True" => was_bad,
        _ => false,
    };
    news.then_some((is.status == "False", is.reason, is.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zen_lock::{Identity, Keyring, seal};
    use zen_model::Secret;

    use super::*;

    fn keys(identities: &[&Identity]) -> Keys {
        let each = identities.iter().map(|one| (one.recipient(), Keyring::new(vec![(*one).clone()]))).collect();
        let ring = Keyring::new(identities.iter().map(|one| (*one).clone()).collect());
        Keys { ring, each, generation: 1 }
    }

    fn object(files: &[(&str, &[&Identity])]) -> ZenLock {
        let sealed = |to: &[&Identity]| {
            let to: Vec<_> = to.iter().map(|one| one.recipient()).collect();
            seal(&Secret::new("hunter2"), &to).expect("sealed")
        };
        let data: serde_json::Map<_, _> =
            files.iter().map(|(key, to)| ((*key).to_owned(), sealed(to).into())).collect();
        let object = json!({"metadata": {"name": "db", "generation": 3}, "spec": {"encryptedData": data}});
        serde_json::from_value(object).expect("a ZenLock")
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).expect("a time")
    }

    fn decryptable(status: &ZenLockStatus) -> (&str, &str) {
        let found = status.conditions.iter().find(|condition| condition.type_ == DECRYPTABLE).expect("said");
        (&found.status, &found.reason)
    }

    /// Z-05, Z-06: each reason, which key opens it, and what is left to rotate.
    #[test]
    fn every_state_of_a_zenlock() {
        let (new, old, lost) = (Identity::generate(), Identity::generate(), Identity::generate());
        let (both, one) = (keys(&[&new, &old]), keys(&[&new]));
        let text = |identity: &Identity| identity.recipient().to_string();
        for (files, keys, expected, with, older) in [
            (vec![("a", &[&new, &old][..])], &both, ("True", "Decryptable"), vec![text(&new), text(&old)], vec![]),
            (vec![("a", &[&new][..]), ("b", &[&old])], &both, ("True", "NeedsReencryption"), vec![], vec!["b"]),
            (vec![("a", &[&old][..])], &both, ("True", "NeedsReencryption"), vec![text(&old)], vec!["a"]),
            (vec![("a", &[&old][..])], &one, ("False", "UnknownKey"), vec![], vec![]),
            (vec![("a", &[&new][..]), ("b", &[&lost])], &both, ("False", "UnknownKey"), vec![], vec![]),
            (vec![("a", &[&new][..])], &Keys::default(), ("Unknown", "NoIdentity"), vec![], vec![]),
        ] {
            let status = status(&object(&files), keys, false, at(1));
            assert_eq!(decryptable(&status), expected);
            assert_eq!(status.decryptable_with.iter().map(ToString::to_string).collect::<Vec<_>>(), with);
            assert_eq!(status.needs_reencryption.iter().map(|key| &**key).collect::<Vec<_>>(), older);
            assert_eq!((status.observed_generation, status.conditions[0].reason.as_str()), (Some(3), "Accepted"));
        }
    }

    #[test]
    fn times_tell_when_it_changed_and_what_stays_is_the_same() {
        let (ours, lost) = (Identity::generate(), Identity::generate());
        let mut object = object(&[("a", &[&ours])]);
        let first = status(&object, &keys(&[&ours]), false, at(1));
        object.status = Some(first.clone());
        assert_eq!(status(&object, &keys(&[&ours]), false, at(9)), first);
        let second = status(&object, &keys(&[&lost]), true, at(9));
        let times: Vec<_> = second.conditions.iter().map(|condition| condition.last_transition_time.0).collect();
        assert_eq!(times, [at(1), at(9), at(9)]);
        let said = transition(Some(&first), &second).expect("worth an Event");
        assert_eq!((said.0, said.1.as_str()), (true, "UnknownKey"));
        object.status = Some(second.clone());
        let third = status(&object, &keys(&[&ours]), false, at(10));
        let said = transition(Some(&second), &third).expect("worth an Event");
        assert_eq!((said.0, said.1.as_str()), (false, "Decryptable"));
        let etcd = third.conditions.iter().find(|condition| condition.type_ == PLAINTEXT).expect("said");
        assert_eq!(etcd.status, "False");
        assert_eq!((transition(None, &first), transition(Some(&second), &second)), (None, None));
    }
}
