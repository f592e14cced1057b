//! The state folder of `zen up`: who may use it, what lies in it, and how other commands find it.
//!
//! | file | holds |
//! |---|---|
//! | `ca.crt`, `ca.key` | the root that clients trust, its key (0600) |
//! | `mesh.key` | the root key of seals and signatures (0600), and the data keys that it wraps |
//! | `admin.token` | what the admin API asks for (0600) |
//! | `addresses.json` | `{"intake": "…", "admin": "…"}` while the process runs |
//! | `queue/` | the embedded queue |
//! | `lock` | held by the one process that uses the folder |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zen_model::Secret;

use crate::failure::{Context as _, Failure, Outcome};

/// Bytes of `admin.token` before they are encoded.
const TOKEN_BYTES: usize = 32;
/// Bits that let the group or others in.
const OTHERS: u32 = 0o077;

/// The folder, locked for this process as long as this lives.
#[derive(Debug)]
pub struct State {
    place: Place,
    _lock: File,
}

/// Where the folder is; what other commands need to reach the process that uses it.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
}

/// `addresses.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Where webhooks arrive (TLS).
    pub intake: String,
    /// Health, metrics and the admin API.
    pub admin: String,
}

impl State {
    /// Opens the folder, making it (0700, ignored by Git) where it does not exist, and locks it.
    pub fn open(folder: &Path) -> Outcome<Self> {
        match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) => {
                return Err(Failure::new(format!("failed to make the state folder {}: {error}", folder.display()))
                    .hint("name a folder that you may write with --state"));
            }
        }
        let mode = fs::metadata(folder).context(format_args!("failed to read {}", folder.display()))?.mode();
        if mode & 0o022 != 0 {
            return Err(Failure::new(format!("others may write the state folder {}", folder.display()))
                .hint(format!("chmod 700 {}", folder.display())));
        }
        let place = Place { folder: folder.to_owned() };
        let lock = place.lock()?;
        let ignore = folder.join(".gitignore");
        if !ignore.exists() {
            write_new(&ignore, b"# Keys and events: not for Git.\n*\n", 0o600)?;
        }
        Ok(Self { place, _lock: lock })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The admin API's token, made on first use.
    pub fn admin_token(&self) -> Outcome<Secret> {
        load_or_create(&self.place.token_file())
    }

    /// Says where the process listens. Written at once or not at all.
    pub fn publish(&self, addresses: &Addresses) -> Outcome {
        let file = self.place.addresses_file();
        let temporary = file.with_extension("json.new");
        let _ = fs::remove_file(&temporary);
        let text = serde_json::to_string(addresses).context("failed to write the addresses")? + "\n";
        write_new(&temporary, text.as_bytes(), 0o600)?;
        fs::rename(&temporary, &file).context(format_args!("failed to write {}", file.display()))
    }

    /// The process ends: nobody listens any more.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.place.addresses_file());
    }
}

impl Place {
    /// What `--state`, `--dir` and `ZEN_STATE` name, in this order; else `./.zen`.
    pub fn find(state: Option<&Path>, dir: Option<&Path>) -> Self {
        let folder = match (state, dir) {
            (Some(state), _) => state.to_owned(),
            (None, Some(dir)) => dir.join(".zen"),
            (None, None) => std::env::var_os("ZEN_STATE").map_or_else(|| PathBuf::from(".zen"), PathBuf::from),
        };
        Self { folder }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root that clients trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The root key of seals and signatures.
    pub fn mesh_key_file(&self) -> PathBuf {
        self.folder.join("mesh.key")
    }

    /// Private keys for `ZenLock`s, where no file is named.
    pub fn identity_file(&self) -> PathBuf {
        self.folder.join("identity.txt")
    }

    /// The embedded queue's folder.
    pub fn queue_folder(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Where the process of this folder listens.
    pub fn addresses(&self) -> Outcome<Addresses> {
        let file = self.addresses_file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::new(format!("no mesh runs on the state folder {}", self.folder.display()))
                    .hint("start one with: zen up DIR; name its folder with --dir DIR or --state DIR/.zen"));
            }
            Err(error) => return Err(Failure::new(format!("failed to read {}: {error}", file.display()))),
        };
        serde_json::from_slice(&text).context(format_args!("{} is damaged", file.display()))
    }

    /// The admin API's token.
    pub fn token(&self) -> Outcome<Secret> {
        read_private(&self.token_file())?
            .ok_or_else(|| Failure::new(format!("there is no {}", self.token_file().display())))
    }

    fn token_file(&self) -> PathBuf {
        self.folder.join("admin.token")
    }

    fn addresses_file(&self) -> PathBuf {
        self.folder.join("addresses.json")
    }

    /// The lock goes with the process, however it ends.
    fn lock(&self) -> Outcome<File> {
        let file = self.folder.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&file);
        let lock = lock.map_err(|error| {
            Failure::new(format!("failed to write the state folder {}: {error}", self.folder.display()))
                .hint("make it writable for this user, or name another folder with --state")
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(format!("another process uses the state folder {}", self.folder.display()))
                    .hint("stop it first, or name another folder with --state"))
            }
            Err(TryLockError::Error(error)) => Err(Failure::new(format!("failed to lock {}: {error}", file.display()))),
        }
    }
}

