//! SIGTERM and SIGINT begin the end of the process; a second one ends it at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal: work was cut off, the durable queue has what was acknowledged.
const CUT_OFF: i32 = 130;

/// The wish to end, shared by every part of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// One that only [`Shutdown::begin`] sets off, for tests and for parts of a process.
    pub fn manual() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT set off. A second signal exits the process with 130 without waiting.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::manual();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let begin = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
            begin.begin();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(CUT_OFF);
        });
        Ok(shutdown)
    }

    /// Sets it off.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it was set off.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is set off.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// For parts that take a token of their own. Cancelling it sets off the whole.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A token that ends with this one and can be cancelled alone.
    pub fn child(&self) -> CancellationToken {
        self.token.child_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn children_end_with_the_whole_and_not_the_other_way_round() {
        let shutdown = Shutdown::manual();
        let child = shutdown.child();
        let other = shutdown.child();
        other.cancel();
        assert!(!shutdown.has_begun());
        shutdown.begin();
        shutdown.begun().await;
        assert!(child.is_cancelled());
    }
}
