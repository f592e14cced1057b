//! What keeps keys and plaintext in memory from getting anywhere else (Z-08).

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, no debugger of the same user, and no swap where the system allows it. Call it before anything secret is
/// read.
pub fn protect() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "failed to switch core dumps off");
    }
    // Also what keeps containers that share this one's process namespace from reading its memory.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "failed to shut debuggers out");
    }
    // With a limit, memory that is locked beyond it would be memory that is refused.
    if getrlimit(Resource::Memlock).current.is_some() {
        tracing::debug!("memory is not locked: the limit of locked memory is not unlimited");
        return;
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => tracing::debug!("memory is locked"),
        Err(error) => tracing::warn!(%error, "memory is not locked"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn nothing_is_dumped() {
        protect();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert!(matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable)));
    }
}
