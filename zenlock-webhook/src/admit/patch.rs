//! A JSON patch, operation by operation.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use serde_json::Value;

/// Collects operations; each sees what those before it made.
#[derive(Clone, Debug, Default)]
pub(super) struct Builder(Vec<PatchOperation>);

impl Builder {
    /// Sets a member, or inserts an element before the one that is there now.
    pub(super) fn add(&mut self, path: String, value: Value) {
        self.0.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    /// Puts a value in place of another.
    pub(super) fn replace(&mut self, path: String, value: Value) {
        self.0.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    /// Appends to an array that may not be there yet.
    pub(super) fn append(&mut self, path: &str, exists: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        if exists {
            for value in values {
                self.add(format!("{path}/-"), value);
            }
        } else {
            self.add(path.to_owned(), Value::Array(values));
        }
    }

    /// The whole patch.
    pub(super) fn build(self) -> Patch {
        Patch(self.0)
    }
}

/// A token of a pointer, escaped (RFC 6901).
pub(super) fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn pointer(path: String) -> PointerBuf {
    PointerBuf::parse(path).expect("paths here begin with a slash and are escaped")
}
