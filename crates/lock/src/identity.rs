//! Private keys, and the files of `age-keygen` that hold them.

use std::fmt;

use age::secrecy::ExposeSecret as _;
use jiff::Timestamp;
use zen_model::Secret;
use zeroize::Zeroizing;

use crate::Recipient;

/// What every X25519 private key begins with.
const PREFIX: &str = "AGE-SECRET-KEY-1";

/// An X25519 private key. Wiped when dropped; `Debug` shows its public key only.
#[derive(Clone)]
pub struct Identity {
    key: age::x25519::Identity,
    recipient: Recipient,
}

/// An identity file cannot be used. Lines count from 1; no message repeats any of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no key in it.
    #[error("there is no private key in it; `zen lock keygen` and `age-keygen` make one")]
    Empty,
    /// The file itself is encrypted, with a passphrase as a rule.
    #[error("it is encrypted itself; write its plaintext to a private file with `age -d` first")]
    Encrypted,
    /// A private key of another kind than X25519.
    #[error("line {line} is a private key of another kind; only X25519 keys (AGE-SECRET-KEY-1…) can be used")]
    NotX25519 {
        /// Which line.
        line: usize,
    },
    /// Neither a comment nor a private key.
    #[error("line {line} is not an age private key (AGE-SECRET-KEY-1…); it may be cut or mistyped")]
    Malformed {
        /// Which line.
        line: usize,
    },
}

impl Identity {
    /// A new key from the system's random numbers.
    pub fn generate() -> Self {
        Self::of(age::x25519::Identity::generate())
    }

    /// The keys of a file as `age-keygen` writes it: comments, empty lines, one `AGE-SECRET-KEY-1…` a line. At least one,
    /// in the file's order.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, IdentityError> {
        let start = text.trim_start();
        if start.starts_with("-----BEGIN AGE") || start.starts_with("age-encryption.org/") {
            return Err(IdentityError::Encrypted);
        }
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = keys.map(|(line, text)| Self::parse(text, line)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(IdentityError::Empty) } else { Ok(keys) }
    }

    fn parse(text: &str, line: usize) -> Result<Self, IdentityError> {
        if !text.starts_with(PREFIX) {
            let other = ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "-----BEGIN OPENSSH"];
            let is_other = other.iter().any(|prefix| text.starts_with(prefix));
            return Err(if is_other { IdentityError::NotX25519 { line } } else { IdentityError::Malformed { line } });
        }
        text.parse().map(Self::of).map_err(|_| IdentityError::Malformed { line })
    }

    fn of(key: age::x25519::Identity) -> Self {
        let recipient = Recipient::of(key.to_public());
        Self { key, recipient }
    }

    /// The public key that belongs to it.
    pub fn recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    /// The text of an identity file with this key, as `age-keygen` writes it.
    pub fn to_file(&self, created: Timestamp) -> Secret {
        let key = self.key.to_string();
        let created = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let parts =
            ["# created: ", &created, "\n# public key: ", self.recipient.as_str(), "\n", key.expose_secret(), "\n"];
        // Of the right size at once: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            text.push_str(part);
        }
        Secret::new(std::mem::take(&mut *text))
    }

    pub(crate) fn key(&self) -> &age::x25519::Identity {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# created: 2026-01-02T03:04:05Z\n\
        # public key: age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa\n\
        AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

    #[test]
    fn a_file_of_age_keygen_is_read_and_written_word_for_word() {
        let keys = Identity::parse_file(FILE).expect("reads");
        assert_eq!(keys.len(), 1);
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(keys[0].to_file(created), Secret::new(FILE));
    }

    #[test]
    fn debug_shows_the_public_key_only() {
        let keys = Identity::parse_file(FILE).expect("reads");
        let shown = format!("{:?}", keys[0]);
        assert_eq!(shown, "Identity(age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa)");
    }

    #[test]
    fn what_is_no_identity_file_is_told_without_its_text() {
        let key = FILE.lines().nth(2).expect("the key");
        let cases = [
            (String::new(), IdentityError::Empty),
            ("# only a comment\n\n".to_owned(), IdentityError::Empty),
            (format!("{key}\n\nAGE-SECRET-KEY-1QQQQ\n"), IdentityError::Malformed { line: 3 }),
            (key.to_ascii_lowercase(), IdentityError::Malformed { line: 1 }),
            (key[..key.len() - 1].to_owned(), IdentityError::Malformed { line: 1 }),
            ("AGE-SECRET-KEY-PQ-1XYZ".to_owned(), IdentityError::NotX25519 { line: 1 }),
            ("AGE-PLUGIN-YUBIKEY-1XYZ".to_owned(), IdentityError::NotX25519 { line: 1 }),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), IdentityError::NotX25519 { line: 1 }),
            ("-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned(), IdentityError::Encrypted),
            ("age-encryption.org/v1\n-> scrypt".to_owned(), IdentityError::Encrypted),
        ];
        for (text, expected) in cases {
            let refused = Identity::parse_file(&text).expect_err("refused");
            assert_eq!(refused, expected);
            assert!(!refused.to_string().contains("QQQQ"), "{refused}");
        }
    }

    #[test]
    fn two_generated_keys_differ() {
        assert_ne!(Identity::generate().recipient(), Identity::generate().recipient());
    }
}
