//! Files in the volume, exchanged as a whole.
//!
//! As Kubernetes does it for its own volumes: each version is a folder, `..data` is a link to the one in force, and the
//! folders of the ZenLocks are links through it. One rename takes a reader from all of the old files to all of the new.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{FILES, Mode, VARIABLES};
use crate::admit::{Unrepresentable, is_file_name, representable, variable};
use crate::unseal::wire::Unsealed;

/// Link to the version in force.
const DATA: &str = "..data";
/// Its successor, for a moment.
const NEXT: &str = "..data.next";
/// The kubelet reads variables as root; nobody else has to.
const VARIABLES_MODE: (u32, u32) = (0o700, 0o400);
/// New files inherit a folder's group through it; a change of mode would take it away.
const SET_GROUP: u32 = 0o2000;

/// The files cannot be written. Nothing of a value is in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The volume cannot be used.
    #[error("failed to write {path}: {source}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A name that would lead out of its folder.
    #[error("ZenLock {lock}, key {key}: it cannot be the name of a file")]
    Name {
        /// Of the ZenLock.
        lock: String,
        /// Of the key.
        key: String,
    },
    /// A value that cannot become a variable.
    #[error("ZenLock {lock}, key {key}: {} (EnvNotRepresentable)", .why.words())]
    Variable {
        /// Of the ZenLock.
        lock: String,
        /// Of the key.
        key: String,
        /// Why not.
        why: Unrepresentable,
    },
}

/// Writes files, and the variables of the ZenLocks in `env`. False where everything was so already.
pub fn write(volume: &Path, mode: Mode, env: &[String], locks: &[Unsealed]) -> Result<bool, Error> {
    check(env, locks)?;
    variables(volume, env, locks)?;
    let files = volume.join(FILES);
    make_folder(&files, mode.folder())?;
    if is_as(&files, locks) {
        return Ok(false);
    }
    let version = format!("..{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
    let folder = files.join(&version);
    make_folder(&folder, mode.folder())?;
    for lock in locks {
        let folder = folder.join(&lock.name);
        make_folder(&folder, mode.folder())?;
        for (key, value) in &lock.data {
            make_file(&folder.join(key), mode.file(), value.expose())?;
        }
    }
    link(&files.join(NEXT), Path::new(&version), &files.join(DATA))?;
    for lock in locks {
        let target = Path::new(DATA).join(&lock.name);
        let path = files.join(&lock.name);
        if fs::read_link(&path).ok().as_ref() != Some(&target) {
            link(&files.join(NEXT), &target, &path)?;
        }
    }
    sweep(&files, &version);
    Ok(true)
}

fn check(env: &[String], locks: &[Unsealed]) -> Result<(), Error> {
    for lock in locks {
        let name = |key: &str| Error::Name { lock: lock.name.clone(), key: key.to_owned() };
        if !is_file_name(&lock.name) {
            return Err(name(""));
        }
        for (key, value) in &lock.data {
            if !is_file_name(key) {
                return Err(name(key));
            }
            if env.contains(&lock.name)
                && let Err(why) = representable(value.expose())
            {
                return Err(Error::Variable { lock: lock.name.clone(), key: key.clone(), why });
            }
        }
    }
    Ok(())
}

/// Whether the version in force holds exactly this.
fn is_as(files: &Path, locks: &[Unsealed]) -> bool {
    let current = files.join(DATA);
    let count = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    count(&current) == locks.len()
        && locks.iter().all(|lock| {
            let folder = current.join(&lock.name);
            count(&folder) == lock.data.len()
                && lock.data.iter().all(|(key, value)| {
                    fs::read(folder.join(key)).is_ok_and(|found| zen_model::Secret::new(found) == *value)
                })
        })
}

/// What the kubelet reads when it starts a container.
fn variables(volume: &Path, env: &[String], locks: &[Unsealed]) -> Result<(), Error> {
    if env.is_empty() {
        return Ok(());
    }
    let size: usize =
        locks.iter().flat_map(|lock| &lock.data).map(|(key, value)| key.len() + value.expose().len() + 4).sum();
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(size));
    for lock in locks.iter().filter(|lock| env.contains(&lock.name)) {
        for (key, value) in &lock.data {
            for part in [variable(key).as_bytes(), b"='", value.expose(), b"'\n"] {
                text.extend_from_slice(part);
            }
        }
    }
    let path = volume.join(VARIABLES);
    let (folder_mode, file_mode) = VARIABLES_MODE;
    if let Some(folder) = path.parent() {
        make_folder(folder, folder_mode)?;
    }
    let beside = path.with_extension("next");
    let _ = fs::remove_file(&beside);
    make_file(&beside, file_mode, &text)?;
    fs::rename(&beside, &path).map_err(|source| Error::Write { path, source })
}

