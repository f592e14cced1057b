//! Sources of objects: a directory of manifests, read, watched, compiled and published.

pub mod yaml;
