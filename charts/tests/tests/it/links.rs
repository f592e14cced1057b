//! Links inside the documentation lead somewhere.

use std::path::{Path, PathBuf};

use zen_charts::root;

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut found = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for folder in ["docs", "examples", "deploy", "charts/zen-mesh"] {
        pages(&root().join(folder), &mut found);
    }
    let mut broken = Vec::new();
    for page in found {
        let text = std::fs::read_to_string(&page).expect("text");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_path = target.chars().all(|it| it.is_ascii_alphanumeric() || "./_-#".contains(it));
            let inside = !file.is_empty() && is_path;
            if inside && !page.parent().expect("a folder").join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
