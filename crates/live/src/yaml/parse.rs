//! Events of the YAML parser → trees.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};

use super::{Ambiguity, Error, Key, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Value, ambiguous, scalar};

/// One document of a file, and the ambiguous scalars in it.
#[derive(Debug)]
pub struct Document {
    /// Its value; `Null` where the document is empty.
    pub root: Node,
    /// What 1.1 and 1.2 read differently, by line.
    pub ambiguities: Vec<Ambiguity>,
}

/// The documents of a text. Those before a syntax error come back with it: the rest cannot be trusted.
pub fn parse(bytes: &[u8]) -> (Vec<Document>, Option<Error>) {
    let mut builder = Builder::default();
    let error = match std::str::from_utf8(bytes) {
        _ if bytes.len() > MAX_BYTES => Some(error(1, format!("the file is larger than {} MiB", MAX_BYTES >> 20))),
        Ok(text) => builder.read(text.strip_prefix('\u{feff}').unwrap_or(text)).err(),
        Err(bad) => {
            let line = bytes[..bad.valid_up_to()].split(|byte| *byte == b'\n').count();
            Some(error(line, "the file is not UTF-8 text"))
        }
    };
    (builder.documents, error)
}

fn error(line: usize, message: impl Into<String>) -> Error {
    Error { line: number(line), message: message.into() }
}

fn number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Document>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    ambiguities: Vec<Ambiguity>,
    nodes: usize,
}

/// A finished anchored node; size and depth are kept so that an alias is refused before it is copied.
struct Anchored {
    node: Node,
    count: usize,
    depth: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    line: u32,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: HashSet<String>, key: Option<Key>, merges: Vec<Node> },
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Error> {
        let mut options = Options::default();
        options.emit_comments = false;
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|bad| error(bad.marker().line().max(1), bad.kind().to_string()))?;
            self.event(event, span.start.line())?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, at: usize) -> Result<(), Error> {
        let line = number(at);
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.root = None;
            }
            Event::DocumentEnd => {
                let root = self.root.take().unwrap_or(Node { line, value: Value::Null });
                self.documents.push(Document { root, ambiguities: std::mem::take(&mut self.ambiguities) });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || core_tag(tag.as_deref(), line)? == Some("str");
                if !is_text && let Some(message) = ambiguous::explain(&text) {
                    self.ambiguities.push(Ambiguity { line, message });
                }
                let is_key = matches!(self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. }));
                // A key is text whatever it looks like, as Kubernetes has it; only the plain << is special.
                let value = if is_key || is_text { Value::String(text.into_owned()) } else { scalar::resolve(&text) };
                if is_key && anchor == 0 {
                    return self.key(value, style == ScalarStyle::Plain, line);
                }
                self.finish(Node { line, value }, anchor)?;
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(error(at, "an alias refers to the node that it stands in"));
                };
                if self.nodes + anchored.count > MAX_NODES || self.open.len() + anchored.depth > MAX_DEPTH {
                    return Err(error(at, "aliases expand to too many values"));
                }
                self.nodes += anchored.count;
                let node = anchored.node.clone();
                self.place(node)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                core_tag(tag.as_deref(), line)?;
                self.begin(Open { line, anchor, content: Content::List(Vec::new()) })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                core_tag(tag.as_deref(), line)?;
                let content = Content::Map { entries: Vec::new(), seen: HashSet::new(), key: None, merges: Vec::new() };
                self.begin(Open { line, anchor, content })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let (line, anchor) = (open.line, open.anchor);
                    let value = open.close()?;
                    self.finish(Node { line, value }, anchor)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Error { line: open.line, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(Error { line: open.line, message: "a key must be text".to_owned() });
        }
        self.open.push(open);
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error { line: node.line, message: format!("more than {MAX_NODES} values") });
        }
        if anchor != 0 {
            let (count, depth) = (node.count(), node.depth());
            // What is kept for aliases counts too, or nested anchors would multiply it.
            self.nodes += count;
            self.anchors.insert(anchor, Anchored { node: node.clone(), count, depth });
        }
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Result<(), Error> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(elements)) => elements.push(node),
            Some(Content::Map { key: None, .. }) => {
                let line = node.line;
                return self.key(node.value, false, line);
            }
            Some(Content::Map { entries, key, merges, .. }) => match key.take() {
                Some(key) if key.text == MERGE => merges.push(node),
                Some(key) => entries.push((key, node)),
                None => {}
            },
        }
        Ok(())
    }

    fn key(&mut self, value: Value, plain: bool, line: u32) -> Result<(), Error> {
        let Value::String(text) = value else {
            return Err(Error { line, message: "a key must be text".to_owned() });
        };
        if let Some(Open { content: Content::Map { seen, key, .. }, .. }) = self.open.last_mut() {
            if !seen.insert(text.clone()) {
                return Err(Error { line, message: "the map has this key twice".to_owned() });
            }
            let text = if text == "<<" && plain { MERGE.to_owned() } else { text };
            *key = Some(Key { line, text });
        }
        Ok(())
    }
}

/// Stands for a plain `<<`; no text can be equal to it, because YAML has no NUL.
const MERGE: &str = "\0<<";

