//! `ZenLock`s as a configuration sees them: what is in one, who may use it, and who does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zen_crds::{CredentialsSource, DestinationSpec, SecretSource, Subject, SubjectKind, WebhookSpec};
use zen_model::{LockReason, Name, ObjectKey, Secret};

use crate::objects::digest_of;
use crate::{DeliveryMode, Plane};

/// What is to be thought of a `ZenLock` that its source does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unlisted {
    /// It does not exist.
    #[default]
    Absent,
    /// It was not read yet.
    Unread,
    /// The mesh may not read it.
    Forbidden,
}

/// A `ZenLock` as far as its source could open it: with a private key, or through the unseal API.
#[derive(Clone, PartialEq, Eq)]
pub struct LockData {
    subjects: Vec<Subject>,
    values: BTreeMap<String, Result<Secret, LockReason>>,
    /// Whom the source opens it for, each by itself; none from one that opens it for all who are listed.
    judged: Option<Judged>,
    digest: [u8; 32],
}

/// By the object's kind and name: it was opened for it, or why not.
pub type Judged = BTreeMap<(SubjectKind, Name), Result<(), Withheld>>;

/// Why a listed object does not get what is in a `ZenLock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Withheld {
    /// The code.
    pub reason: LockReason,
    /// For people: whom to look at. No secret.
    pub why: Arc<str>,
}

/// What an object may have of a `ZenLock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access<'a> {
    /// Everything in it.
    Open,
    /// Nothing: `allowedSubjects` does not name it.
    NotListed,
    /// It was not asked for yet, or not answered.
    Awaited,
    /// Nothing: whoever opens it does not give it.
    Withheld(&'a Withheld),
}

impl LockData {
    /// A `ZenLock` that these subjects may use, with each key's plaintext or the reason why there is none.
    pub fn new(subjects: Vec<Subject>, values: BTreeMap<String, Result<Secret, LockReason>>) -> Self {
        let value = values.iter().flat_map(|(key, value)| {
            let (state, bytes) = match value {
                Ok(secret) => ("opened", secret.expose()),
                Err(reason) => (reason.code(), &[][..]),
            };
            [(key.as_str(), state.as_bytes()), ("", bytes)]
        });
        let digest = digest_of("ZenLock", value);
        Self { subjects, values, judged: None, digest }
    }

    /// The same, from a source that opens it for each object by itself: of those that are listed, only they have it.
    #[must_use]
    pub fn judged(self, judged: Judged) -> Self {
        Self { judged: Some(judged), ..self }
    }

    /// What this object may have of it. Whoever is not listed has nothing, whatever was said before.
    pub fn access(&self, kind: SubjectKind, name: &str) -> Access<'_> {
        if !self.subjects.iter().any(|subject| subject.kind == kind && *subject.name == *name) {
            return Access::NotListed;
        }
        let Some(judged) = &self.judged else { return Access::Open };
        match judged.get(&(kind, name.into())) {
            Some(Ok(())) => Access::Open,
            // It was taken off the list a moment ago.
            Some(Err(Withheld { reason: LockReason::SubjectNotAllowed, .. })) => Access::NotListed,
            Some(Err(withheld)) => Access::Withheld(withheld),
            None => Access::Awaited,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Result<&Secret, LockReason>> {
        self.values.get(key).map(|value| value.as_ref().map_err(|reason| *reason))
    }

    /// Names of the keys, for messages.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Changes whenever what this object has of it does, and with nothing else: a further object that uses it is no news for
    /// the others.
    pub(crate) fn digest_for(&self, kind: SubjectKind, name: &str) -> [u8; 32] {
        let access = self.access(kind, name);
        let content = if access == Access::Open { &self.digest[..] } else { &[] };
        digest_of("ZenLock", [(format!("{access:?}").as_str(), content)].into_iter())
    }
}

impl fmt::Debug for LockData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockData").field("keys", &self.values.len()).finish_non_exhaustive()
    }
}

/// An object that uses a `ZenLock` of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockUse {
    /// The `ZenLock`.
    pub lock: ObjectKey,
    /// Kind of the object.
    pub kind: SubjectKind,
    /// Its name.
    pub name: Name,
    /// Who verifies, or delivers, with what is in it.
    pub plane: Plane,
}

/// The `ZenLock`s that a Webhook names, each once.
pub fn locks_of_webhook(key: &ObjectKey, spec: &WebhookSpec) -> Vec<LockUse> {
    let mut found = Found { owner: key, kind: SubjectKind::Webhook, plane: Plane::Ingester, list: Vec::new() };
    for CredentialsSource { zen_lock_ref, .. } in &spec.verification.secrets {
        found.note(zen_lock_ref.as_ref().map(|reference| &*reference.name));
    }
    found.list
}

