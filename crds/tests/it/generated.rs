//! K-01: the committed manifests and the reference come from the types. `ZEN_BLESS=1` writes them.

use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn same(path: &Path, generated: &str) {
    if std::env::var_os("ZEN_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == generated, "{} differs from the types: run `cargo xtask generate`", path.display());
}

#[test]
fn manifests_are_those_of_the_types() {
    let folder = repository().join("crds/yaml");
    for (file, generated) in zen_crds::yaml() {
        same(&folder.join(file), &generated);
    }
    let mut committed: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    committed.sort();
    let mut generated: Vec<_> = zen_crds::yaml().into_iter().map(|(file, _)| file.to_owned()).collect();
    generated.sort();
    assert_eq!(committed, generated);
}

#[test]
fn the_reference_is_that_of_the_types() {
    same(&repository().join("docs/reference/crds.md"), &zen_crds::reference_markdown());
}
