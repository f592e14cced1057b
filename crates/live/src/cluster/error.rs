//! Why a cluster's objects cannot be followed at all, as opposed to what is wrong with one of them.

/// The cluster cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made from its configuration.
    #[error("failed to make a client of the API server")]
    Client(#[from] kube::Error),
    /// The name to verify in the API server's certificate is none.
    #[error("failed to make a client of the API server: {0:?} is no server name")]
    ServerName(String),
    /// The task that compiles ended.
    #[error("failed to compile the configuration: its task ended")]
    Ended,
}
