//! The documentation of the frames says what the program does.

use std::collections::BTreeSet;

/// Number and name of the field in a line, given the line before it.
type Field = fn(&str, Option<&str>) -> Option<(u32, String)>;

/// Every field as `Message.name = number`, from the text of a source.
fn fields<'a>(lines: impl Iterator<Item = &'a str>, begins: &str, field: Field) -> BTreeSet<String> {
    let mut message = None;
    let mut before = None;
    let mut found = BTreeSet::new();
    for line in lines.map(str::trim) {
        if let Some(rest) = line.strip_prefix(begins) {
            message = rest.strip_suffix('{').map(|name| name.trim().to_owned());
        } else if line == "}" {
            message = None;
        } else if let (Some(message), Some((number, name))) = (&message, field(line, before)) {
            found.insert(format!("{message}.{name} = {number}"));
        }
        before = Some(line);
    }
    found
}

#[test]
fn names_and_numbers_agree() {
    let proto = fields(include_str!("../../proto/link.proto").lines(), "message ", |line, _| {
        let (left, right) = line.split(';').next()?.split_once(" = ")?;
        Some((right.trim().parse().ok()?, left.rsplit(' ').next()?.to_owned()))
    });
    let rust = fields(include_str!("../../src/frame.rs").lines(), "pub struct ", |line, before| {
        let name = line.strip_prefix("pub ")?.split(':').next()?;
        let tag = before?.split("tag = \"").nth(1)?.split('"').next()?;
        Some((tag.parse().ok()?, name.to_owned()))
    });
    assert!(proto.len() > 30, "{proto:?}");
    assert_eq!(proto, rust);
}
