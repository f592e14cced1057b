use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// One request, as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Number of the TCP connection that it came on, from 1.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// Headers in order, names as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, any chunking removed.
    pub body: Bytes,
}

impl Received {
    /// The first header of this name, whatever its case, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        value.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// How often a header of this name is there.
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name)).count()
    }

    /// Reads the next request; none when the peer is done.
    pub(super) async fn read(
        io: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        connection: usize,
    ) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(at) = find(buffer, b"\r\n\r\n") {
                break at;
            }
            if io.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = buffer.split_to(end + 4);
        let mut lines = head[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<_> = lines.filter_map(header).collect();
        let mut request = Self { connection, method, target, headers, body: Bytes::new() };
        request.body = if request.header("transfer-encoding").is_some() {
            read_chunks(io, buffer).await?
        } else {
            let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            take(io, buffer, length).await?
        };
        Ok(Some(request))
    }
}

fn header(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8_lossy(&line[..colon]).into_owned(), line[colon + 1..].trim_ascii().to_vec()))
}

async fn read_chunks(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let at = loop {
            match find(buffer, b"\r\n") {
                Some(at) => break at,
                None if io.read_buf(buffer).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        let line = buffer.split_to(at + 2);
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap_or(0);
        let chunk = take(io, buffer, size + 2).await?;
        if size == 0 {
            return Ok(body.freeze());
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn take(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, length: usize) -> io::Result<Bytes> {
    while buffer.len() < length {
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.split_to(length).freeze())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
