//! Armoured age files to plaintext.

use std::cell::Cell;
use std::io::Read as _;

use age_core::format::{FileKey, Stanza};
use zen_model::{LockReason, Secret};
use zeroize::Zeroizing;

use crate::inspect::{dearmor, parse};
use crate::{Identity, MAX_PLAINTEXT, Recipient, inspect};

/// Private keys, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    identities: Vec<Identity>,
}

/// A plaintext, and which key opened it.
#[derive(Debug)]
pub struct Opened {
    /// What was sealed.
    pub plaintext: Secret,
    /// The public half of the key that opened it: the newest of those that can.
    pub with: Recipient,
    /// Whether that is the newest of the keyring. If not, the file is to be sealed again before the older key goes.
    pub newest: bool,
}

/// A file does not open. No message repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// No armour at all.
    #[error("it is not an ASCII-armoured age file (-----BEGIN AGE ENCRYPTED FILE-----)")]
    NotArmored,
    /// Armour or header that breaks the format.
    #[error("it is not a well-formed age file: it was cut or changed")]
    Malformed,
    /// Sealed to a passphrase, ssh keys or the like only.
    #[error("it is not sealed to any X25519 public key (age1…)")]
    NoX25519Recipient,
    /// Sealed to other keys than ours.
    #[error("none of the private keys opens it: it is sealed to other public keys")]
    UnknownKey,
    /// The header or the payload is not what its writer wrote.
    #[error("it was changed or cut after it was encrypted")]
    Corrupt,
    /// Larger than a `ZenLock` may hold.
    #[error("it is larger than the {MAX_PLAINTEXT} bytes that a key of a ZenLock may have")]
    TooLarge,
}

impl OpenError {
    /// The code of the table of reasons.
    pub const fn reason(self) -> LockReason {
        match self {
            Self::NotArmored => LockReason::NotArmored,
            Self::Malformed => LockReason::BadCiphertext,
            Self::NoX25519Recipient => LockReason::NoX25519Recipient,
            Self::UnknownKey => LockReason::UnknownKey,
            Self::Corrupt => LockReason::CorruptCiphertext,
            Self::TooLarge => LockReason::TooLarge,
        }
    }
}

impl Keyring {
    /// With these keys, the newest first.
    pub fn new(identities: Vec<Identity>) -> Self {
        Self { identities }
    }

    /// Whether there is no key in it.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// The public keys, the newest first.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.identities.iter().map(Identity::recipient).collect()
    }

    /// Opens an armoured file with the newest key that can.
    pub fn open(&self, armored: &str) -> Result<Opened, OpenError> {
        // First what needs no key: one file has one verdict, whoever looks at it.
        let header = inspect(armored)?;
        let file = dearmor(armored)?;
        let (decryptor, payload) = parse(&file)?;
        let tried = Tried { identities: &self.identities, matched: Cell::new(None) };
        let reader = decryptor.decrypt(std::iter::once(&tried as &dyn age::Identity));
        let mut reader = reader.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => OpenError::UnknownKey,
            age::DecryptError::InvalidHeader => OpenError::Malformed,
            _ => OpenError::Corrupt,
        })?;
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(payload));
        reader.read_to_end(&mut plaintext).map_err(|_| OpenError::Corrupt)?;
        if plaintext.len() != header.plaintext {
            return Err(OpenError::Corrupt);
        }
        let index = tried.matched.get().ok_or(OpenError::UnknownKey)?;
        let with = self.identities[index].recipient();
        Ok(Opened { plaintext: Secret::new(std::mem::take(&mut *plaintext)), with, newest: index == 0 })
    }
}

/// All keys as one, which notes the one that fits.
struct Tried<'a> {
    identities: &'a [Identity],
    matched: Cell<Option<usize>>,
}

impl age::Identity for Tried<'_> {
    /// Never called by itself: the keys' order goes before the stanzas'.
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        self.identities.iter().enumerate().find_map(|(index, identity)| {
            let found = identity.key().unwrap_stanzas(stanzas);
            if found.is_some() {
                self.matched.set(Some(index));
            }
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_ARMORED, seal};

    fn sealed(text: &str, to: &[&Identity]) -> String {
        let to: Vec<_> = to.iter().map(|identity| identity.recipient()).collect();
        seal(&Secret::new(text), &to).expect("seals")
    }

    #[test]
    fn the_newest_key_that_can_opens_and_is_named() {
        let (old, new, other) = (Identity::generate(), Identity::generate(), Identity::generate());
        let ring = Keyring::new(vec![new.clone(), old.clone()]);
        let cases = [(sealed("x", &[&old]), &old, false), (sealed("x", &[&old, &other, &new]), &new, true)];
        for (file, with, newest) in cases {
            let opened = ring.open(&file).expect("opens");
            assert_eq!((opened.plaintext.expose(), opened.with, opened.newest), (&b"x"[..], with.recipient(), newest));
        }
        assert_eq!(ring.recipients(), [new.recipient(), old.recipient()]);
    }

    #[test]
    fn nothing_opens_without_its_key() {
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let file = sealed("x", &[&theirs]);
        assert_eq!(Keyring::new(vec![ours]).open(&file).expect_err("another's"), OpenError::UnknownKey);
        assert_eq!(Keyring::default().open(&file).expect_err("no key"), OpenError::UnknownKey);
    }

    #[test]
    fn every_change_is_seen() {
        let key = Identity::generate();
        let ring = Keyring::new(vec![key.clone()]);
        let file = dearmor(&sealed("a secret", &[&key])).expect("armoured");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let armored = crate::testing::armored(&changed);
            assert!(ring.open(&armored).is_err(), "a changed byte {at} goes unseen");
            let armored = crate::testing::armored(&file[..at]);
            assert!(ring.open(&armored).is_err(), "a cut at {at} goes unseen");
        }
    }

    #[test]
    fn what_is_too_large_is_not_looked_at() {
        let file = format!("{}{}", "-----BEGIN AGE ENCRYPTED FILE-----\n", "A".repeat(MAX_ARMORED));
        assert_eq!(Keyring::default().open(&file).expect_err("too large"), OpenError::TooLarge);
        let key = Identity::generate();
        let most = Secret::new(vec![7; MAX_PLAINTEXT]);
        let file = seal(&most, &vec![key.recipient(); 1]).expect("seals the most");
        assert!(Keyring::new(vec![key.clone()]).open(&file).expect("opens").plaintext == most);
        assert!(seal(&Secret::new(vec![7; MAX_PLAINTEXT + 1]), &[key.recipient()]).is_err());
    }
}
