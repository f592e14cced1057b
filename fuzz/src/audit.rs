use std::path::Path;
use std::sync::Arc;

use zen_audit::verify::{Lenience, Place, Verifier};
use zen_audit::{Entry, Head};

/// Lines of an audit log, whole and cut.
///
/// What is read as an entry is written as exactly that line, and what verifies no longer does when its last line is
/// repeated.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn audit(data: &[u8]) {
    let file: Arc<Path> = Arc::from(Path::new("input"));
    let mut verifier = Verifier::new(Lenience { partial: true, absent: false });
    let mut again = Verifier::new(Lenience { partial: true, absent: false });
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        if let Ok(entry) = Entry::parse(line) {
            assert_eq!(entry.to_line(), *line, "an entry was read that is written otherwise");
            verifier.hear(&entry);
            again.hear(&entry);
            let head = entry.head();
            assert_eq!(head.to_string().parse::<Head>().ok(), Some(head));
        }
    }
    for (number, line) in lines.iter().enumerate() {
        let place = || Place { file: Arc::clone(&file), line: number as u64 + 1 };
        verifier.line(place(), line);
        again.line(place(), line);
    }
    if let Some(last) = lines.last() {
        again.line(Place { file, line: lines.len() as u64 + 1 }, last);
        assert!(
            !verifier.finish().findings.is_empty() || !again.finish().findings.is_empty(),
            "a repeat was not found"
        );
    }
}
