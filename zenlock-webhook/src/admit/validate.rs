//! Admission of ZenLocks: what nobody could open, or what could not become files, is refused before it is stored (Z-05).

use std::collections::BTreeSet;

use zen_crds::ZenLock;
use zen_lock::{Keyring, MAX_KEYS, OpenError, inspect};
use zen_model::reason::LockRefusal;

use super::Refused;

/// Bytes of all ciphertext: what etcd takes in one object, with room for the rest.
const LARGEST: usize = (3 << 19) - (16 << 10);
/// Who may use it: as many as the schema takes.
const MOST_SUBJECTS: usize = 64;

/// Warnings for who applies it, or why it is refused. Keys that are as they were are not looked at again: labels and
/// finalizers of a ZenLock can be changed whatever became of the identities.
pub fn validate(new: &ZenLock, old: Option<&ZenLock>, ring: &Keyring) -> Result<Vec<String>, Refused> {
    let invalid = |detail: String| Refused::new(LockRefusal::ZenLockInvalid, detail);
    let files = &new.spec.encrypted_data;
    let before = old.map(|old| &old.spec.encrypted_data);
    if before != Some(files) {
        if files.len() > MAX_KEYS {
            return Err(invalid(format!("it has {} keys, and {MAX_KEYS} are possible", files.len())));
        }
        let size: usize = files.values().map(|file| file.len()).sum();
        if size > LARGEST {
            return Err(invalid(format!("its ciphertext has {size} bytes, and {LARGEST} are possible")));
        }
    }
    subjects(new).map_err(invalid)?;
    let mut warnings = Vec::new();
    if new.spec.allowed_subjects.is_empty() {
        warnings.push("spec.allowedSubjects is empty: nobody may use this ZenLock".to_owned());
    }
    let mut older = Vec::new();
    for (key, file) in files {
        if before.and_then(|before| before.get(key)) == Some(file) {
            continue;
        }
        if !is_file_name(key) {
            return Err(invalid("it cannot be the name of a file".to_owned()).at(key));
        }
        match opens(ring, file) {
            Ok(true) => {}
            Ok(false) => older.push(key.as_str()),
            Err(error @ (OpenError::UnknownKey | OpenError::Corrupt)) => {
                let detail = format!("{error} ({})", error.reason().code());
                return Err(Refused::new(LockRefusal::NotDecryptable, detail).at(key));
            }
            Err(error) => return Err(invalid(format!("{error} ({})", error.reason().code())).at(key)),
        }
    }
    if !older.is_empty() {
        let keys = older.join(", ");
        warnings.push(format!("not sealed to the newest public key of the mesh: {keys}; run zen lock rotate"));
    }
    Ok(warnings)
}

/// Whether it opens with the newest key. Without any key only the header can be checked.
fn opens(ring: &Keyring, file: &str) -> Result<bool, OpenError> {
    if ring.is_empty() {
        return inspect(file).map(|_| true);
    }
    ring.open(file).map(|opened| opened.newest)
}

fn subjects(lock: &ZenLock) -> Result<(), String> {
    let subjects = &lock.spec.allowed_subjects;
    if subjects.len() > MOST_SUBJECTS {
        return Err(format!("it allows {} subjects, and {MOST_SUBJECTS} are possible", subjects.len()));
    }
    let mut seen = BTreeSet::new();
    for subject in subjects {
        let name = &*subject.name;
        let well_formed = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
            && !name.starts_with(['-', '.'])
            && !name.ends_with(['-', '.']);
        if !well_formed {
            return Err(format!("{} {name:?} is no name of an object", subject.kind));
        }
        if !seen.insert((subject.kind, name)) {
            return Err(format!("{} {name} is listed twice", subject.kind));
        }
    }
    Ok(())
}

