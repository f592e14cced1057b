//! YAML that people would have written.

use std::fmt::Write as _;

use super::Entry;

/// Spaces of one level.
const STEP: usize = 2;

/// A `ZenLock` manifest that is not there yet.
#[derive(Clone, Debug, Default)]
pub struct NewManifest<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.namespace`; left out when none.
    pub namespace: Option<&'a str>,
    /// `metadata.labels`.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Keys and armoured files.
    pub entries: Vec<(&'a str, &'a str)>,
    /// `spec.allowedSubjects`.
    pub subjects: Vec<SubjectRef>,
}

/// One of `allowedSubjects`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRef {
    /// `ServiceAccount`, `Webhook` or `Destination`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The text of a new manifest.
pub fn render(manifest: &NewManifest<'_>) -> String {
    let mut text = String::from("apiVersion: zen-mesh.io/v1alpha1\nkind: ZenLock\nmetadata:\n");
    let _ = writeln!(text, "  name: {}", scalar(manifest.name));
    if let Some(namespace) = manifest.namespace {
        let _ = writeln!(text, "  namespace: {}", scalar(namespace));
    }
    if !manifest.labels.is_empty() {
        text.push_str("  labels:\n");
        for (key, value) in &manifest.labels {
            let _ = writeln!(text, "    {}: {}", scalar(key), scalar(value));
        }
    }
    text.push_str("spec:\n");
    text.push_str(if manifest.entries.is_empty() { "  encryptedData: {}\n" } else { "  encryptedData:\n" });
    for (key, armored) in &manifest.entries {
        entry(&mut text, key, armored, 2 * STEP, "\n");
    }
    if !manifest.subjects.is_empty() {
        text.push_str("  allowedSubjects:\n");
        for SubjectRef { kind, name } in &manifest.subjects {
            let _ = write!(text, "    - kind: {}\n      name: {}\n", scalar(kind), scalar(name));
        }
    }
    text
}

/// An entry with its lines.
pub(super) fn entry(text: &mut String, key: &str, armored: &str, indent: usize, line_end: &str) {
    text.extend([&" ".repeat(indent), scalar(key).as_str(), ": |", line_end]);
    body(text, armored, indent + STEP, line_end);
}

/// A new value in the place of an old one, in the old one's style. The line of the `|` stays where it can, with the
/// comment on it, and so does the depth of the lines.
pub(super) fn value(text: &str, old: &Entry, armored: &str, line_end: &str) -> String {
    let before = &text[old.value.clone()];
    if !before.starts_with(['|', '>']) {
        return quoted(armored);
    }
    let mut lines = before.lines();
    let header = lines.next().unwrap_or_default();
    let keeps = ["|", "|-", "|+"].iter().any(|plain| {
        header.strip_prefix(plain).is_some_and(|rest| rest.trim().is_empty() || rest.starts_with([' ', '\t']))
    });
    let depth = lines.find(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start_matches(' ').len());
    let mut new = String::from(if keeps { header } else { "|" });
    new.push_str(line_end);
    body(&mut new, armored, depth.unwrap_or(old.indent + STEP), line_end);
    new
}

fn body(text: &mut String, armored: &str, indent: usize, line_end: &str) {
    for line in armored.trim_end().lines() {
        text.extend([&" ".repeat(indent), line, line_end]);
    }
}

/// As JSON writes it, which YAML reads alike.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || c == '\u{feff}' => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Plain where no reader of YAML 1.1 or 1.2 takes it for anything but this text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if begins && plain && !is_word { text.to_owned() } else { quoted(text) }
}
