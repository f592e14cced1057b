//! One file → objects with their places. Total on arbitrary bytes.

mod core_kinds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use zen_compile::{
    ConfigMapData, EndpointSlice, Enrolled, LockData, Place, Problem, Refused, SecretData, Service, mesh,
};
use zen_model::{ClusterId, LockReason, Namespace, ObjectKey, ObjectReason};

use crate::Finding;
use crate::yaml::{self, Document, Node};

/// Namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The name of the mesh configuration file in the root of the folder.
pub const MESH_FILE: &str = "mesh.yaml";

/// One file as it was read.
#[derive(Debug, Default)]
pub struct File {
    /// Its path, relative to the folder.
    pub path: PathBuf,
    /// The objects in it, in order.
    pub manifests: Vec<Manifest>,
    /// The mesh configuration, where this is its file.
    pub mesh: Option<(Arc<mesh::Config>, Node)>,
    /// What is wrong with the file, before anything is compiled.
    pub findings: Vec<Finding>,
}

impl File {
    /// Whether something was refused: the last good version of the file stays in force then.
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| !finding.warning)
    }
}

/// One object and where it stands.
#[derive(Debug)]
pub struct Manifest {
    /// Its kind.
    pub kind: &'static str,
    /// Its name; the name alone counts for namespaces.
    pub key: ObjectKey,
    /// The tree, for lines of fields. Secrets are cut off.
    pub node: Node,
    /// What is in it.
    pub object: Object,
}

/// The content of an object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Webhook.
    Webhook(Arc<zen_crds::Webhook>),
    /// A Destination.
    Destination(Arc<zen_crds::Destination>),
    /// A Secret.
    Secret(Arc<SecretData>),
    /// A `ConfigMap`.
    ConfigMap(Arc<ConfigMapData>),
    /// A Service.
    Service(Arc<Service>),
    /// An `EndpointSlice`.
    EndpointSlice(Arc<EndpointSlice>),
    /// Labels of a Namespace.
    Namespace(Arc<BTreeMap<String, String>>),
    /// A `ZenLock` whose values are well-formed age files.
    ZenLock(Arc<zen_crds::ZenLock>),
    /// The same, opened as far as the folder's private keys can.
    Opened(Arc<LockData>),
    /// A member cluster.
    Cluster(ClusterId, Arc<Enrolled>),
    /// What has no part in a configuration: checked only.
    Checked,
    /// One of ours that was refused.
    Refused(Refused),
}

/// Reads the text of a file. `path` is relative to the folder.
pub fn read(path: &Path, bytes: &[u8]) -> File {
    let mut reader = Reader { file: File { path: path.to_owned(), ..File::default() } };
    let (documents, error) = yaml::parse(bytes);
    if path == Path::new(MESH_FILE) {
        reader.mesh(&documents);
    } else {
        for document in documents {
            reader.document(document);
        }
    }
    if let Some(error) = error {
        reader.file.findings.push(Finding::new(path, error.line, ObjectReason::Unreadable, error.message));
    }
    reader.file
}

struct Reader {
    file: File,
}

impl Reader {
    fn mesh(&mut self, documents: &[Document]) {
        let root =
            documents.first().map_or(Node { line: 1, value: yaml::Value::Null }, |document| document.root.clone());
        if let Some(extra) = documents.get(1) {
            let finding = Finding::new(
                MESH_FILE,
                extra.root.line,
                ObjectReason::Invalid,
                "mesh.yaml is one document, not several",
            );
            self.file.findings.push(finding);
        }
        for ambiguity in documents.iter().flat_map(|document| &document.ambiguities) {
            let finding = Finding::new(MESH_FILE, ambiguity.line, ObjectReason::AmbiguousYaml, &ambiguity.message);
            self.file.findings.push(finding);
        }
        match mesh::Config::from_json(&root.to_json()) {
            Ok(config) => self.file.mesh = Some((Arc::new(config), root)),
            Err(problems) => {
                for Problem { field, reason, message } in problems {
                    let mut finding = Finding::new(MESH_FILE, root.line_of(&field), reason, message);
                    finding.field = field;
                    self.file.findings.push(finding);
                }
            }
        }
    }

