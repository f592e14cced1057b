//! What an age file tells without any key: for admission, `zen check` and status.

use std::cell::RefCell;
use std::io::Read as _;

use age::armor::ArmoredReader;
use age_core::format::FileKey;

use crate::{MAX_ARMORED, MAX_PLAINTEXT, OpenError};

/// What armour begins with. A binary age file is not taken: a manifest holds text.
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// Plaintext bytes of one chunk (age-encryption.org/v1, Payload).
const CHUNK: usize = 64 << 10;
/// Bytes of a chunk's authentication tag.
const TAG: usize = 16;

/// The header of an age file that somebody can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its recipient stanzas, in order; at least one is [`Stanza::X25519`].
    pub stanzas: Vec<Stanza>,
    /// Bytes of the plaintext.
    pub plaintext: usize,
}

/// The kind of a recipient stanza. age does not tell whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stanza {
    /// An X25519 key.
    X25519,
    /// Another kind, by its first word: `scrypt`, `ssh-ed25519`, … and the noise that some writers add.
    Other(String),
}

/// Reads an armoured file's header. Nothing is decrypted and nothing authenticated: that takes a key.
pub fn inspect(armored: &str) -> Result<Header, OpenError> {
    let file = dearmor(armored)?;
    let (decryptor, payload) = parse(&file)?;
    let recorder = Recorder::default();
    // Our recorder opens nothing, so this always ends in an error; what matters is what it saw.
    drop(decryptor.decrypt(std::iter::once(&recorder as &dyn age::Identity)));
    let Recorder { stanzas, malformed } = recorder;
    if malformed.into_inner() {
        return Err(OpenError::Malformed);
    }
    let stanzas = stanzas.into_inner();
    if !stanzas.contains(&Stanza::X25519) {
        return Err(OpenError::NoX25519Recipient);
    }
    let plaintext = plaintext_size(payload).ok_or(OpenError::Malformed)?;
    if plaintext > MAX_PLAINTEXT {
        return Err(OpenError::TooLarge);
    }
    Ok(Header { stanzas, plaintext })
}

/// The bytes beneath the armour.
pub(crate) fn dearmor(armored: &str) -> Result<Vec<u8>, OpenError> {
    if armored.len() > MAX_ARMORED {
        return Err(OpenError::TooLarge);
    }
    let text = armored.trim();
    if !text.starts_with(BEGIN) {
        return Err(OpenError::NotArmored);
    }
    let mut file = Vec::with_capacity(text.len() / 4 * 3);
    ArmoredReader::new(text.as_bytes()).read_to_end(&mut file).map_err(|_| OpenError::Malformed)?;
    Ok(file)
}

/// The header, and how many bytes follow it.
pub(crate) fn parse(file: &[u8]) -> Result<(age::Decryptor<&[u8]>, usize), OpenError> {
    let mut counted = file;
    age::Decryptor::new_buffered(&mut counted).map_err(|_| OpenError::Malformed)?;
    let payload = counted.len();
    let decryptor = age::Decryptor::new_buffered(file).map_err(|_| OpenError::Malformed)?;
    Ok((decryptor, payload))
}

/// None where it is cut: there is at least one chunk, and only an empty plaintext has an empty one.
const fn plaintext_size(payload: usize) -> Option<usize> {
    let chunks = payload.div_ceil(CHUNK + TAG);
    match payload.checked_sub(chunks * TAG) {
        Some(size) if chunks == 1 || (chunks > 1 && size > (chunks - 1) * CHUNK) => Some(size),
        _ => None,
    }
}

/// An identity that opens nothing and notes what there is.
#[derive(Default)]
struct Recorder {
    stanzas: RefCell<Vec<Stanza>>,
    malformed: RefCell<bool>,
}

impl age::Identity for Recorder {
    fn unwrap_stanza(&self, stanza: &age_core::format::Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        let kind = if stanza.tag == "X25519" { Stanza::X25519 } else { Stanza::Other(stanza.tag.clone()) };
        if kind == Stanza::X25519 && !is_well_formed(stanza) {
            self.malformed.replace(true);
        }
        self.stanzas.borrow_mut().push(kind);
        None
    }
}

/// One argument of 32 bytes (43 characters of base64) and a wrapped file key of 32 bytes.
fn is_well_formed(stanza: &age_core::format::Stanza) -> bool {
    stanza.args.len() == 1 && stanza.args[0].len() == 43 && stanza.body.len() == 32
}

#[cfg(test)]
mod tests {
    use zen_model::Secret;

    use super::*;
    use crate::testing::armored;
    use crate::{Identity, seal};

    #[test]
    fn a_header_tells_kinds_and_size() {
        let to: Vec<_> = (0..3).map(|_| Identity::generate().recipient()).collect();
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, MAX_PLAINTEXT] {
            let file = seal(&Secret::new(vec![1; size]), &to).expect("seals");
            let header = inspect(&file).expect("reads");
            // Some writers add a stanza of noise, so that readers stay used to kinds they do not know.
            let known = header.stanzas.iter().filter(|stanza| **stanza == Stanza::X25519).count();
            assert_eq!((known, header.plaintext), (3, size));
        }
    }

    #[test]
    fn what_is_no_such_file_says_why() {
        let head = "age-encryption.org/v1\n-> ssh-ed25519 aaaa bbbb\nQUFB\n--- ";
        let ssh = format!("{head}{}\n{}", "A".repeat(43), "n".repeat(16 + 16));
        let cases = [
            (String::new(), OpenError::NotArmored),
            ("hunter2".to_owned(), OpenError::NotArmored),
            ("age-encryption.org/v1\n-> X25519 a\n".to_owned(), OpenError::NotArmored),
            (format!("{BEGIN}\n"), OpenError::Malformed),
            (format!("{BEGIN}\n!!!\n-----END AGE ENCRYPTED FILE-----\n"), OpenError::Malformed),
            (armored(b"age-encryption.org/v2\n"), OpenError::Malformed),
            (armored(b"hello"), OpenError::Malformed),
            (armored(ssh.as_bytes()), OpenError::NoX25519Recipient),
        ];
        for (text, expected) in cases {
            assert_eq!(inspect(&text), Err(expected), "{text}");
        }
    }
}
