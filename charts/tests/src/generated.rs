//! Files that are made from the types and from the chart, so that nobody needs Helm: `cargo xtask generate` writes them.

use std::path::PathBuf;

use anyhow::Result;

use crate::Helm;

/// Each generated file, by path from the repository's root: the chart's CRDs and the default rendering for
/// `kubectl apply -k`.
pub fn generated(helm: &Helm) -> Result<Vec<(PathBuf, String)>> {
    let crds = zen_crds::yaml().into_iter();
    let mut files: Vec<_> =
        crds.map(|(name, text)| (PathBuf::from("charts/zen-mesh/files/crds").join(name), text)).collect();
    let head = "# The chart with its default values, by `cargo xtask generate`. Do not edit: make an overlay.\n";
    let mesh = helm.template(&[
        "--no-hooks",
        "--set",
        "crds.install=false,hooks.wait.enabled=false,hooks.cleanup.enabled=false",
    ])?;
    files.push(("deploy/kustomize/mesh/zen-mesh.yaml".into(), format!("{head}{}", tidy(&mesh))));
    Ok(files)
}

/// Without the lines that Helm puts between documents, which name templates.
fn tidy(rendering: &str) -> String {
    let mut text = String::with_capacity(rendering.len());
    for line in rendering.lines().filter(|line| !line.starts_with("# Source: ")) {
        // Templates leave empty lines at the ends of documents, never inside: there they would be a text's own.
        if !line.trim().is_empty() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}