impl Open {
    fn close(self) -> Result<Value, Error> {
        match self.content {
            Content::List(elements) => Ok(Value::List(elements)),
            Content::Map { mut entries, mut seen, merges, .. } => {
                for merge in merges {
                    let line = merge.line;
                    let sources = match merge.value {
                        Value::List(elements) => elements,
                        _ => vec![merge],
                    };
                    for source in sources {
                        let Value::Map(merged) = source.value else {
                            return Err(Error { line, message: "<< takes a map or a list of maps".to_owned() });
                        };
                        entries.extend(merged.into_iter().filter(|(key, _)| seen.insert(key.text.clone())));
                    }
                }
                Ok(Value::Map(entries))
            }
        }
    }
}

/// Manifests know no types of their own; the core ones are harmless.
fn core_tag(tag: Option<&Tag>, line: u32) -> Result<Option<&str>, Error> {
    match tag.map(|tag| (tag, tag.core_suffix())) {
        None => Ok(None),
        Some((_, Some(suffix))) => Ok(Some(suffix)),
        Some((tag, None)) if tag.handle().is_empty() && tag.suffix() == "!" => Ok(Some("str")),
        Some(_) => Err(Error { line, message: "a manifest has no use for this YAML tag".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn json(text: &str) -> Vec<serde_json::Value> {
        let (documents, error) = parse(text.as_bytes());
        assert_eq!(error, None, "{text}");
        documents.iter().map(|document| document.root.to_json()).collect()
    }

    fn refused(text: &str) -> Error {
        parse(text.as_bytes()).1.unwrap_or_else(|| panic!("accepted: {text}"))
    }

    #[test]
    fn documents_maps_lists_and_json() {
        assert_eq!(
            json("a: 1\nb: [x, 'on', null]\n---\n- {c: \"\\u00e9\"}\n"),
            [json!({"a": 1, "b": ["x", "on", null]}), json!([{"c": "é"}])]
        );
        assert_eq!(json("{\n\t\"a\": [1, 2.5, true, \"x\"]\n}"), [json!({"a": [1, 2.5, true, "x"]})]);
        assert_eq!(json("\u{feff}a: |\n  x\n  y\n"), [json!({"a": "x\ny\n"})]);
        assert_eq!(json("8080: x\ntrue: y\n"), [json!({"8080": "x", "true": "y"})], "keys are text");
        assert_eq!(json("a: !!str 5\n"), [json!({"a": "5"})]);
    }

    #[test]
    fn anchors_aliases_and_merges() {
        let text = "base: &b {x: 1, y: 2}\nuse: *b\nown: {<<: *b, y: 3}\nboth: {<<: [*b, {z: 4}]}\n";
        assert_eq!(
            json(text),
            [json!({
                "base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 2}, "own": {"y": 3, "x": 1}, "both": {"x": 1, "y": 2, "z": 4}
            })]
        );
        assert_eq!(json("'<<': {x: 1}\n"), [json!({"<<": {"x": 1}})], "quoted it is a key like any other");
    }

    #[test]
    fn lines() {
        let (documents, _) = parse(b"# c\na:\n  b:\n    - c: 1\n    - d.e/f: 2\n---\nx: on\n");
        let root = &documents[0].root;
        for (field, line) in
            [("a", 2), ("a.b", 3), ("a.b[1]", 5), ("a.b[1].d.e/f", 5), ("a.b[7].q", 3), ("a.zz", 2), ("", 2)]
        {
            assert_eq!(root.line_of(field), line, "{field}");
        }
        assert_eq!(documents[1].ambiguities[0].line, 7);
    }

    #[test]
    fn refusals_name_the_line() {
        assert_eq!(refused("a: 1\nb: [1,\n").line, 2);
        assert_eq!(refused("a: 1\na: 2\n").line, 2);
        assert_eq!(refused("a: 1\nb: !ruby/object x\n").line, 2);
        assert_eq!(refused("a: 1\nb: *nowhere\n").line, 2);
        assert!(refused("a: &a [*a]\n").message.contains("stands in"));
        assert!(refused("? [a]\n: 1\n").message.contains("key"));
        assert_eq!(parse(b"a: 1\nb: \xff\n").1.expect("refused").line, 2);
        assert!(refused(&"[".repeat(100_000)).line >= 1);
    }

    #[test]
    fn alias_bombs_end_early() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..12 {
            use std::fmt::Write;
            let aliases = vec![format!("*a{}", n - 1); 10].join(",");
            writeln!(text, "a{n}: &a{n} [{aliases}]").expect("writes to a string");
        }
        assert!(refused(&text).message.contains("too many"));
    }

    proptest! {
        #[test]
        fn total_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn total_on_yaml_like_text(text in "([a-c&*!<:?#|>%@`'\"\\[\\]{},\\- \\n]|\\n  |: |- |---\\n|<<|0x1|on){0,80}") {
            let (documents, _) = parse(text.as_bytes());
            for document in documents {
                let _ = document.root.to_json();
                let _ = document.root.line_of("a.b[0]");
            }
        }

        #[test]
        fn json_is_read_as_json(value in json_value()) {
            let (documents, error) = parse(serde_json::to_string_pretty(&value).expect("writes").as_bytes());
            prop_assert_eq!(error, None);
            prop_assert_eq!(documents[0].root.to_json(), value);
        }
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[ -~é\n\t]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map("[a-z.]{1,6}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
