//! The root key: one file of the state folder, from which everything else that is secret at rest can be opened.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zen_model::Secret;

use crate::file::Access;
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
        if let Some(text) = file::read(path, Access::Owner)? {
            return Self::from_text(&text).map_err(|reason| damaged(path, reason));
        }
        let key = Self::random();
        if file::create(path, &key.text())? {
            return Ok(key);
        }
        let text = file::read(path, Access::Owner)?.ok_or_else(|| damaged(path, "it vanished"))?;
        Self::from_text(&text).map_err(|reason| damaged(path, reason))
    }

    /// Reads a key that Kubernetes mounted from a Secret: never made here, and its group may read it. Takes what
    /// [`RootKey::text`] writes, and the 32 bytes in base64.
    pub fn mounted(path: &Path) -> Result<Self, Error> {
        let text =
            file::read(path, Access::Group)?.ok_or_else(|| Error::Missing { path: path.display().to_string() })?;
        if text.starts_with(TITLE) {
            return Self::from_text(&text).map_err(|reason| damaged(path, reason));
        }
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let bytes = bytes.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        bytes
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .ok_or_else(|| damaged(path, "it does not hold 32 bytes in base64"))
    }

    /// The content of a key file.
    pub fn text(&self) -> Zeroizing<String> {
        let hex = Zeroizing::new(hex::encode(self.0.as_slice()));
        Zeroizing::new(format!("{TITLE}\n{}\n", *hex))
    }

    /// A key for one purpose that is itself the root of others: who has it can derive those and nothing else.
    #[must_use]
    pub fn branch(&self, label: &str) -> Self {
        self.derived(label, &[])
    }

    /// As [`RootKey::branch`], bound to more than a label.
    pub(crate) fn derived(&self, label: &str, info: &[&[u8]]) -> Self {
        Self(self.derive(label, info))
    }

    /// From 32 bytes, as [`RootKey::secret`] gives them; none for another length.
    pub fn of(secret: &Secret) -> Option<Self> {
        <[u8; 32]>::try_from(secret.expose()).ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Its bytes, for derivations elsewhere.
    pub fn secret(&self) -> Secret {
        Secret::new(self.0.to_vec())
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

    /// Reads what [`RootKey::text`] writes.
    ///
    /// # Errors
    /// What is wrong with it, without key material.
    pub fn from_text(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err("its first line is not that of a root key");
        }
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(lines.next().unwrap_or_default(), &mut *key)
            .map_err(|_| "it does not hold 32 bytes in hex")?;
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

    /// As a Secret with `fsGroup` is mounted: readable for the group, in either form.
    #[test]
    fn a_mounted_key_may_be_read_by_its_group_and_is_never_made() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("signing.key");
        assert!(matches!(RootKey::mounted(&path), Err(Error::Missing { .. })));
        let key = RootKey::random();
        for text in [key.text().to_string(), format!("{}\n", STANDARD.encode(key.0.as_slice()))] {
            fs::write(&path, text).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).expect("chmod");
            assert_eq!(RootKey::mounted(&path).expect("read").0, key.0);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
            assert!(matches!(RootKey::mounted(&path), Err(Error::Exposed { .. })));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "c2hvcnQ=").expect("write");
        assert!(matches!(RootKey::mounted(&path), Err(Error::Damaged { .. })));
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
