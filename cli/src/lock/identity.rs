//! Private keys: made, read, and their public halves shown.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use zen_lock::{Identity, Keyring};

use super::file;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;
use crate::state::Place;

/// Make a key pair, as age-keygen does.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The identity file, 0600; its public key goes to standard output [default: the identity file itself does].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Keygen {
    pub fn run(self) -> Outcome {
        let identity = Identity::generate();
        let created = jiff::Timestamp::now();
        let text = identity.to_file(created);
        if let Some(path) = &self.output {
            file::create(path, text.expose(), 0o600)?;
            write_stdout(&format!("{}\n", identity.recipient()));
        } else {
            write_stdout(&String::from_utf8_lossy(text.expose()));
            if !io::stdout().is_terminal() {
                eprintln!("Public key: {}", identity.recipient());
            }
        }
        Ok(())
    }
}

/// Print the public keys of an identity file.
#[derive(Debug, Args)]
pub struct Pubkey {
    /// The identity file; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Pubkey {
    pub fn run(self) -> Outcome {
        for identity in read_identities(&self.file)? {
            write_stdout(&format!("{}\n", identity.recipient()));
        }
        Ok(())
    }
}

/// The private keys to open with.
#[derive(Debug, Args)]
pub struct Identities {
    /// A file of private keys (zen lock keygen, age-keygen), 0600; repeat it for several, the newest first.
    #[arg(short, long = "identity", value_name = "IDENTITY", env = "ZEN_IDENTITY")]
    identity: Vec<PathBuf>,
}

impl Identities {
    /// Those that were named; an empty keyring when none was.
    pub fn keyring(&self) -> Outcome<Keyring> {
        let mut identities = Vec::new();
        for path in &self.identity {
            identities.extend(read_identities(path)?);
        }
        Ok(Keyring::new(identities))
    }

    /// At least one.
    pub fn required(&self) -> Outcome<Keyring> {
        let keyring = self.keyring()?;
        if keyring.is_empty() {
            return Err(
                Failure::usage("no private key was given").hint("name its file with -i IDENTITY, or in ZEN_IDENTITY")
            );
        }
        Ok(keyring)
    }
}

/// The private keys of a mesh on this machine: of the files that were named, else of its state folder.
pub fn keyring(named: &[PathBuf], place: &Place) -> Outcome<Keyring> {
    let own = place.identity_file();
    let files = if named.is_empty() && own.exists() { std::slice::from_ref(&own) } else { named };
    let mut identities = Vec::new();
    for path in files {
        identities.extend(read_identities(path)?);
    }
    Ok(Keyring::new(identities))
}

/// The keys of a file that nobody else may read.
fn read_identities(path: &Path) -> Outcome<Vec<Identity>> {
    let text = file::read_private(path)?;
    Identity::parse_file(&text).map_err(|error| Failure::usage(format!("{}: {error}", file::name(path))))
}
