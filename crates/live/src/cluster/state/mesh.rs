//! The mesh configuration. One that cannot be read leaves the last good one in force.

use std::sync::Arc;

use zen_compile::{Objects, Problem, mesh};
use zen_model::ObjectReason;

use crate::Finding;
use crate::manifest::MESH_FILE;

#[derive(Debug, Default)]
pub(super) struct Mesh {
    /// The one in force.
    text: Option<Arc<str>>,
    findings: Vec<Finding>,
}

impl Mesh {
    pub(super) fn text(&self) -> Option<Arc<str>> {
        self.text.clone()
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether it, or what is wrong with it, is another.
    pub(super) fn take(&mut self, objects: &mut Objects, text: Option<Arc<str>>) -> bool {
        let mut changed = false;
        let findings = match text.as_deref().map(read).transpose() {
            Ok(config) => {
                if objects.mesh.as_deref() != config.as_ref() {
                    objects.mesh = config.map(Arc::new);
                    changed = true;
                }
                self.text = text;
                Vec::new()
            }
            Err(problems) => problems.into_iter().map(finding).collect(),
        };
        changed |= findings != self.findings;
        self.findings = findings;
        changed
    }
}

fn read(text: &str) -> Result<mesh::Config, Vec<Problem>> {
    let (documents, error) = crate::yaml::parse(text.as_bytes());
    if let Some(error) = error {
        let message = format!("line {}: {}", error.line, error.message);
        return Err(vec![Problem { field: String::new(), reason: ObjectReason::Unreadable, message }]);
    }
    let root = documents.first().map(|document| document.root.to_json()).unwrap_or_default();
    mesh::Config::from_json(&root)
}

fn finding(problem: Problem) -> Finding {
    let mut finding = Finding::new(MESH_FILE, 0, problem.reason, problem.message);
    finding.field = problem.field;
    finding
}
