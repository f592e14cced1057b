use std::sync::mpsc;
use std::time::Duration;

/// Tokio's clock, standing still until [`FrozenClock::advance`].
///
/// A paused clock of tokio jumps to the next timer whenever every task waits, also while bytes are on their way through
/// the kernel; with real sockets that makes timeouts fire at random. It does not jump while a blocking task runs, so this
/// keeps one for as long as it lives. Needs a current-thread runtime.
#[derive(Debug)]
pub struct FrozenClock {
    _release: mpsc::Sender<()>,
}

impl FrozenClock {
    /// Stops the clock.
    pub fn new() -> Self {
        let (release, released) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = released.recv();
        });
        tokio::time::pause();
        Self { _release: release }
    }

    /// Moves the clock on; every timer that is then due fires. What is on its way when this is called, arrives before.
    pub async fn advance(&self, by: Duration) {
        settle().await;
        tokio::time::advance(by).await;
        settle().await;
    }
}

impl Default for FrozenClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets every task run, and the runtime look at its sockets, until what was under way has arrived: a task that yields goes on
/// only after the others, and after a look at the sockets when nobody else can run.
async fn settle() {
    for _ in 0..16 {
        let _ = tokio::task::spawn_blocking(|| ()).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}
