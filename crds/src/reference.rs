//! The reference of all fields, for `docs/reference/crds.md`.

/// The reference as Markdown.
pub fn reference_markdown() -> String {
    String::new()
}
