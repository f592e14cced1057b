//! The program of the pod's init container and of its refresh sidecar.
//!
//! In the volume lie two folders: [`FILES`], which the pod's containers mount, with one folder for each ZenLock and one file
//! for each key; and the file [`VARIABLES`], which the kubelet alone reads.

mod arguments;
pub mod ask;
mod notify;
mod run;
pub mod write;

pub use arguments::{Arguments, Mode, Notify, Signal, TOKEN_FOLDER, VOLUME};
pub use run::{Error, run};

/// Folder of the volume that containers mount.
pub const FILES: &str = "files";
/// File of the volume that environment variables come from.
pub const VARIABLES: &str = "env/variables";
