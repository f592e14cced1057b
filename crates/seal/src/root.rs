//! The root key: one file of the state folder, from which everything else that is secret at rest can be opened.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::{Error, file};

const TITLE: &str = "zen-mesh root key 1";

/// 256 random bits, kept in a file that only its owner may read.
#[derive(Clone)]
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// A key that lives only in memory.
    pub fn random() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        crate::ring::random(&mut *key);
        Self(key)
    }

    /// Reads the key file, or makes one with mode 0600. Two processes that start at once end up with the same key.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(text) = file::read(path)? {
            return Self::parse(&text, path);
        }
        let key = Self::random();
        let hex = Zeroizing::new(hex::encode(key.0.as_slice()));
        let text = Zeroizing::new(format!("{TITLE}\n{}\n", *hex));
        if file::create(path, &text)? {
            return Ok(key);
        }
        let text = file::read(path)?.ok_or_else(|| damaged(path, "it vanished"))?;
        Self::parse(&text, path)
    }

    /// A key for one purpose: HKDF-SHA256 (RFC 5869) without salt; the parts of `info` are length-prefixed.
    ///
    /// # Panics
    /// Never: the output is far below HKDF's bound.
    pub fn derive(&self, label: &str, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let bound = crate::envelope::info(label, info);
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(&*self.0)
            .expand(&[&bound], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *derived))
            .expect("32 bytes are within HKDF's bound of 255 blocks");
        derived
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(damaged(path, "its first line is not that of a root key"));
        }
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(lines.next().unwrap_or_default(), &mut *key)
            .map_err(|_| damaged(path, "it does not hold 32 bytes in hex"))?;
        Ok(Self(key))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn damaged(path: &Path, reason: &'static str) -> Error {
    Error::Damaged { path: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_file_is_private_and_read_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state/mesh.key");
        let made = RootKey::load_or_create(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o777, 0o600);
        assert_eq!(RootKey::load_or_create(&path).expect("read").0, made.0);
        assert_eq!(format!("{made:?}"), "[redacted]");
        assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("list").count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mesh.key");
        RootKey::load_or_create(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = RootKey::load_or_create(&path).expect_err("exposed").to_string();
        assert!(error.contains("mesh.key has mode 640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mesh.key");
        RootKey::load_or_create(&path).expect("made");
        fs::write(&path, "zen-mesh root key 1\n00ff\n").expect("write");
        assert!(matches!(RootKey::load_or_create(&path), Err(Error::Damaged { .. })));
        assert_eq!(fs::read_to_string(&path).expect("read"), "zen-mesh root key 1\n00ff\n");
    }

    #[test]
    fn derived_keys_differ_by_label_and_info() {
        let root = RootKey::random();
        let one = root.derive("link", &[b"a", b"b"]);
        assert_eq!(one, root.derive("link", &[b"a", b"b"]));
        assert_ne!(one, root.derive("link", &[b"ab"]));
        assert_ne!(one, root.derive("target", &[b"a", b"b"]));
    }
}
