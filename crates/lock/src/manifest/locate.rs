//! Where the values of `ZenLock`s stand in a text.

use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::{Entry, Located, ManifestError};

/// Deeper than any manifest.
const MAX_DEPTH: usize = 64;
/// What makes a document one of ours.
const KIND: (&str, &str) = ("zen-mesh.io/", "ZenLock");

pub(super) fn locate(text: &str) -> Result<Vec<Located>, ManifestError> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    // A byte order mark is no part of the first document; offsets count from what is parsed.
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut walk = Walk { text, start, open: Vec::new(), document: Document::default(), found: Vec::new() };
    for next in Parser::new_from_str_with_options(&text[start..], options) {
        let (event, span) = next.map_err(|bad| ManifestError::Syntax {
            line: bad.marker().line().max(1),
            message: bad.kind().to_string(),
        })?;
        walk.event(event, span)?;
    }
    Ok(walk.found)
}

struct Walk<'a> {
    text: &'a str,
    start: usize,
    open: Vec<Open>,
    document: Document,
    found: Vec<Located>,
}

/// A list or map whose end has not come yet.
struct Open {
    is_map: bool,
    key: Option<Key>,
}

struct Key {
    text: String,
    line: usize,
    /// Where it stands.
    at: Range<usize>,
}

#[derive(Default)]
struct Document {
    line: usize,
    api: String,
    kind: String,
    name: String,
    namespace: Option<String>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), ManifestError> {
        match event {
            Event::DocumentStart(..) => {
                self.open.clear();
                self.document = Document::default();
            }
            Event::DocumentEnd => {
                let Document { line, api, kind, name, namespace, entries } = std::mem::take(&mut self.document);
                if api.starts_with(KIND.0) && kind == KIND.1 {
                    self.found.push(Located { name, namespace, line, entries });
                }
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Open { is_map: true, key: key @ None }) = self.open.last_mut() {
                    let at = range(self.start, span)?;
                    *key = Some(Key { text: text.into_owned(), line: span.start.line(), at });
                    return Ok(());
                }
                self.value(&text, style, span)?;
                self.consumed();
            }
            Event::Alias(_) => {
                self.no_text(span)?;
                self.consumed();
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if self.open.is_empty() {
                    self.document.line = span.start.line();
                }
                self.no_text(span)?;
                let is_map = matches!(event, Event::MappingStart(..));
                self.open.push(Open { is_map, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.consumed();
            }
            _ => {}
        }
        Ok(())
    }

    /// The value of the innermost map's key has been read.
    fn consumed(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.key = None;
        }
    }

    /// The keys that lead here; none inside a list.
    fn path(&self) -> Option<Vec<&str>> {
        self.open.iter().map(|open| Some(open.key.as_ref()?.text.as_str())).collect()
    }

    /// A list, map or alias where a ciphertext belongs.
    fn no_text(&self, span: Span) -> Result<(), ManifestError> {
        match self.path().as_deref() {
            Some(["spec", "encryptedData", key]) => {
                Err(ManifestError::NotText { line: span.start.line(), key: (*key).to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn value(&mut self, value: &str, style: ScalarStyle, span: Span) -> Result<(), ManifestError> {
        let Some(path) = self.path() else { return Ok(()) };
        let entry = match path.as_slice() {
            ["spec", "encryptedData", _] => self.entry(value, style, span)?,
            ["apiVersion"] => {
                value.clone_into(&mut self.document.api);
                None
            }
            ["kind"] => {
                value.clone_into(&mut self.document.kind);
                None
            }
            ["metadata", "name"] => {
                value.clone_into(&mut self.document.name);
                None
            }
            ["metadata", "namespace"] => {
                self.document.namespace = Some(value.to_owned());
                None
            }
            _ => None,
        };
        self.document.entries.extend(entry);
        Ok(())
    }

    fn entry(&self, value: &str, style: ScalarStyle, span: Span) -> Result<Option<Entry>, ManifestError> {
        let Some(key) = self.open.last().and_then(|open| open.key.as_ref()) else { return Ok(None) };
        let line_start = self.text[..key.at.start].rfind('\n').map_or(self.start, |at| at + 1);
        let before = &self.text[line_start..key.at.start];
        let own_line = before.bytes().all(|byte| byte == b' ');
        let found = range(self.start, span)?;
        let (value_at, end) = if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            // The parser tells where the content begins; the | stands before it, behind nothing but a colon and a tag.
            let cannot = ManifestError::CannotEdit { line: key.line };
            let header =
                self.text.get(key.at.end..found.start).and_then(|between| between.find(['|', '>'])).ok_or(cannot)?;
            let start = key.at.end + header;
            let end = block_end(self.text, start, before.len());
            (start..end, end)
        } else {
            let end = line_end(self.text, found.end);
            (found, end)
        };
        Ok(Some(Entry {
            key: key.text.clone(),
            armored: value.to_owned(),
            line: key.line,
            value: value_at,
            lines: own_line.then_some(line_start..end),
            indent: before.len(),
        }))
    }
}

/// The parser gives byte offsets for texts; should it not, the manifest cannot be edited.
fn range(start: usize, span: Span) -> Result<Range<usize>, ManifestError> {
    let found = span.start.byte_offset().zip(span.end.byte_offset());
    let (from, to) = found.ok_or(ManifestError::CannotEdit { line: span.start.line() })?;
    Ok(start + from..start + to)
}

/// Behind the last line of a block scalar that is indented deeper than its key. Empty lines behind it are not its own.
fn block_end(text: &str, start: usize, indent: usize) -> usize {
    let mut at = line_end(text, start);
    let mut end = at;
    while at < text.len() {
        let next = line_end(text, at);
        let line = &text[at..next];
        let spaces = line.bytes().take_while(|byte| *byte == b' ').count();
        if !line.trim().is_empty() {
            if spaces <= indent {
                break;
            }
            end = next;
        }
        at = next;
    }
    end
}

/// Behind the line end that follows, or at the end of the text.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |found| at + found + 1)
}
