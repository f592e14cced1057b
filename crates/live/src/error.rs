//! Why a folder cannot be used at all, as opposed to findings about what is in it.

use std::io;
use std::path::PathBuf;

/// The folder cannot be read or watched: `zen check` ends with 2, `zen up` does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such folder.
    #[error("the folder {} does not exist", .0.display())]
    Missing(PathBuf),
    /// A file stands there.
    #[error("{} is not a folder; name the folder that the manifests are in", .0.display())]
    NotAFolder(PathBuf),
    /// The folder cannot be listed.
    #[error("failed to read the folder {}", .path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Nothing in it is an object that this program knows.
    #[error("no objects found in {}: it needs *.yaml, *.yml or *.json files with Webhook and Destination objects", .0.display())]
    Empty(PathBuf),
    /// `--service` of another form.
    #[error("--service {text:?}: {message}")]
    ServiceOverride {
        /// What was given.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// The task that reads the folder ended.
    #[error("failed to read the folder: its task ended")]
    Ended(#[source] tokio::task::JoinError),
}