/// The `ZenLock`s that a Destination names, each once.
pub fn locks_of_destination(key: &ObjectKey, spec: &DestinationSpec) -> Vec<LockUse> {
    let mode = DeliveryMode::of(spec.mode);
    let mut found = Found { owner: key, kind: SubjectKind::Destination, plane: mode.plane(), list: Vec::new() };
    if let Some(authentication) = &spec.authentication {
        found.source(authentication.bearer.as_ref());
        found.note(authentication.basic.as_ref().and_then(|basic| Some(&*basic.zen_lock_ref.as_ref()?.name)));
        found.note(authentication.header.as_ref().and_then(|header| Some(&*header.zen_lock_ref.as_ref()?.name)));
    }
    for source in spec.signing.iter().flat_map(|signing| &signing.secrets) {
        found.source(Some(source));
    }
    found.list
}

struct Found<'a> {
    owner: &'a ObjectKey,
    kind: SubjectKind,
    plane: Plane,
    list: Vec<LockUse>,
}

impl Found<'_> {
    fn source(&mut self, source: Option<&SecretSource>) {
        self.note(source.and_then(|source| Some(&*source.zen_lock_ref.as_ref()?.name)));
    }

    fn note(&mut self, lock: Option<&str>) {
        let Some(lock) = lock else { return };
        let lock = ObjectKey::new(self.owner.namespace.clone(), lock);
        let found = LockUse { lock, kind: self.kind, name: self.owner.name.clone(), plane: self.plane };
        if !self.list.contains(&found) {
            self.list.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(value: &str) -> LockData {
        let subject = |kind, name: &str| Subject { kind, name: name.into() };
        let subjects = vec![
            subject(SubjectKind::Webhook, "a"),
            subject(SubjectKind::Webhook, "b"),
            subject(SubjectKind::Destination, "c"),
        ];
        LockData::new(subjects, BTreeMap::from([("k".to_owned(), Ok(Secret::new(value)))]))
    }

    fn withheld(reason: LockReason) -> Result<(), Withheld> {
        Err(Withheld { reason, why: "away".into() })
    }

    /// Z-03: the list of this moment decides; of those on it, each has what was opened for it.
    #[test]
    fn who_has_what_is_in_it() {
        use SubjectKind::{Destination, Webhook};
        let all = lock("x");
        for (kind, name, expected) in [
            (Webhook, "a", Access::Open),
            (Destination, "c", Access::Open),
            (Destination, "a", Access::NotListed),
            (SubjectKind::ServiceAccount, "a", Access::NotListed),
            (Webhook, "other", Access::NotListed),
        ] {
            assert_eq!(all.access(kind, name), expected, "{kind} {name}");
        }
        let away = Withheld { reason: LockReason::UnsealUnavailable, why: "away".into() };
        let judged = lock("x").judged(Judged::from([
            ((Webhook, "a".into()), Ok(())),
            ((Webhook, "b".into()), withheld(LockReason::UnsealUnavailable)),
            ((Webhook, "other".into()), Ok(())),
        ]));
        assert_eq!(judged.access(Webhook, "a"), Access::Open);
        assert_eq!(judged.access(Webhook, "b"), Access::Withheld(&away));
        assert_eq!(judged.access(Destination, "c"), Access::Awaited);
        assert_eq!(judged.access(Webhook, "other"), Access::NotListed, "whatever was said before");
        let off = lock("x").judged(Judged::from([((Webhook, "a".into()), withheld(LockReason::SubjectNotAllowed))]));
        assert_eq!(off.access(Webhook, "a"), Access::NotListed);
    }

    #[test]
    fn a_change_is_news_for_those_whom_it_concerns() {
        use SubjectKind::Webhook;
        let of = |value: &str, judged: &[(&str, Result<(), Withheld>)]| {
            let judged = judged.iter().map(|(name, verdict)| ((Webhook, (*name).into()), verdict.clone()));
            let lock = lock(value).judged(judged.collect());
            (lock.digest_for(Webhook, "a"), lock.digest_for(Webhook, "b"))
        };
        let away = || withheld(LockReason::UnsealUnavailable);
        let (a, b) = of("x", &[("a", Ok(()))]);
        let (still, opened) = of("x", &[("a", Ok(())), ("b", Ok(()))]);
        assert!(a == still && b != opened);
        let (changed, nothing) = of("y", &[("a", Ok(()))]);
        assert!(a != changed && b == nothing, "what one may not have does not change for it");
        assert_ne!(of("x", &[("a", away())]).0, a);
    }
}
