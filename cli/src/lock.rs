//! `zen lock`: secrets that may lie in Git, because only ciphertext is in them (Z-01, Z-06, Z-07).
//!
//! Plaintext comes from files and standard input only, never from the command line, which every user of the machine can
//! read; it goes to standard output when that is what was asked for, and else to nothing but private files in memory.

mod decrypt;
mod diff;
mod edit;
mod encrypt;
mod file;
mod identity;
mod input;
mod recipients;
mod rotate;

use clap::{Args, Subcommand};

use crate::failure::Outcome;

pub use identity::keyring;

/// Encrypt Secrets into ZenLocks for Git, and work with them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen lock keygen -o key.txt                             a key pair; the public key is printed
  zen lock encrypt -r age1… --allow ci -o ci.yaml secret.yaml
  zen lock encrypt --name ci --from-env-file .env        for the cluster of the kubeconfig
  zen lock edit -i key.txt ci.yaml                       keys that stay the same keep their ciphertext
  zen lock rotate -i old.txt -r age1… manifests/         seal everything to another key
  zen lock diff -i key.txt old.yaml new.yaml             which keys changed, without their values

Files are age's (age-encryption.org/v1, X25519, ASCII armour): the age tool reads and writes them as well.
Exit codes: 0 done, 1 it did not work (diff: they differ), 2 it could not be tried.")]
pub struct LockCommand {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    Keygen(identity::Keygen),
    Pubkey(identity::Pubkey),
    Encrypt(encrypt::Encrypt),
    Decrypt(decrypt::Decrypt),
    Edit(edit::Edit),
    Rotate(rotate::Rotate),
    Diff(diff::Diff),
}

impl LockCommand {
    /// Runs it.
    pub async fn run(self) -> Outcome {
        match self.which {
            Which::Keygen(keygen) => keygen.run(),
            Which::Pubkey(pubkey) => pubkey.run(),
            Which::Encrypt(encrypt) => encrypt.run().await,
            Which::Decrypt(decrypt) => decrypt.run(),
            Which::Edit(edit) => edit.run().await,
            Which::Rotate(rotate) => rotate.run().await,
            Which::Diff(diff) => diff.run(),
        }
    }
}
