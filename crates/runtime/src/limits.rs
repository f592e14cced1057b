//! Limits that the system sets to a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a busy mesh runs out of descriptors: each connection of a source and of a target takes one.
const ENOUGH_FILES: u64 = 4096;

/// Raises the limit of open files to what the process may have, and warns where that is little.
///
/// Shells and service managers start programs with a soft limit of 1024 or less for the sake of `select(2)`, which nothing
/// here uses; the hard limit is meant to be taken by programs that know.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let mut files = limit.current;
    if limit.current != limit.maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
            Ok(()) => files = limit.maximum,
            Err(error) => tracing::debug!(%error, "failed to raise the limit of open files"),
        }
    }
    match files {
        Some(files) if files < ENOUGH_FILES => {
            tracing::warn!(files, enough = ENOUGH_FILES, "few files may be open at once; raise the limit (ulimit -Hn)");
        }
        _ => tracing::debug!(files, "limit of open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