    fn document(&mut self, document: Document) {
        let Document { root, ambiguities } = document;
        let before = self.file.manifests.len();
        match &root.value {
            yaml::Value::Null => {}
            yaml::Value::Map(_) => self.object(root, 0),
            _ => {
                self.note(
                    root.line,
                    ObjectReason::Unreadable,
                    "a document must be a Kubernetes object, which is a map",
                );
            }
        }
        // Ambiguities of kinds that are ignored are nobody's business here.
        for manifest in &self.file.manifests[before..] {
            let (first, last) = (manifest.node.line, manifest.node.last_line());
            let own = ambiguities.iter().filter(|ambiguity| (first..=last).contains(&ambiguity.line));
            let found =
                own.map(|ambiguity| {
                    Finding::new(&self.file.path, ambiguity.line, ObjectReason::AmbiguousYaml, &ambiguity.message)
                        .about(manifest.kind, &manifest.key, "")
                });
            self.file.findings.extend(found);
        }
    }

    fn note(&mut self, line: u32, reason: ObjectReason, message: impl Into<String>) {
        self.file.findings.push(Finding::new(&self.file.path, line, reason, message));
    }

    fn object(&mut self, node: Node, depth: usize) {
        let api = node.get("apiVersion").and_then(Node::as_str);
        let Some(kind) = node.get("kind").and_then(Node::as_str) else {
            if api.is_none() && is_values(&self.file.path) {
                return;
            }
            return self.note(
                node.line,
                ObjectReason::Unreadable,
                "the document has no kind: it is no Kubernetes object",
            );
        };
        let Some(api) = api else {
            return self.note(node.line, ObjectReason::Unreadable, format!("the {kind} has no apiVersion"));
        };
        match (api, kind) {
            (_, _) if kind.ends_with("List") && node.get("items").is_some() => {
                if depth > 0 {
                    return self.note(node.line, ObjectReason::Unreadable, "a list must not stand inside a list");
                }
                let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(str::to_owned);
                let api = api.to_owned();
                for item in node.get("items").map(Node::elements).unwrap_or_default() {
                    let mut item = item.clone();
                    // Items of a typed list may leave out what its kind says already.
                    if let Some(kind) = &item_kind {
                        item.default_field("apiVersion", &api);
                        item.default_field("kind", kind);
                    }
                    match item.value {
                        yaml::Value::Map(_) => self.object(item, depth + 1),
                        _ => self.note(item.line, ObjectReason::Unreadable, "an item of a list must be an object"),
                    }
                }
            }
            (zen_crds::API_VERSION, _) => self.own_kind(node),
            (_, _) if api.split('/').next() == Some(zen_crds::GROUP) => {
                let message = format!("apiVersion {api} is not known; this release reads {}", zen_crds::API_VERSION);
                self.note(node.line_of("apiVersion"), ObjectReason::Invalid, message);
            }
            ("v1", "Secret" | "ConfigMap" | "Service" | "Namespace") | ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.core_kind(node);
            }
            _ => {}
        }
    }

    /// Name and namespace; reported where there is none.
    fn key(&mut self, kind: &str, node: &Node) -> Option<ObjectKey> {
        let metadata = node.get("metadata");
        let text = |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(Node::as_str);
        let Some(name) = text("name").filter(|name| !name.is_empty()) else {
            self.note(node.line_of("metadata.name"), ObjectReason::Invalid, format!("the {kind} has no metadata.name"));
            return None;
        };
        Some(ObjectKey::new(text("namespace").unwrap_or(DEFAULT_NAMESPACE), name))
    }

    fn core_kind(&mut self, mut node: Node) {
        let kind = match node.get("kind").and_then(Node::as_str) {
            Some("Secret") => "Secret",
            Some("ConfigMap") => "ConfigMap",
            Some("Service") => "Service",
            Some("EndpointSlice") => "EndpointSlice",
            _ => "Namespace",
        };
        let Some(key) = self.key(kind, &node) else { return };
        let object = core_kinds::read(kind, &node);
        if kind == "Secret" {
            // Lines are all that is needed of it from here on.
            node.cut("data");
            node.cut("stringData");
        }
        match object {
            Ok(object) => self.file.manifests.push(Manifest { kind, key, node, object }),
            Err((field, message)) => {
                let finding = Finding::new(&self.file.path, node.line_of(&field), ObjectReason::Invalid, message);
                self.file.findings.push(finding.about(kind, &key, field));
            }
        }
    }

    fn own_kind(&mut self, node: Node) {
        let written = node.get("kind").and_then(Node::as_str).unwrap_or_default();
        let Some(kind) = zen_crds::KINDS.iter().copied().find(|kind| *kind == written) else {
            let message = format!(
                "there is no kind {written:?} in {}; use one of {}",
                zen_crds::API_VERSION,
                zen_crds::KINDS.join(", ")
            );
            return self.note(node.line_of("kind"), ObjectReason::Invalid, message);
        };
        let Some(key) = self.key(kind, &node) else { return };
        let json = node.to_json();
        let mut problems: Vec<Problem> = Vec::new();
        for problem in zen_crds::validate(kind, &json) {
            let reason = if problem.unknown { ObjectReason::UnknownField } else { ObjectReason::Invalid };
            let mut finding = Finding::new(&self.file.path, node.line_of(&problem.field), reason, &problem.message);
            if let Some(hint) = problem.hint {
                finding.hint = hint;
            }
            self.file.findings.push(finding.about(kind, &key, &problem.field));
            problems.push(Problem { field: problem.field, reason, message: problem.message });
        }
        let mut object = json;
        if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            metadata.entry("namespace").or_insert_with(|| key.namespace.as_str().into());
        }
        let parsed = match kind {
            _ if !problems.is_empty() => None,
            "Webhook" => self.typed(kind, &key, &node, object).map(|webhook| Object::Webhook(Arc::new(webhook))),
            "Destination" => self.typed(kind, &key, &node, object).map(|own| Object::Destination(Arc::new(own))),
            "ZenLock" => self.typed(kind, &key, &node, object).and_then(|lock| self.zen_lock(&key, &node, lock)),
            _ => self.typed(kind, &key, &node, object).map(|own| cluster(&key, &own)),
        };
        let object = parsed.unwrap_or_else(|| Object::Refused(refused(kind, &key, &node, problems)));
        self.file.manifests.push(Manifest { kind, key, node, object });
    }

    /// What can be said of a `ZenLock` without any key.
    fn zen_lock(&mut self, key: &ObjectKey, node: &Node, lock: zen_crds::ZenLock) -> Option<Object> {
        let mut found: Vec<(String, LockReason, String)> = Vec::new();
        for (name, armored) in &lock.spec.encrypted_data {
            if let Err(error) = zen_lock::inspect(armored) {
                found.push((format!("spec.encryptedData.{name}"), error.reason(), format!("key {name:?}: {error}")));
            }
        }
        let data = &lock.spec.encrypted_data;
        let size: usize = data.iter().map(|(key, armored)| key.len() + armored.len()).sum();
        if data.len() > zen_lock::MAX_KEYS || size > zen_lock::MAX_OBJECT {
            let message = format!(
                "{} keys of {size} bytes in all; a ZenLock has at most {} keys and {} bytes: split it",
                data.len(),
                zen_lock::MAX_KEYS,
                zen_lock::MAX_OBJECT
            );
            found.push(("spec.encryptedData".to_owned(), LockReason::TooLarge, message));
        }
        for (field, reason, message) in &found {
            let finding = Finding::new(&self.file.path, node.line_of(field), (*reason).into(), message);
            self.file.findings.push(finding.about("ZenLock", key, field));
        }
        found.is_empty().then(|| Object::ZenLock(Arc::new(lock)))
    }

    /// What passed the schema fits the type; should the two ever differ, the object is refused like any other.
    fn typed<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        key: &ObjectKey,
        node: &Node,
        json: serde_json::Value,
    ) -> Option<T> {
        let object = serde_json::from_value(json).ok();
        if object.is_none() {
            let message = format!("the {kind} does not have the form of its kind; compare it with the reference");
            let finding = Finding::new(&self.file.path, node.line, ObjectReason::Invalid, message);
            self.file.findings.push(finding.about(kind, key, ""));
        }
        object
    }
}

