//! What the annotations of a pod ask for.

use std::collections::{BTreeMap, BTreeSet};

use zen_model::reason::LockRefusal;

use super::{CONTAINERS, DELIVERY, ENV, INJECT, MOUNT_PATH, REFRESH_CHANGES, REFRESH_NOTIFY, Refused, mount_path};
use crate::fetch::Notify;

/// ZenLocks that one pod may ask for: each costs a look at the API server.
const MOST_LOCKS: usize = 16;
/// `zen-mesh.io/mount-path` unless it is set.
const DEFAULT_PATH: &str = "/var/run/zen";

/// A pod's wish, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Names of ZenLocks, as written, each once.
    pub locks: Vec<String>,
    /// Those whose keys also become environment variables.
    pub env: Vec<String>,
    /// Where the files appear.
    pub path: String,
    /// Names of containers; none: all.
    pub containers: Option<BTreeSet<String>>,
    /// How the plaintext gets there.
    pub delivery: Delivery,
    /// Whether a sidecar follows changes.
    pub refresh: bool,
    /// How the application hears of them.
    pub notify: Option<Notify>,
}

/// How the plaintext gets into the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The pod asks for it; it lies in the pod's memory only.
    #[default]
    Memory,
    /// In a Secret, and so in etcd, for as long as the pod lives.
    Secret,
}

impl Wanted {
    /// Reads the annotations; none where the pod does not ask for anything.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<Option<Self>, Refused> {
        let Some(annotations) = annotations.filter(|annotations| annotations.contains_key(INJECT)) else {
            return Ok(None);
        };
        let text = |name: &str| annotations.get(name).map(|text| text.trim());
        let locks = names(INJECT, text(INJECT).unwrap_or_default())?;
        if locks.is_empty() || locks.len() > MOST_LOCKS {
            return Err(invalid(INJECT, &format!("names {} ZenLocks; 1 to {MOST_LOCKS} are possible", locks.len())));
        }
        let env = names(ENV, text(ENV).unwrap_or_default())?;
        if let Some(foreign) = env.iter().find(|name| !locks.contains(name)) {
            return Err(invalid(ENV, &format!("names {foreign}, which {INJECT} does not")));
        }
        let containers = text(CONTAINERS).map(|text| names(CONTAINERS, text)).transpose()?;
        if containers.as_ref().is_some_and(Vec::is_empty) {
            return Err(invalid(CONTAINERS, "names no container"));
        }
        let path = text(MOUNT_PATH).unwrap_or(DEFAULT_PATH).to_owned();
        mount_path::check(&path)?;
        let delivery = match text(DELIVERY) {
            None | Some("memory") => Delivery::Memory,
            Some("secret") => Delivery::Secret,
            Some(_) => return Err(invalid(DELIVERY, "is neither memory nor secret")),
        };
        let refresh = match text(REFRESH_CHANGES) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(invalid(REFRESH_CHANGES, "is neither true nor false")),
        };
        if refresh && delivery == Delivery::Secret {
            return Err(invalid(REFRESH_CHANGES, &format!("needs {DELIVERY}: memory")));
        }
        let notify = text(REFRESH_NOTIFY).map(str::parse::<Notify>).transpose();
        let notify = notify.map_err(|why| invalid(REFRESH_NOTIFY, &format!("cannot be used: {why}")))?;
        if notify.is_some() && !refresh {
            return Err(invalid(REFRESH_NOTIFY, &format!("needs {REFRESH_CHANGES}: \"true\"")));
        }
        let containers = containers.map(|names| names.into_iter().collect());
        Ok(Some(Self { locks, env, path, containers, delivery, refresh, notify }))
    }

    /// Whether a container gets anything.
    pub fn serves(&self, container: &str) -> bool {
        self.containers.as_ref().is_none_or(|names| names.contains(container))
    }
}

/// Names between commas; blanks around them do not matter.
fn names(annotation: &str, text: &str) -> Result<Vec<String>, Refused> {
    let mut found: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !is_object_name(name) {
            return Err(invalid(annotation, "holds something that is no name of an object"));
        }
        if found.iter().any(|other| other == name) {
            return Err(invalid(annotation, &format!("names {name} twice")));
        }
        found.push(name.to_owned());
    }
    Ok(found)
}

/// RFC 1123 subdomain, as the API server checks names: what is none is not asked for, not even in a message.
fn is_object_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn invalid(annotation: &str, what: &str) -> Refused {
    Refused::new(LockRefusal::AnnotationInvalid, format!("{annotation} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(annotations: &[(&str, &str)]) -> Result<Option<Wanted>, Refused> {
        let annotations = annotations.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Wanted::of(Some(&annotations.collect()))
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        assert_eq!(Wanted::of(None), Ok(None));
        assert_eq!(wanted(&[(MOUNT_PATH, "/x")]), Ok(None));
        let one = wanted(&[(INJECT, "ci-token, db")]).expect("valid").expect("asks");
        assert_eq!(one.locks, ["ci-token", "db"]);
        assert_eq!((one.path.as_str(), one.delivery, one.refresh), ("/var/run/zen", Delivery::Memory, false));
        assert!(one.env.is_empty() && one.serves("anything"));
    }

    /// Z-04: every annotation's bad values, and what the message names.
    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        use LockRefusal::{AnnotationInvalid, MountPathUnsafe};
        let many = (0..17).map(|n| format!("l{n}")).collect::<Vec<_>>().join(",");
        for (annotations, reason, word) in [
            (vec![(INJECT, "")], AnnotationInvalid, INJECT),
            (vec![(INJECT, &*many)], AnnotationInvalid, "17"),
            (vec![(INJECT, "a,a")], AnnotationInvalid, "twice"),
            (vec![(INJECT, "../../secrets/x")], AnnotationInvalid, "no name"),
            (vec![(INJECT, "A")], AnnotationInvalid, "no name"),
            (vec![(INJECT, "--watch")], AnnotationInvalid, "no name"),
            (vec![(INJECT, "a"), (ENV, "b")], AnnotationInvalid, "b"),
            (vec![(INJECT, "a"), (CONTAINERS, "")], AnnotationInvalid, CONTAINERS),
            (vec![(INJECT, "a"), (MOUNT_PATH, "etc")], MountPathUnsafe, "etc"),
            (vec![(INJECT, "a"), (DELIVERY, "etcd")], AnnotationInvalid, DELIVERY),
            (vec![(INJECT, "a"), (REFRESH_CHANGES, "yes")], AnnotationInvalid, REFRESH_CHANGES),
            (vec![(INJECT, "a"), (REFRESH_CHANGES, "true"), (DELIVERY, "secret")], AnnotationInvalid, "memory"),
            (vec![(INJECT, "a"), (REFRESH_NOTIFY, "HUP:x")], AnnotationInvalid, REFRESH_CHANGES),
            (vec![(INJECT, "a"), (REFRESH_CHANGES, "true"), (REFRESH_NOTIFY, "x")], AnnotationInvalid, REFRESH_NOTIFY),
        ] {
            let refused = wanted(&annotations).expect_err("refused");
            assert_eq!(refused.reason, reason, "{annotations:?}");
            let message = refused.message("pod team-a/shop");
            assert!(message.starts_with("pod team-a/shop: ") && message.contains(word), "{message}");
            assert!(message.contains(reason.row().hint), "{message}");
        }
    }
}