/// A private file's text, without the newline at its end; none when there is no file.
fn read_private(file: &Path) -> Outcome<Option<Secret>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new(format!("failed to open {}: {error}", file.display()))),
    };
    let mode = opened.metadata().context(format_args!("failed to read {}", file.display()))?.mode();
    if mode & OTHERS != 0 {
        return Err(Failure::new(format!("others may read {} (mode {:04o})", file.display(), mode & 0o7777))
            .hint(format!("chmod 600 {}, and replace the key if somebody may have read it", file.display())));
    }
    let mut bytes = Vec::with_capacity(256);
    opened.take(4096).read_to_end(&mut bytes).context(format_args!("failed to read {}", file.display()))?;
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    Ok(Some(Secret::new(bytes)))
}

fn load_or_create(file: &Path) -> Outcome<Secret> {
    if let Some(secret) = read_private(file)?
        && !secret.is_empty()
    {
        return Ok(secret);
    }
    let mut bytes = [0; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::new("the system gives no random numbers"))?;
    let text = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
    // A file without bytes is the trace of a crash while it was written: nothing was made with it yet.
    let temporary = file.with_extension("new");
    let _ = fs::remove_file(&temporary);
    write_new(&temporary, text.expose(), 0o600)?;
    fs::rename(&temporary, file).context(format_args!("failed to write {}", file.display()))?;
    sync_folder(file)?;
    Ok(text)
}

fn write_new(file: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let write = || -> io::Result<()> {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        new.write_all(bytes)?;
        new.sync_all()
    };
    write().map_err(|error| {
        let failure = Failure::new(format!("failed to write {}: {error}", file.display()));
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                failure.hint("name a folder that you may write with --state")
            }
            _ => failure,
        }
    })
}

/// A new name survives a power cut only when its folder was synced too.
fn sync_folder(file: &Path) -> Outcome {
    let Some(folder) = file.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).context(format_args!("failed to sync {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_private_and_stay_the_same() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let folder = parent.path().join(".zen");
        let state = State::open(&folder).expect("opens");
        let token = state.admin_token().expect("made");
        assert_eq!(fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("admin.token")).expect("there").mode() & 0o777, 0o600);
        drop(state);
        let state = State::open(&folder).expect("opens again");
        assert_eq!(state.admin_token().expect("read"), token);
        assert_eq!(state.place().token().expect("read"), token);
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let _first = State::open(&folder.path().join("s")).expect("opens");
        let refused = State::open(&folder.path().join("s")).expect_err("locked");
        assert!(refused.to_string().contains("another process uses"), "{refused}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = State::open(&folder.path().join("s")).expect("opens");
        state.admin_token().expect("made");
        let file = folder.path().join("s/admin.token");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changes");
        let refused = state.admin_token().expect_err("readable by others").to_string();
        assert!(refused.contains("mode 0644") && refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn addresses_appear_and_go() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = State::open(&folder.path().join("s")).expect("opens");
        assert!(state.place().addresses().is_err());
        let addresses = Addresses { intake: "127.0.0.1:1".to_owned(), admin: "127.0.0.1:2".to_owned() };
        state.publish(&addresses).expect("writes");
        assert_eq!(state.place().addresses().expect("reads"), addresses);
        state.withdraw();
        assert!(state.place().addresses().is_err());
    }
}
