use tokio::sync::watch;

/// Holds others back until it is opened; stays open. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through, from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns when the gate is open.
    pub async fn passed(&self) {
        // The sender lives in self: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
