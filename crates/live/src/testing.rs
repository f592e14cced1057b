//! Configurations from manifest text, for the tests of every crate that serves one.

use std::path::Path;

use zen_compile::{Compiled, Mode, Objects, Snapshot, compile};

use crate::Finding;
use crate::folder::Folder;
use crate::manifest;

/// The objects of a manifest text, as if it were the only file of a folder, and what the reader says about it.
pub fn objects(text: &str) -> (Objects, Vec<Finding>) {
    Folder::of(manifest::read(Path::new("test.yaml"), text.as_bytes())).objects(&crate::Overrides::new())
}

/// Compiles a manifest text as `zen up` does. Objects that the reader refuses are in the verdicts.
pub fn compile_yaml(text: &str) -> Compiled {
    compile_yaml_after(text, None)
}

/// The same as a change of a configuration that is in effect.
pub fn compile_yaml_after(text: &str, previous: Option<&Snapshot>) -> Compiled {
    compile(&objects(text).0, previous, Mode::Standalone)
}

/// Any YAML as JSON; null for what is none.
pub fn json(text: &str) -> serde_json::Value {
    let (documents, _) = crate::yaml::parse(text.as_bytes());
    documents.first().map(|document| document.root.to_json()).unwrap_or_default()
}