/// Makes a folder of this mode, whatever the process's mask is.
fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let is = fs::metadata(path).map_err(failed)?.mode();
    let due = mode | (is & SET_GROUP);
    if is & 0o7777 == due { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(due)).map_err(failed) }
}

fn make_file(path: &Path, mode: u32, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
}

/// Puts a link in place of what is there, at one moment.
fn link(beside: &Path, target: &Path, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let _ = fs::remove_file(beside);
    symlink(target, beside).map_err(failed)?;
    fs::rename(beside, path).map_err(failed)
}

/// Versions that are not in force any more, and what a killed process left.
fn sweep(files: &Path, version: &str) {
    for entry in fs::read_dir(files).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_version = name.as_encoded_bytes().starts_with(b"..") && name != DATA && name != version;
        if is_version && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, "failed to remove an earlier version");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zen_model::Secret;

    use super::*;

    fn lock(name: &str, data: &[(&str, &str)]) -> Unsealed {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect();
        Unsealed { namespace: "team-a".to_owned(), name: name.to_owned(), resource_version: "1".to_owned(), data }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    #[test]
    fn one_folder_for_each_zenlock_one_file_for_each_key() {
        let volume = tempfile::tempdir().expect("a folder");
        let locks = [lock("ci-token", &[("token", "hunter2")]), lock("db", &[("password", ""), ("user.name", "a\nb")])];
        assert!(write(volume.path(), Mode::Owner, &["ci-token".to_owned()], &locks).expect("written"));
        let files = volume.path().join(FILES);
        let read = |path: &str| fs::read_to_string(files.join(path)).expect("a file");
        assert_eq!(
            (read("ci-token/token"), read("db/password"), read("db/user.name")),
            ("hunter2".into(), String::new(), "a\nb".into())
        );
        assert_eq!((mode(&files), mode(&files.join("db")), mode(&files.join("db/password"))), (0o700, 0o700, 0o400));
        assert_eq!(fs::read_to_string(volume.path().join(VARIABLES)).expect("variables"), "TOKEN='hunter2'\n");
        assert_eq!((mode(&volume.path().join("env")), mode(&volume.path().join(VARIABLES))), (0o700, 0o400));
        // An init container that runs again finds what it would write.
        assert!(!write(volume.path(), Mode::Owner, &["ci-token".to_owned()], &locks).expect("written"));
    }

    #[test]
    fn a_version_takes_the_place_of_another_as_a_whole() {
        let volume = tempfile::tempdir().expect("a folder");
        let files = volume.path().join(FILES);
        let old = [lock("a", &[("x", "1"), ("gone", "1")]), lock("b", &[("x", "1")])];
        let new = [lock("a", &[("x", "2"), ("new", "2")]), lock("b", &[("x", "2")])];
        write(volume.path(), Mode::Everyone, &[], &old).expect("written");
        let before = fs::canonicalize(files.join("a")).expect("a folder");
        assert!(write(volume.path(), Mode::Everyone, &[], &new).expect("written"));
        assert!(!before.exists(), "the earlier version is gone");
        assert_eq!(fs::read_to_string(files.join("a/x")).expect("a file"), "2");
        assert!(!files.join("a/gone").exists() && files.join("a/new").exists());
        let versions = fs::read_dir(&files).expect("a folder").flatten();
        let versions = versions.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
        assert_eq!((versions, mode(&files.join("a/x"))), (1, 0o444));
        // Both ZenLocks hang on one link.
        let link = |name: &str| fs::read_link(files.join(name)).expect("a link");
        assert_eq!((link("a"), link("b")), (Path::new("..data/a").into(), Path::new("..data/b").into()));
    }

    #[test]
    fn the_group_of_the_volume_is_inherited() {
        let volume = tempfile::tempdir().expect("a folder");
        fs::set_permissions(volume.path(), Permissions::from_mode(0o2770)).expect("changed");
        write(volume.path(), Mode::Group, &[], &[lock("a", &[("x", "1")])]).expect("written");
        let files = volume.path().join(FILES);
        assert_eq!((mode(&files), mode(&files.join("a")), mode(&files.join("a/x"))), (0o2750, 0o2750, 0o440));
    }

    #[test]
    fn names_and_values_that_cannot_be_written_change_nothing() {
        let volume = tempfile::tempdir().expect("a folder");
        let outside = volume.path().join("outside");
        for (locks, env) in [
            ([lock("a", &[("../../outside", "x")])], vec![]),
            ([lock("..", &[("outside", "x")])], vec![]),
            ([lock("a", &[("x", "it's")])], vec!["a".to_owned()]),
        ] {
            let error = write(volume.path(), Mode::Owner, &env, &locks).expect_err("refused").to_string();
            assert!(!error.contains("it's") && !outside.exists() && !volume.path().join(FILES).exists(), "{error}");
        }
    }
}
