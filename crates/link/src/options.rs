//! Limits and timings of a session.

use std::time::Duration;

/// Limits and timings. The defaults notice a dead peer within 15 s and bound what waits for a slow one at some
/// 20 MiB on either end.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the TLS session until Hello and Welcome are exchanged.
    pub greeting_timeout: Duration,
    /// An HTTP/2 ping is sent when nothing was heard for so long …
    pub keep_alive: Duration,
    /// … and the session ends when no answer comes for so long.
    pub keep_alive_timeout: Duration,
    /// Bytes that a peer may send before we have read them, for the stream and the connection.
    pub window: u32,
    /// Frames that wait in the sender before it makes its caller wait.
    pub queue: usize,
    /// Largest frame sent. A frame exceeds about 1 MiB only by one record that is itself larger.
    pub max_frame: usize,
    /// Largest frame taken.
    pub max_received: usize,
    /// Sessions and handshakes that a listener has at one time; more wait to be accepted.
    pub max_sessions: usize,
    /// First and longest pause between attempts to connect.
    pub backoff: (Duration, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            greeting_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(10),
            window: 16 << 20,
            queue: 4,
            max_frame: 64 << 20,
            max_received: 64 << 20,
            max_sessions: 256,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }
}
