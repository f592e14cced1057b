//! The file of wrapped data keys: a title and one line a key, `<id> <made, ms> <envelope in hex>`.

use std::fmt::Write as _;

const TITLE: &str = "zen-mesh data keys 1";

/// A data key as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Its id, which sealed records name.
    pub id: u32,
    /// When it was made, milliseconds since the Unix epoch.
    pub made: u64,
    /// The key, sealed under the root key.
    pub sealed: Vec<u8>,
}

pub(crate) fn print(keys: &[Wrapped]) -> String {
    let mut text = format!("{TITLE}\n");
    for key in keys {
        let _ = writeln!(text, "{} {} {}", key.id, key.made, hex::encode(&key.sealed));
    }
    text
}

/// Reads the file's text. The error says what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Wrapped>, &'static str> {
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err("its first line is not that of a key ring");
    }
    let keys: Option<Vec<_>> = lines.map(line).collect();
    match keys {
        None => Err("a line is not of the form ID MADE KEY"),
        Some(keys) if keys.is_empty() => Err("it holds no key"),
        Some(keys) if keys.windows(2).any(|pair| pair[0].id >= pair[1].id) => Err("its key ids do not ascend"),
        Some(keys) => Ok(keys),
    }
}

fn line(line: &str) -> Option<Wrapped> {
    let mut parts = line.split(' ');
    let id = parts.next()?.parse().ok()?;
    let made = parts.next()?.parse().ok()?;
    let sealed = hex::decode(parts.next()?).ok()?;
    parts.next().is_none().then_some(Wrapped { id, made, sealed })
}
