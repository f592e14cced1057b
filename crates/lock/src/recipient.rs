//! Public keys.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;

/// An X25519 public key, `age1…`.
#[derive(Clone)]
pub struct Recipient {
    key: age::x25519::Recipient,
    text: Box<str>,
}

/// A text is not a public key that something can be sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// A private key where a public one belongs.
    #[error("it is a private key; give the public key, which `zen lock pubkey FILE` prints")]
    Private,
    /// A public key of another kind: ssh, a plugin's, post-quantum.
    #[error("it is a public key of another kind; ZenLocks are sealed to X25519 keys (age1…)")]
    NotX25519,
    /// Cut, mistyped, or no key at all.
    #[error("it is not an age public key (age1…); it may be cut or mistyped")]
    Malformed,
    /// A point of low order: everybody would know the shared secret.
    #[error("it is not a safe X25519 public key (a point of low order); ask its owner for another")]
    Unsafe,
}

impl Recipient {
    pub(crate) fn of(key: age::x25519::Recipient) -> Self {
        let text = key.to_string().into();
        Self { key, text }
    }

    /// `age1…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn key(&self) -> &age::x25519::Recipient {
        &self.key
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        let text = text.trim();
        if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("AGE-PLUGIN-") {
            return Err(RecipientError::Private);
        }
        let Some((kind, _)) = text.rsplit_once('1') else { return Err(other_or_malformed(text)) };
        if kind != "age" {
            return Err(other_or_malformed(text));
        }
        let key: age::x25519::Recipient = text.parse().map_err(|_| RecipientError::Malformed)?;
        let (_, point) = bech32::decode(text).map_err(|_| RecipientError::Malformed)?;
        // The `age` crate panics when it seals to such a point; no key pair has one.
        agrees(&point).map_err(|_| RecipientError::Unsafe)?;
        Ok(Self::of(key))
    }
}

fn other_or_malformed(text: &str) -> RecipientError {
    let other = ["age1", "ssh-", "ecdsa-"].iter().any(|prefix| text.starts_with(prefix));
    if other { RecipientError::NotX25519 } else { RecipientError::Malformed }
}

/// An error when the shared secret of this point and any key is zero (RFC 7748, 6.1).
fn agrees(point: &[u8]) -> Result<(), Unspecified> {
    let ours = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
    agree_ephemeral(ours, UnparsedPublicKey::new(&X25519, point), Unspecified, |_| Ok(()))
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl PartialOrd for Recipient {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Recipient {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Recipient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

    fn encoded(point: [u8; 32]) -> String {
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").expect("a prefix"), &point).expect("encodes")
    }

    #[test]
    fn a_public_key_is_read_and_shown_word_for_word() {
        let key: Recipient = format!(" {KEY}\n").parse().expect("reads");
        assert_eq!((key.to_string().as_str(), format!("{key:?}").as_str()), (KEY, KEY));
    }

    #[test]
    fn what_is_no_public_key_says_why() {
        let mut one = [0; 32];
        one[0] = 1;
        let cases = [
            (String::new(), RecipientError::Malformed),
            ("alice".to_owned(), RecipientError::Malformed),
            (KEY[..61].to_owned(), RecipientError::Malformed),
            (KEY.to_ascii_uppercase(), RecipientError::Malformed),
            (KEY.replace("svpy7pa", "svpy7pq"), RecipientError::Malformed),
            (
                "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t".to_owned(),
                RecipientError::NotX25519,
            ),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI".to_owned(), RecipientError::NotX25519),
            ("AGE-SECRET-KEY-1GQ9778".to_owned(), RecipientError::Private),
            (encoded([0; 32]), RecipientError::Unsafe),
            (encoded(one), RecipientError::Unsafe),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Recipient>(), Err(expected), "{text}");
        }
    }
}
