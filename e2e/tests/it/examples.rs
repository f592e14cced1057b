//! Every example runs as it stands: the API server takes it, and the offline check has nothing to say.

use std::path::{Path, PathBuf};

use serde_json::Value;
use zen_crds::{API_VERSION, validate};

use crate::api_server::api_server;
use crate::samples::documents;

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden {
            manifests(&path, found);
        } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml")
            && !["mesh.yaml", "kustomization.yaml", "values.yaml"].iter().any(|it| path.file_name().unwrap() == *it)
        {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn every_example_is_taken() {
    let api = api_server().await;
    let mut files = Vec::new();
    manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut files);
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let objects: Vec<Value> = documents(&std::fs::read_to_string(&file).unwrap());
        assert!(!objects.is_empty(), "{}", file.display());
        for object in objects {
            let kind = object["kind"].as_str().unwrap();
            if object["apiVersion"] == API_VERSION {
                assert_eq!(validate(kind, &object), [], "{}", file.display());
            } else {
                let core = ["Secret", "ConfigMap", "Namespace", "Service", "EndpointSlice", "Deployment"];
                assert!(core.contains(&kind), "{kind}");
            }
            if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                api.namespace(namespace).await;
            }
            api.apply(&object).await.unwrap_or_else(|refused| panic!("{}: {kind}: {refused}", file.display()));
        }
    }
}

/// The manifests of the contract, applied as `kubectl apply` does.
#[tokio::test]
async fn the_manifests_of_the_contract_are_taken() {
    let api = api_server().await;
    api.namespace("team-a").await;
    for object in documents(crate::samples::CONTRACT) {
        api.apply(&object).await.unwrap();
    }
}
