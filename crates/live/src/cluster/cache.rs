//! The objects in force, in a file: a container that restarts goes on with them while the API server is away (K-04).
//!
//! The file holds Secrets. It belongs into an in-memory volume, only its owner may read it, and it is replaced whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zen_compile::{ConfigMapData, EndpointSlice, Enrolled, Objects, Plane, SecretData, Service};
use zen_model::{ClusterId, Namespace, ObjectKey, Secret};
use zeroize::Zeroizing;

use super::state::State;

/// Changes are written together, this long after the first of them.
const DELAY: Duration = Duration::from_secs(1);
/// Form of the file; another one is not read.
const VERSION: u32 = 1;

/// The file and when it is to be written.
pub(super) struct Cache {
    path: PathBuf,
    plane: Plane,
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl Cache {
    pub(super) const fn new(path: PathBuf, plane: Plane) -> Self {
        Self { path, plane, due: None, writing: None }
    }

    /// What was in force; none where nothing was kept, or what was kept cannot be used.
    pub(super) async fn load(&self) -> Option<Stored> {
        let (path, plane) = (self.path.clone(), label(self.plane));
        let read = tokio::task::spawn_blocking(move || read(&path)).await.ok()?;
        match read {
            Ok(stored) if stored.version == VERSION && stored.plane == plane => Some(stored),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                // Its text could quote a secret.
                tracing::warn!(path = %self.path.display(), kind = %error.kind(), "the kept configuration cannot be read");
                None
            }
        }
    }

    /// What is kept is not in force any more.
    pub(super) fn outdated(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + DELAY);
    }

    /// When to write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes on a thread that may block. Where the last time is not over yet, later.
    pub(super) fn write(&mut self, mut stored: Stored) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.due = Some(Instant::now() + DELAY);
            return;
        }
        self.due = None;
        label(self.plane).clone_into(&mut stored.plane);
        let path = self.path.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &stored) {
                tracing::warn!(path = %path.display(), %error, "failed to keep the configuration");
            }
        }));
    }
}

const fn label(plane: Plane) -> &'static str {
    match plane {
        Plane::Ingester => "ingester",
        Plane::Egress => "egress",
        Plane::Member => "member",
        Plane::Operator => "operator",
    }
}

fn read(path: &Path) -> io::Result<Stored> {
    Ok(serde_json::from_reader(BufReader::new(File::open(path)?))?)
}

/// Another file is written and takes the place of this one, so that a reader finds one or the other, whole.
fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let mut other = path.as_os_str().to_owned();
    other.push(".new");
    let other = PathBuf::from(other);
    // One that a crash left behind may have another owner or mode.
    match std::fs::remove_file(&other) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut writer = BufWriter::with_capacity(64 << 10, options.open(&other)?);
    serde_json::to_writer(&mut writer, stored)?;
    writer.flush()?;
    drop(writer);
    std::fs::rename(&other, path)
}

/// The content of the file.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Stored {
    version: u32,
    plane: String,
    webhooks: Vec<Arc<zen_crds::Webhook>>,
    destinations: Vec<Arc<zen_crds::Destination>>,
    secrets: Vec<(ObjectKey, StoredSecret)>,
    config_maps: Vec<(ObjectKey, BTreeMap<String, Bytes>)>,
    services: Vec<(ObjectKey, Arc<Service>)>,
    endpoint_slices: Vec<(ObjectKey, Arc<EndpointSlice>)>,
    namespaces: Vec<(Namespace, Arc<BTreeMap<String, String>>)>,
    /// None: as a release wrote it that knew of no clusters, or a plane that has no need of them.
    #[serde(default)]
    clusters: Option<Vec<(ClusterId, Arc<Enrolled>)>>,
    mesh: Option<Arc<str>>,
}

#[derive(Deserialize, Serialize)]
struct StoredSecret {
    r#type: String,
    data: BTreeMap<String, Bytes>,
}

/// Bytes that are written as base64, and wiped.
struct Bytes(Zeroizing<Vec<u8>>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(&*text).map_err(|_| serde::de::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl Stored {
    /// What is in force.
    pub(super) fn of(state: &State) -> Self {
        let objects = &state.objects;
        let bytes = |(name, bytes): (&str, &[u8])| (name.to_owned(), Bytes(Zeroizing::new(bytes.to_vec())));
        let secrets = objects.secrets.iter().map(|(key, secret)| {
            let data = secret.entries().map(|(name, value)| bytes((name, value.expose()))).collect();
            (key.clone(), StoredSecret { r#type: secret.r#type().to_owned(), data })
        });
        let config_maps = objects.config_maps.iter();
        Self {
            version: VERSION,
            plane: String::new(),
            webhooks: objects.webhooks.values().cloned().collect(),
            destinations: objects.destinations.values().cloned().collect(),
            secrets: secrets.collect(),
            config_maps: config_maps.map(|(key, map)| (key.clone(), map.entries().map(bytes).collect())).collect(),
            services: pairs(&objects.services),
            endpoint_slices: pairs(&objects.endpoint_slices),
            namespaces: pairs(&objects.namespaces),
            clusters: (!objects.clusters_unread).then(|| pairs(&objects.clusters)),
            mesh: state.mesh_text(),
        }
    }

    /// Objects, and the mesh configuration as it is written.
    pub(super) fn into_parts(self) -> (Objects, Option<Arc<str>>) {
        let key = |namespace: &Option<String>, name: &Option<String>| {
            ObjectKey::new(namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
        };
        let secrets = self.secrets.into_iter().map(|(key, StoredSecret { r#type, data })| {
            let data = data.into_iter().map(|(name, bytes)| (name, Secret::new(bytes.0.to_vec())));
            (key, Arc::new(SecretData::new(r#type, data.collect())))
        });
        let config_maps = self.config_maps.into_iter().map(|(key, data)| {
            let data = data.into_iter().map(|(name, bytes)| (name, bytes.0.to_vec()));
            (key, Arc::new(ConfigMapData::new(data.collect())))
        });
        let webhooks = self.webhooks.into_iter();
        let destinations = self.destinations.into_iter();
        let objects = Objects {
            webhooks: webhooks.map(|own| (key(&own.metadata.namespace, &own.metadata.name), own)).collect(),
            destinations: destinations.map(|own| (key(&own.metadata.namespace, &own.metadata.name), own)).collect(),
            secrets: secrets.collect(),
            config_maps: config_maps.collect(),
            services: self.services.into_iter().collect(),
            endpoint_slices: self.endpoint_slices.into_iter().collect(),
            namespaces: self.namespaces.into_iter().collect(),
            clusters: self.clusters.into_iter().flatten().collect(),
            ..Objects::default()
        };
        (objects, self.mesh)
    }
}

fn pairs<K: Clone, V>(map: &BTreeMap<K, Arc<V>>) -> Vec<(K, Arc<V>)> {
    map.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
}
