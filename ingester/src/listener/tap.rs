//! Sits between the socket and hyper on an HTTP/1 connection, for four things that hyper does not offer: when bytes
//! came, whether a `Content-Length` stood beside `Transfer-Encoding` (hyper drops it before we could see it), a refusal
//! with code and message where hyper answers a malformed head with an empty one, and the socket back at the end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zen_model::Refusal;

use super::Wire;
use super::scan::Scan;
use super::stream::Stream;
use crate::core::Core;
use crate::pipeline::answer;

/// Where the socket lies after hyper has dropped its connection.
pub(super) type Slot = Arc<Mutex<Option<Stream>>>;

pub(super) struct Tap {
    stream: Option<Stream>,
    slot: Slot,
    core: Arc<Core>,
    wire: Arc<Wire>,
    http1: bool,
    scan: Scan,
    /// Bytes of a rewritten answer that are still to be written.
    pending: Vec<u8>,
}

impl Tap {
    pub(super) fn new(stream: Stream, core: Arc<Core>, wire: Arc<Wire>, http1: bool) -> (Self, Slot) {
        let slot = Slot::default();
        let tap = Self {
            stream: Some(stream),
            slot: Arc::clone(&slot),
            core,
            wire,
            http1,
            scan: Scan::default(),
            pending: Vec::new(),
        };
        (tap, slot)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn look(&mut self, bytes: &[u8]) {
        self.wire.received();
        if !self.http1 || self.wire.content_length_seen() {
            return;
        }
        if self.scan.finds(bytes) {
            self.wire.see_content_length();
        }
    }

    /// Takes an answer that hyper made by itself, and leaves ours in its place.
    fn rewrite(&mut self, bytes: &[u8]) -> bool {
        let Some(reason) = bare_refusal(bytes) else { return false };
        let request_id = answer::generate_request_id();
        self.pending = answer::raw(reason, &request_id);
        self.wire.linger();
        self.core.refused(None, reason);
        true
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Ok(())) };
            let written = ready!(Pin::new(stream).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether this is an answer of hyper's own: a client error without the request id that all of ours carry.
fn bare_refusal(bytes: &[u8]) -> Option<Refusal> {
    let status = bytes.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let reason = match status {
        b"400" | b"414" => Refusal::BadRequest,
        b"431" => Refusal::HeadersTooLarge,
        _ => return None,
    };
    memchr::memmem::find(bytes, b"x-request-id").is_none().then_some(reason)
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(this.stream()?.poll_read(cx, buffer))?;
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            this.look(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        if this.http1 && this.rewrite(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        this.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        this.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        this.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        if this.http1
            && let [only] = slices
            && this.rewrite(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        this.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_without_our_request_id_are_rewritten() {
        assert_eq!(bare_refusal(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Some(Refusal::BadRequest));
        assert_eq!(bare_refusal(b"HTTP/1.1 431 \r\n\r\n"), Some(Refusal::HeadersTooLarge));
        assert_eq!(bare_refusal(b"HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\n\r\n"), None);
        assert_eq!(bare_refusal(b"HTTP/1.1 202 Accepted\r\n\r\n"), None);
        assert_eq!(bare_refusal(b"HTTP/1"), None);
    }
}
