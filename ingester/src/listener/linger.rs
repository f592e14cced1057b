//! The lingering close: a server that closes a socket with unread bytes in it makes the kernel send a reset, and the
//! client may lose an answer that it has not read yet (RFC 9112, section 9.6). So: answer, end our side, throw away what
//! still comes for a bounded time, then close.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::stream::Stream;
use crate::limits::Limits;

/// Ends our side of the connection and reads on until the client is done, silent, or over the bounds.
pub(super) async fn close(mut stream: Stream, limits: &Limits) {
    let deadline = Instant::now() + limits.linger_timeout;
    if !matches!(timeout_at(deadline, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    let socket = stream.socket();
    let mut waste = vec![0; 16 * 1024];
    let mut left = limits.linger_bytes;
    while left > 0 {
        let silent = deadline.min(Instant::now() + limits.linger_idle);
        match timeout_at(silent, socket.read(&mut waste)).await {
            Ok(Ok(read)) if read > 0 => left = left.saturating_sub(read as u64),
            _ => return,
        }
    }
}
