//! A folder of manifests in memory: each file's last good version, refreshed from disk.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zen_compile::{LockData, Objects, Verdict};
use zen_lock::{Keyring, OpenError};
use zen_model::{LockReason, ObjectKey, ObjectReason};

use crate::manifest::{self, File, Manifest, Object};
use crate::scan::{self, Listing, Stamp};
use crate::{Error, Finding, yaml};

/// A file changed so recently may change again within the same tick of the file system's clock.
const RACY: Duration = Duration::from_secs(1);
/// A file that was emptied is about to be written by most editors; it counts as empty after this.
const EMPTY_GRACE: Duration = Duration::from_secs(1);

/// A folder and what was read from it.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    held: BTreeMap<PathBuf, Held>,
    notes: Vec<Finding>,
    /// What `ZenLock`s are opened with.
    keyring: Keyring,
}

/// One file.
#[derive(Debug)]
struct Held {
    stamp: Option<Stamp>,
    hash: u64,
    /// The version in force.
    file: File,
    /// What is wrong with the version on disk, where that is another one.
    rejected: Option<Vec<Finding>>,
}

/// What a refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// Objects or findings are not what they were.
    pub changed: bool,
    /// Look again after this: a file is being written.
    pub again: Option<Duration>,
}

impl Folder {
    /// A folder that nothing was read from yet.
    pub fn open(root: &Path) -> Result<Self, Error> {
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self {
                root: root.to_owned(),
                held: BTreeMap::new(),
                notes: Vec::new(),
                keyring: Keyring::default(),
            }),
            Ok(_) => Err(Error::NotAFolder(root.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing(root.to_owned())),
            Err(source) => Err(Error::Unreadable { path: root.to_owned(), source }),
        }
    }

    /// Opens `ZenLock`s with these private keys, from the next reading of a file on.
    #[must_use]
    pub fn with_keyring(self, keyring: Keyring) -> Self {
        Self { keyring, ..self }
    }

    /// A folder of one file that is on no disk.
    pub(crate) fn of(mut file: File) -> Self {
        unlock(&mut file, &Keyring::default());
        let path = file.path.clone();
        let held = Held { stamp: None, hash: 0, file, rejected: None };
        Self {
            root: PathBuf::new(),
            held: BTreeMap::from([(path, held)]),
            notes: Vec::new(),
            keyring: Keyring::default(),
        }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders below it, itself included, that have to be watched.
    pub(crate) fn list(&self) -> Result<Listing, Error> {
        scan::list(&self.root).map_err(|source| Error::Unreadable { path: self.root.clone(), source })
    }

    /// Reads what changed on disk. A file that is bad now keeps its last good version in force.
    pub fn refresh(&mut self) -> Result<Refresh, Error> {
        let listing = self.list()?;
        Ok(self.refresh_from(&listing, SystemTime::now()))
    }

    pub(crate) fn refresh_from(&mut self, listing: &Listing, now: SystemTime) -> Refresh {
        let mut refresh = Refresh::default();
        let gone = |path: &PathBuf| {
            !listing.files.contains_key(path) && !listing.unreadable.keys().any(|blocked| path.starts_with(blocked))
        };
        let before = self.held.len();
        self.held.retain(|path, _| !gone(path));
        refresh.changed |= self.held.len() != before;
        for (path, stamp) in &listing.files {
            refresh.changed |= self.refresh_file(path, *stamp, now, &mut refresh.again);
        }
        let mut notes: Vec<_> = listing
            .unreadable
            .iter()
            .map(|(path, error)| {
                Finding::new(path, 0, ObjectReason::Unreadable, format!("it cannot be read: {}", error.kind()))
            })
            .collect();
        if listing.cut {
            notes.push(Finding::new(
                "",
                0,
                ObjectReason::Unreadable,
                "the folder has too many files or levels; some were left out",
            ));
        }
        refresh.changed |= notes != self.notes;
        self.notes = notes;
        refresh
    }

    fn refresh_file(&mut self, path: &Path, stamp: Stamp, now: SystemTime, again: &mut Option<Duration>) -> bool {
        // A time in the future is as settled as one in the past, or such a file would be read for ever.
        let distance = |modified| now.duration_since(modified).unwrap_or_else(|error| error.duration());
        let age = stamp.modified.map(distance).unwrap_or_default();
        let held = self.held.get(path);
        if held.is_some_and(|held| held.stamp == Some(stamp)) {
            return false;
        }
        if stamp.len == 0 && age < EMPTY_GRACE && held.is_some_and(|held| !held.file.manifests.is_empty()) {
            *again = Some(EMPTY_GRACE);
            return false;
        }
        let known = (age >= RACY).then_some(stamp);
        if known.is_none() {
            *again = Some(RACY);
        }
        let (file, hash) = match bytes(&self.root.join(path)) {
            Ok(bytes) => {
                let hash = hash(&bytes);
                if let Some(held) = self.held.get_mut(path).filter(|held| held.hash == hash) {
                    held.stamp = known;
                    return false;
                }
                let mut file = manifest::read(path, &bytes);
                unlock(&mut file, &self.keyring);
                (file, hash)
            }
            // Between the listing and now it went away: the next listing tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                let finding =
                    Finding::new(path, 0, ObjectReason::Unreadable, format!("it cannot be read: {}", error.kind()));
                let file = File { path: path.to_owned(), findings: vec![finding], ..File::default() };
                let hash = hash(error.kind().to_string().as_bytes());
                if self.held.get(path).is_some_and(|held| held.hash == hash) {
                    return false;
                }
                (file, hash)
            }
        };
        let fresh = match self.held.remove(path) {
            Some(held) if file.is_bad() => Held { stamp: known, hash, rejected: Some(file.findings), ..held },
            _ => Held { stamp: known, hash, file, rejected: None },
        };
        self.held.insert(path.to_owned(), fresh);
        true
    }

    /// The objects in force and the findings about files, with every `--service` address.
    pub fn objects(&self, overrides: &BTreeMap<ObjectKey, Vec<SocketAddr>>) -> (Objects, Vec<Finding>) {
        let mut findings = self.notes.clone();
        let zen_locks = Some(BTreeMap::new());
        let mut objects = Objects { overrides: overrides.clone(), zen_locks, ..Objects::default() };
        let mut owners: BTreeMap<(&str, ObjectKey), (&Path, u32)> = BTreeMap::new();
        // What stands in a good file comes before the remains of a bad one: it may have been moved there.
        for held in self.in_order() {
            findings.extend(held.rejected.as_ref().unwrap_or(&held.file.findings).iter().cloned());
            if held.rejected.is_some() && !held.file.manifests.is_empty() {
                let message = "the file's last good version stays in force until it is mended";
                findings.push(Finding {
                    warning: true,
                    ..Finding::new(&held.file.path, 0, ObjectReason::Unreadable, message)
                });
            }
            if let Some((config, _)) = &held.file.mesh {
                objects.mesh = Some(config.clone());
            }
            for manifest in &held.file.manifests {
                let owner = (manifest.kind, manifest.key.clone());
                if let Some((file, line)) = owners.get(&owner) {
                    if held.rejected.is_none() {
                        let message = format!("{}:{line} holds the same object, which is in force", file.display());
                        let finding =
                            Finding::new(&held.file.path, manifest.node.line, ObjectReason::Duplicate, message);
                        findings.push(finding.about(manifest.kind, &manifest.key, ""));
                    }
                    continue;
                }
                owners.insert(owner, (&held.file.path, manifest.node.line));
                insert(&mut objects, manifest);
            }
        }
        if objects.mesh.is_none() && self.held.contains_key(Path::new(manifest::MESH_FILE)) {
            // A configuration that cannot be read grants nothing, rather than everything.
            objects.mesh = Some(Arc::default());
        }
        (objects, findings)
    }

    /// Whether every file could be read as it is on disk now.
    pub fn is_complete(&self) -> bool {
        self.notes.is_empty() && self.held.values().all(|held| held.rejected.is_none() && !held.file.is_bad())
    }

    /// Whether no file holds anything that this program knows.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
            && self.held.values().all(|held| held.file.manifests.is_empty() && held.file.findings.is_empty())
    }

    /// The findings of a compilation, with file and line. Those of refused objects were made when they were read.
    pub fn findings_of(&self, objects: &Objects, verdicts: &[Verdict]) -> Vec<Finding> {
        let mut places: BTreeMap<(&str, &ObjectKey), (&File, &Manifest)> = BTreeMap::new();
        for held in self.in_order() {
            for manifest in &held.file.manifests {
                places.entry((manifest.kind, &manifest.key)).or_insert((&held.file, manifest));
            }
        }
        let mut findings = Vec::new();
        for verdict in verdicts {
            if objects.refused.iter().any(|refused| refused.kind == verdict.kind && refused.key == verdict.key) {
                continue;
            }
            let place = places.get(&(verdict.kind, &verdict.key));
            for problem in &*verdict.problems {
                let file = place.map(|(file, _)| file.path.clone()).unwrap_or_default();
                let line = place.map_or(0, |(_, manifest)| manifest.node.line_of(&problem.field));
                let finding = Finding::new(file, line, problem.reason, &problem.message);
                findings.push(finding.about(verdict.kind, &verdict.key, &problem.field));
            }
        }
        findings
    }

    fn in_order(&self) -> impl Iterator<Item = &Held> {
        let good = self.held.values().filter(|held| held.rejected.is_none());
        good.chain(self.held.values().filter(|held| held.rejected.is_some()))
    }
}

