//! YAML and JSON text → a tree that remembers lines and flags what YAML 1.1 and 1.2 readers understand differently.
//!
//! Total on arbitrary bytes: size, depth, number of nodes and the expansion of aliases are bounded, and nothing recurses
//! deeper than [`MAX_DEPTH`].

mod ambiguous;
mod node;
mod parse;
mod scalar;

pub use node::{Key, Node, Value};
pub use parse::{Document, parse};

/// Largest manifest file in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most nodes in one file, alias expansions counted.
pub const MAX_NODES: usize = 500_000;

/// Why the text is not YAML that a manifest may be written in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Line, counted from 1.
    pub line: u32,
    /// What is wrong; it quotes no scalar.
    pub message: String,
}

/// A plain scalar that YAML 1.1 (which `kubectl` reads) and YAML 1.2 understand differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguity {
    /// Line, counted from 1.
    pub line: u32,
    /// Both readings in words.
    pub message: String,
}
