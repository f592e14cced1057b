//! The versioned data keys.

pub mod stored;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use crate::envelope::{self, Aad, Nonces};
use crate::file::Access;
use crate::{Error, RootKey, file};
use stored::Wrapped;

/// Seals with the newest data key, opens with any. Cheap to clone; clones share keys and nonces.
///
/// One data key may seal 2^64 blocks by the counter nonces; rotate it by age, see [`Keyring::rotate_older_than`].
#[derive(Clone)]
pub struct Keyring(Arc<Ring>);

struct Ring {
    root: RootKey,
    /// Where the wrapped keys lie; none for a ring in memory.
    path: Option<PathBuf>,
    keys: RwLock<Arc<Keys>>,
    nonces: Nonces,
    /// Two rotations must not write the file at one time.
    rotating: Mutex<()>,
}

/// Oldest first; never empty.
struct Keys(Vec<DataKey>);

#[derive(Clone)]
struct DataKey {
    wrapped: Wrapped,
    cipher: Arc<LessSafeKey>,
}

impl Keyring {
    /// Reads or makes the root key at `path` and the data keys that it wraps, in `<path>.ring` beside it; both 0600.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let root = RootKey::load_or_create(path)?;
        let mut ring = path.file_name().unwrap_or_default().to_owned();
        ring.push(".ring");
        Self::with_root(root, &path.with_file_name(ring))
    }

    /// The ring stored at `path` under a root key that comes from elsewhere.
    pub fn with_root(root: RootKey, path: &Path) -> Result<Self, Error> {
        Self::open_ring(root, path, Access::Owner)
    }

    /// As [`Keyring::with_root`] in a volume of a pod, which Kubernetes makes accessible to the pod's group at every mount.
    pub fn on_volume(root: RootKey, path: &Path) -> Result<Self, Error> {
        Self::open_ring(root, path, Access::Group)
    }

    fn open_ring(root: RootKey, path: &Path, access: Access) -> Result<Self, Error> {
        let text = if let Some(text) = file::read(path, access)? {
            text
        } else {
            let first = DataKey::make(&root, 1);
            file::create(path, &stored::print(&[first.wrapped]))?;
            file::read(path, access)?
                .ok_or_else(|| Error::Damaged { path: path.display().to_string(), reason: "it vanished" })?
        };
        let name = || path.display().to_string();
        let wrapped = stored::parse(&text).map_err(|reason| Error::Damaged { path: name(), reason })?;
        let keys = wrapped.into_iter().map(|wrapped| DataKey::unwrap_with(&root, wrapped));
        let keys = keys.collect::<Option<Vec<_>>>().ok_or_else(|| Error::WrongRoot { path: name() })?;
        Ok(Self::from_keys(root, Some(path.to_owned()), keys))
    }

    /// A ring in memory: what it seals cannot be opened by another process.
    pub fn ephemeral() -> Self {
        let root = RootKey::random();
        let keys = vec![DataKey::make(&root, 1)];
        Self::from_keys(root, None, keys)
    }

    fn from_keys(root: RootKey, path: Option<PathBuf>, keys: Vec<DataKey>) -> Self {
        let keys = RwLock::new(Arc::new(Keys(keys)));
        Self(Arc::new(Ring { root, path, keys, nonces: Nonces::random(), rotating: Mutex::new(()) }))
    }

    /// Seals `plain`, bound to `aad`. The result is [`crate::OVERHEAD`] bytes longer.
    pub fn seal(&self, aad: &Aad, plain: &[u8]) -> Vec<u8> {
        let keys = self.keys();
        let key = keys.newest();
        envelope::seal(&key.cipher, key.wrapped.id, self.0.nonces.next(), aad, plain)
    }

    /// Opens a record in the buffer that it came in and returns that buffer with the plaintext alone.
    pub fn open(&self, aad: &Aad, mut sealed: Vec<u8>) -> Result<Vec<u8>, Error> {
        let id = envelope::key_id(&sealed)?;
        let keys = self.keys();
        let key = keys.0.iter().rev().find(|key| key.wrapped.id == id).ok_or(Error::UnknownKey(id))?;
        envelope::open(&key.cipher, aad, &mut sealed)?;
        Ok(sealed)
    }

    /// Adds a data key and seals with it from now on; it is durable before it is used. Returns its id.
    pub fn rotate(&self) -> Result<u32, Error> {
        let _one = self.0.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys().0.clone();
        let id = keys.iter().map(|key| key.wrapped.id).max().unwrap_or(0) + 1;
        keys.push(DataKey::make(&self.0.root, id));
        if let Some(path) = &self.0.path {
            let wrapped: Vec<_> = keys.iter().map(|key| key.wrapped.clone()).collect();
            file::replace(path, &stored::print(&wrapped))?;
        }
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys(keys));
        Ok(id)
    }

    /// Rotates when the newest key is older than `age`. Returns the new id, if there is one.
    pub fn rotate_older_than(&self, age: Duration) -> Result<Option<u32>, Error> {
        let made = self.keys().newest().wrapped.made;
        let limit = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        if now().saturating_sub(made) > limit { self.rotate().map(Some) } else { Ok(None) }
    }

    /// The id of the key that seals now.
    pub fn current(&self) -> u32 {
        self.keys().newest().wrapped.id
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current()).finish_non_exhaustive()
    }
}

impl Keys {
    fn newest(&self) -> &DataKey {
        self.0.last().expect("a ring is made with one key and only ever grows")
    }
}

impl DataKey {
    fn make(root: &RootKey, id: u32) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut *key);
        let made = now();
        let mut nonce = [0; 12];
        random(&mut nonce);
        let sealed = envelope::seal(&wrapping(root), 0, nonce, &binding(id, made), &*key);
        Self { wrapped: Wrapped { id, made, sealed }, cipher: Arc::new(cipher(&key)) }
    }

    fn unwrap_with(root: &RootKey, wrapped: Wrapped) -> Option<Self> {
        let mut plain = wrapped.sealed.clone();
        envelope::key_id(&plain).ok()?;
        envelope::open(&wrapping(root), &binding(wrapped.id, wrapped.made), &mut plain).ok()?;
        let plain = Zeroizing::new(plain);
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).ok()?);
        Some(Self { wrapped, cipher: Arc::new(cipher(&key)) })
    }
}

fn wrapping(root: &RootKey) -> LessSafeKey {
    cipher(&root.derive("zen-mesh/seal/wrap/1", &[]))
}

fn binding(id: u32, made: u64) -> Aad {
    Aad::new("zen-mesh/seal/data-key", &[&id.to_be_bytes(), &made.to_be_bytes()])
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}

/// Fills with random bytes. The generator fails only when the kernel's does, and then no key may be made.
pub(crate) fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random source works");
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
