use std::path::Path;

use serde_json::Value;

/// Arbitrary bytes as a manifest, through reading, validation and compilation.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn manifest(data: &[u8]) {
    let file = zen_live::manifest::read(Path::new("fuzz.yaml"), data);
    let _ = file.is_bad();
    if let Ok(text) = std::str::from_utf8(data) {
        let compiled = zen_live::testing::compile_yaml(text);
        assert!(compiled.snapshot.webhooks.len() <= compiled.verdicts.len(), "an object without a verdict");
        let _ = zen_compile::canonical(text);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        for kind in ["Webhook", "Destination", "ZenLock", "ClusterEnrollment"] {
            let _ = zen_crds::validate(kind, &value);
        }
    }
}
