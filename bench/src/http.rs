//! The least HTTP/1.1 that a load generator and a target need, so that most of a run's time is the measured program's.

use anyhow::{Context, bail};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A buffered connection that yields one message head and body after another.
pub struct Messages<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Bytes of the message that was handed out last.
    consumed: usize,
}

impl<S: AsyncRead + Unpin> Messages<S> {
    /// Around a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(128 * 1024), consumed: 0 }
    }

    /// The stream, to write to.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next message's head, complete with its body read; none at the end of the connection.
    pub async fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { bail!("the connection ended inside a head") };
            }
        };
        let length = match header(&self.buffer[..head], b"content-length") {
            Some(value) => std::str::from_utf8(value)?.trim().parse().context("failed to parse content-length")?,
            None => 0,
        };
        while self.buffer.len() < head + length {
            if self.fill().await? == 0 {
                bail!("the connection ended inside a body");
            }
        }
        self.consumed = head + length;
        Ok(Some(&self.buffer[..head]))
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// The value of a header in a message head; `name` in lower case.
pub fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        found.eq_ignore_ascii_case(name).then(|| value[1..].trim_ascii())
    })
}

/// The status code of a response head.
pub fn status(head: &[u8]) -> anyhow::Result<u16> {
    let code = head.get(9..12).context("failed to find a status")?;
    Ok(std::str::from_utf8(code)?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_cut_at_their_lengths() {
        let bytes: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n";
        let mut messages = Messages::new(bytes);
        assert_eq!(status(messages.next().await.expect("reads").expect("first")).expect("status"), 202);
        assert_eq!(status(messages.next().await.expect("reads").expect("second")).expect("status"), 204);
        assert!(messages.next().await.expect("reads").is_none());
    }
}