fn insert(objects: &mut Objects, manifest: &Manifest) {
    let key = manifest.key.clone();
    match manifest.object.clone() {
        Object::Webhook(object) => drop(objects.webhooks.insert(key, object)),
        Object::Destination(object) => drop(objects.destinations.insert(key, object)),
        Object::Secret(object) => drop(objects.secrets.insert(key, object)),
        Object::ConfigMap(object) => drop(objects.config_maps.insert(key, object)),
        Object::Service(object) => drop(objects.services.insert(key, object)),
        Object::EndpointSlice(object) => drop(objects.endpoint_slices.insert(key, object)),
        Object::Namespace(labels) => drop(objects.namespaces.insert(manifest::namespace_of(&key), labels)),
        Object::Cluster(id, enrolled) => drop(objects.clusters.insert(id, enrolled)),
        Object::Refused(refused) => objects.refused.push(refused),
        Object::Opened(lock) => drop(objects.zen_locks.get_or_insert_default().insert(key, lock)),
        Object::ZenLock(_) | Object::Checked => {}
    }
}

/// Once for each version of a file, so that a change elsewhere opens nothing again and says that nothing changed.
fn unlock(file: &mut File, keyring: &Keyring) {
    for manifest in &mut file.manifests {
        let Object::ZenLock(lock) = &manifest.object else { continue };
        let open = |armored: &str| match keyring.open(armored) {
            Ok(opened) => Ok(opened.plaintext),
            Err(OpenError::UnknownKey) if keyring.is_empty() => Err(LockReason::NoIdentity),
            Err(error) => Err(error.reason()),
        };
        let values = lock.spec.encrypted_data.iter().map(|(key, armored)| (key.clone(), open(armored)));
        let data = LockData::new(lock.spec.allowed_subjects.clone(), values.collect());
        manifest.object = Object::Opened(Arc::new(data));
    }
}

/// At most one byte more than a manifest may have: the reader refuses it then.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
