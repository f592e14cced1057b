//! The tree of one document.

use std::fmt;

use serde_json::Number;

/// A value and the line that it begins on.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// Line, counted from 1.
    pub line: u32,
    /// The value.
    pub value: Value,
}

/// A value of the JSON data model.
#[derive(Clone, PartialEq)]
#[allow(missing_docs)] // The names say it.
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The key of a map entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Line, counted from 1.
    pub line: u32,
    /// The key as text, as Kubernetes takes it.
    pub text: String,
}

impl Node {
    /// The entry of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(own, _)| own.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; nothing for anything else.
    pub fn elements(&self) -> &[Self] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// The entries of a map; nothing for anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The same as JSON, without lines.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => text.as_str().into(),
            Value::List(elements) => elements.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }

    /// The line of a field such as `spec.routes[0].destinations[1].name`; of the nearest part that exists where the
    /// field itself does not.
    pub fn line_of(&self, field: &str) -> u32 {
        let mut node = self;
        let mut line = self.line;
        let mut rest = field;
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let Some(element) = index.parse().ok().and_then(|index: usize| node.elements().get(index)) else {
                    return line;
                };
                (node, line, rest) = (element, element.line, after);
                continue;
            }
            // Keys may hold dots (labels, data): the longest key that the rest begins with is meant.
            let entry = node
                .entries()
                .iter()
                .filter(|(key, _)| {
                    rest.strip_prefix(key.text.as_str())
                        .is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                })
                .max_by_key(|(key, _)| key.text.len());
            match entry {
                Some((key, value)) if !key.text.is_empty() => {
                    (node, line, rest) = (value, key.line, &rest[key.text.len()..]);
                }
                _ => return line,
            }
        }
    }

    /// The last line that anything of it begins on.
    pub fn last_line(&self) -> u32 {
        match &self.value {
            Value::List(elements) => elements.iter().map(Self::last_line).fold(self.line, u32::max),
            Value::Map(entries) => {
                entries.iter().map(|(key, node)| key.line.max(node.last_line())).fold(self.line, u32::max)
            }
            _ => self.line,
        }
    }

    /// Adds a text to a map that has no such key.
    pub(crate) fn default_field(&mut self, field: &str, text: &str) {
        let line = self.line;
        if self.get(field).is_none()
            && let Value::Map(entries) = &mut self.value
        {
            let node = Self { line, value: Value::String(text.to_owned()) };
            entries.push((Key { line, text: field.to_owned() }, node));
        }
    }

    /// Forgets the texts of a map, but not its keys: they are secrets.
    pub(crate) fn cut(&mut self, field: &str) {
        if let Value::Map(entries) = &mut self.value {
            for (key, node) in entries.iter_mut().filter(|(key, _)| key.text == field) {
                let Value::Map(secrets) = &mut node.value else {
                    *node = Self { line: key.line, value: Value::Null };
                    continue;
                };
                for (_, secret) in secrets {
                    secret.value = Value::Null;
                }
            }
        }
    }

    /// Nodes in the tree, itself included.
    pub(super) fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(elements) => elements.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.count()).sum(),
            _ => 0,
        }
    }

    /// Levels of the tree: 1 for a scalar.
    pub(super) fn depth(&self) -> usize {
        1 + match &self.value {
            Value::List(elements) => elements.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Shows the shape only: the tree may hold secrets.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.value {
            Value::List(elements) => f.debug_list().entries(elements).finish(),
            Value::Map(entries) => f.debug_map().entries(entries.iter().map(|(key, node)| (&key.text, node))).finish(),
            _ => f.write_str("scalar"),
        }
    }
}
