//! The reader is total: it takes any bytes and ends.

use std::path::Path;

use proptest::prelude::*;
use zen_live::{manifest, testing};

use crate::manifests::{rest, webhook};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = manifest::read(Path::new("a.yaml"), &bytes);
        let _ = manifest::read(Path::new("mesh.yaml"), &bytes);
    }

    /// A good manifest with one part cut out, doubled or replaced compiles to some verdict.
    #[test]
    fn damaged_manifests(at in 0_usize..900, len in 0_usize..40, with in "[ -~\\n]{0,12}") {
        let text = webhook("  limits: {sources: [192.0.2.0/24]}\n") + &rest();
        let cut = |index: usize| (0..=index.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        let (start, end) = (cut(at), cut(at + len));
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        let compiled = testing::compile_yaml(&damaged);
        for verdict in &compiled.verdicts {
            prop_assert!(verdict.problems.iter().all(|problem| !problem.message.is_empty()));
        }
    }
}
