//! What one intake process takes at most (W-15, W-16). Defaults fit a pod of half a gigabyte.

use std::time::Duration;

/// Bounds of listener and pipeline. Per-Webhook limits (`limits.body`) come from the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// Header fields of one request.
    pub header_fields: usize,
    /// Bytes of one request's head.
    pub header_bytes: usize,
    /// From the first byte of a head to its end; on a new connection, from the end of the handshake.
    pub head_timeout: Duration,
    /// TLS handshake.
    pub handshake_timeout: Duration,
    /// A kept-alive connection without a request.
    pub idle_timeout: Duration,
    /// What a body may take before its rate is looked at.
    pub body_grace: Duration,
    /// Bytes per second below which a body is given up after the grace.
    pub body_min_rate: usize,
    /// No body may take longer, however fast it is.
    pub body_timeout: Duration,
    /// Bytes of bodies in memory at one time, over all connections.
    pub body_budget: usize,
    /// After a refusal with an unread body: bytes that are read and thrown away before the connection is closed, so
    /// that the answer is not lost to a TCP reset.
    pub linger_bytes: u64,
    /// The longest a lingering close takes.
    pub linger_timeout: Duration,
    /// A lingering close ends when the client is silent for so long.
    pub linger_idle: Duration,
    /// HTTP/2 streams at one time on one connection.
    pub h2_streams: u32,
    /// HTTP/2 streams that a client may reset before they are looked at (CVE-2023-44487).
    pub h2_pending_resets: usize,
    /// After the shutdown signal: how long requests in flight may take to finish.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_fields: 100,
            header_bytes: 32 * 1024,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_grace: Duration::from_secs(10),
            body_min_rate: 8 * 1024,
            body_timeout: Duration::from_mins(2),
            body_budget: 256 * 1024 * 1024,
            linger_bytes: 64 * 1024 * 1024,
            linger_timeout: Duration::from_secs(10),
            linger_idle: Duration::from_secs(2),
            h2_streams: 128,
            h2_pending_resets: 20,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
