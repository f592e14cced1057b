//! The images that the cluster has: ours, and the one of every pod's sandbox.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Alive and nothing else, with a shell: `/busybox sh -c …`.
pub const PAUSE: &str = "localhost/cluster/pause:1";

/// A row of `images.json`.
#[derive(Deserialize)]
struct Image {
    program: String,
    reference: String,
    binary: PathBuf,
}

/// Name and tag of the image of one of our programs: `zen`, `zen-operator`, `zen-ingester`, `zen-egress`, `zenlock-webhook`, `zen-audit`.
pub fn reference(program: &str) -> Result<String> {
    Ok(find(program)?.reference)
}

/// The program itself on this machine: static, as it is in its image.
pub fn binary(program: &str) -> Result<PathBuf> {
    Ok(find(program)?.binary)
}

fn find(program: &str) -> Result<Image> {
    let default = || crate::root().join("target/images");
    let folder = std::env::var_os("ZEN_IMAGES").map_or_else(default, PathBuf::from);
    let text = std::fs::read(folder.join("images.json"))
        .with_context(|| format!("no images in {}: `cargo xtask images` builds them", folder.display()))?;
    let images: Vec<Image> = serde_json::from_slice(&text).context("failed to read images.json")?;
    images.into_iter().find(|image| image.program == program).with_context(|| format!("there is no image of {program}"))
}
