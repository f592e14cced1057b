//! Whole configurations, from manifest text, through the compiler.

mod cluster;
mod destinations;
mod planes;
mod relay;
mod reuse;
mod webhooks;

use std::sync::Arc;

use zen_compile::{Compiled, Destination, Mode, Objects, Verdict, Webhook};
use zen_model::{ObjectKey, ObjectReason};

/// Objects of a text that the reader takes without a word.
pub(crate) fn objects(text: &str) -> Objects {
    let (objects, findings) = zen_live::testing::objects(text);
    assert!(findings.is_empty(), "{findings:?}");
    objects
}

pub(crate) fn standalone(text: &str) -> Compiled {
    zen_compile::compile(&objects(text), None, Mode::Standalone)
}

pub(crate) fn webhook(compiled: &Compiled, name: &str) -> Arc<Webhook> {
    Arc::clone(&compiled.snapshot.webhooks[&ObjectKey::new("team-a", name)])
}

pub(crate) fn destination(compiled: &Compiled, name: &str) -> Arc<Destination> {
    Arc::clone(&compiled.snapshot.destinations[&ObjectKey::new("team-a", name)])
}

pub(crate) fn verdict<'a>(compiled: &'a Compiled, object: &str) -> &'a Verdict {
    let found = compiled.verdicts.iter().find(|verdict| format!("{} {}", verdict.kind, verdict.key) == object);
    found.expect("every object has a verdict")
}

pub(crate) fn reasons(verdict: &Verdict) -> Vec<(&str, ObjectReason)> {
    verdict.problems.iter().map(|problem| (problem.field.as_str(), problem.reason)).collect()
}

/// An object of ours in namespace `team-a`.
pub(crate) fn own(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: zen-mesh.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: team-a}}\nspec: {spec}\n---\n"
    )
}

pub(crate) fn secret(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: team-a}}\nstringData: {data}\n---\n")
}