/// Whether a key can be a file in a folder that is exchanged as a whole: no way out of it, and not one of its own names.
pub fn is_file_name(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && !key.starts_with("..")
        && key != "."
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zen_lock::{Identity, seal};
    use zen_model::Secret;

    use super::*;

    fn lock(data: &[(&str, &str)], subjects: &Value) -> ZenLock {
        let data: serde_json::Map<_, _> = data.iter().map(|(key, file)| ((*key).to_owned(), (*file).into())).collect();
        let spec = json!({"encryptedData": data, "allowedSubjects": subjects});
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).expect("a ZenLock")
    }

    fn sealed(to: &Identity) -> String {
        seal(&Secret::new("hunter2"), &[to.recipient()]).expect("sealed")
    }

    #[test]
    fn what_nobody_could_open_is_refused() {
        use LockRefusal::{NotDecryptable, ZenLockInvalid};
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let ring = Keyring::new(vec![ours.clone()]);
        let ci = json!([{"kind": "ServiceAccount", "name": "ci"}]);
        let (good, foreign) = (sealed(&ours), sealed(&theirs));
        assert_eq!(validate(&lock(&[("a", &good)], &ci), None, &ring), Ok(vec![]));
        let middle = good.len() / 2;
        let mut damaged = good.clone();
        let other = if damaged.as_bytes()[middle] == b'A' { "B" } else { "A" };
        damaged.replace_range(middle..=middle, other);
        let many: Vec<(String, String)> = (0..65).map(|n| (format!("k{n}"), good.clone())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(key, file)| (key.as_str(), file.as_str())).collect();
        let twice = json!([{"kind": "ServiceAccount", "name": "ci"}, {"kind": "ServiceAccount", "name": "ci"}]);
        for (object, reason, words) in [
            (lock(&[("a", &good), ("b", &foreign)], &ci), NotDecryptable, "key b: none of the private keys"),
            (lock(&[("a", "hunter2")], &ci), ZenLockInvalid, "NotArmored"),
            (lock(&[("a", &damaged)], &ci), NotDecryptable, "key a"),
            (lock(&[("..", &good)], &ci), ZenLockInvalid, "name of a file"),
            (lock(&[("a/b", &good)], &ci), ZenLockInvalid, "name of a file"),
            (lock(&many, &ci), ZenLockInvalid, "65 keys"),
            (lock(&[("a", &good)], &json!([{"kind": "Webhook", "name": "A b"}])), ZenLockInvalid, "no name"),
            (lock(&[("a", &good)], &twice), ZenLockInvalid, "twice"),
        ] {
            let refused = validate(&object, None, &ring).expect_err(words);
            // Damage may be seen in the header, or in the payload.
            let either = words == "key a" && refused.reason == ZenLockInvalid;
            assert!(refused.reason == reason || either, "{refused:?}");
            let message = refused.message("ZenLock team-a/db");
            assert!(message.contains(words), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("AGE ENCRYPTED FILE\n"), "{message}");
        }
    }

    #[test]
    fn what_was_there_before_stays_changeable() {
        let (ours, lost) = (Identity::generate(), Identity::generate());
        let ring = Keyring::new(vec![ours.clone()]);
        let foreign = sealed(&lost);
        let old = lock(&[("a", &foreign)], &json!([]));
        let mut labelled = old.clone();
        labelled.metadata.finalizers = Some(vec![]);
        labelled.spec.allowed_subjects =
            lock(&[], &json!([{"kind": "Destination", "name": "ci"}])).spec.allowed_subjects;
        assert_eq!(validate(&labelled, Some(&old), &ring), Ok(vec![]));
        let more = lock(&[("a", &foreign), ("b", &foreign)], &json!([]));
        assert_eq!(validate(&more, Some(&old), &ring).expect_err("refused").key.as_deref(), Some("b"));
    }

    #[test]
    fn warnings_say_what_works_and_should_not_stay_so() {
        let (new, old) = (Identity::generate(), Identity::generate());
        let ring = Keyring::new(vec![new, old.clone()]);
        let warnings = validate(&lock(&[("a", &sealed(&old))], &json!([])), None, &ring).expect("admitted");
        assert!(warnings[0].contains("nobody") && warnings[1].contains("a; run zen lock rotate"), "{warnings:?}");
        // Without keys the header alone is checked.
        let foreign = sealed(&Identity::generate());
        let ci = json!([{"kind": "ServiceAccount", "name": "ci"}]);
        assert_eq!(validate(&lock(&[("a", &foreign)], &ci), None, &Keyring::default()), Ok(vec![]));
    }

    #[test]
    fn names_of_files() {
        for name in ["a", "tls.key", ".env", "A-b_c.9", "a..b"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", "..data", "a/b", "a b", "\u{e9}"] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