/// A member cluster; nothing where no cluster can have the name.
fn cluster(key: &ObjectKey, enrollment: &zen_crds::ClusterEnrollment) -> Object {
    ClusterId::new(key.namespace.as_str(), key.name.as_str())
        .map_or(Object::Checked, |id| Object::Cluster(id, Arc::new(Enrolled::of(enrollment))))
}

/// Values of a Helm chart lie among manifests and are none.
fn is_values(path: &Path) -> bool {
    path.file_name().is_some_and(|name| ["values.yaml", "values.yml"].iter().any(|known| name == *known))
}

fn refused(kind: &'static str, key: &ObjectKey, node: &Node, problems: Vec<Problem>) -> Refused {
    let place = (kind == "Webhook").then(|| {
        let spec = node.get("spec");
        let hosts = spec.and_then(|spec| spec.get("hosts")).map(Node::elements).unwrap_or_default();
        let path = spec.and_then(|spec| spec.get("path")).and_then(Node::as_str);
        Place::new(key, hosts.iter().filter_map(Node::as_str), path)
    });
    Refused { kind, key: key.clone(), problems, place, uid: None, generation: None }
}

/// The namespace that an object's name stands for, where it is a Namespace.
pub(crate) fn namespace_of(key: &ObjectKey) -> Namespace {
    Namespace::from(key.name.as_str())
}
