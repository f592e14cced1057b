//! A word that is planted in an event, and whether it stands somewhere: as it is, in hexadecimal digits, or within base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A word that nothing else says, of letters and digits: no encoding of JSON, URLs or headers changes it.
pub struct Needle {
    word: String,
    forms: Vec<String>,
}

impl Needle {
    /// `place` says in what is found where it was planted.
    pub fn new(place: &str) -> Self {
        let word = format!("planted{place}{:016x}", fastrand::u64(..));
        let hex = hex(&word);
        let within = (0..3).map(|offset| base64(word.as_bytes(), offset));
        let forms = [word.clone(), hex].into_iter().chain(within).collect();
        Self { word, forms }
    }

    pub fn word(&self) -> &str {
        &self.word
    }

    pub fn is_in(&self, hay: &[u8]) -> bool {
        self.forms().any(|form| memchr::memmem::find(hay, form).is_some())
    }

    /// Everything that means it.
    pub fn forms(&self) -> impl Iterator<Item = &[u8]> {
        self.forms.iter().map(String::as_bytes)
    }
}

fn hex(text: &str) -> String {
    let digits = b"0123456789abcdef".map(char::from);
    text.bytes().flat_map(|byte| [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)])).collect()
}

/// What stands in base64 whatever is around, if the word begins at a place that is `offset` modulo 3.
fn base64(word: &[u8], offset: usize) -> String {
    let text = STANDARD_NO_PAD.encode([&vec![0; offset], word].concat());
    let (begin, end) = ((offset * 8).div_ceil(6), (offset + word.len()) * 8 / 6);
    text[begin..end].to_owned()
}

#[test]
fn a_needle_is_found_in_whatever_way_it_is_written() {
    let needle = Needle::new("Body");
    for before in 0..4 {
        for after in 0..4 {
            let text = format!("{}{}{}", "~".repeat(before), needle.word(), "~".repeat(after));
            let base64 = STANDARD_NO_PAD.encode(&text);
            let hex = hex(&text);
            for written in [text, base64, hex] {
                assert!(needle.is_in(written.as_bytes()), "{written}");
            }
        }
    }
    assert!(!needle.is_in(Needle::new("Body").word().as_bytes()), "another one is another");
}
