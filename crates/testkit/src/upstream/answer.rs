use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use crate::Gate;

/// What the target does with one request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) gate: Option<Gate>,
    pub(super) manner: Manner,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Bytes(Bytes),
    /// So many bytes of `x`, with their `Content-Length`.
    Huge(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Manner {
    Whole,
    /// No byte, ever; the connection stays open.
    Silence,
    /// Ends the connection with a FIN and no byte.
    Close,
    /// Whole, then the connection ends without having said so.
    ThenClose,
    /// The head, then the connection ends.
    HeadOnly,
    /// So many bytes of the answer, then a TCP reset.
    ResetAfter(usize),
    /// So many bytes of the answer, then nothing more; the connection stays open.
    StallAfter(usize),
    /// One byte each time this passes on tokio's clock.
    Trickle(Duration),
    /// These bytes instead of an HTTP answer.
    Garbage(Bytes),
}

impl Answer {
    /// This status without a body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Bytes::new()), gate: None, manner: Manner::Whole }
    }

    /// Takes the request and never answers.
    pub fn never() -> Self {
        Self::status(200).manner(Manner::Silence)
    }

    /// Takes the request and closes the connection.
    pub fn close() -> Self {
        Self::status(200).manner(Manner::Close)
    }

    /// Takes the request and resets the connection.
    pub fn reset() -> Self {
        Self::status(200).reset_after(0)
    }

    /// Takes the request and answers with these bytes.
    pub fn garbage(bytes: impl Into<Bytes>) -> Self {
        Self::status(200).manner(Manner::Garbage(bytes.into()))
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Bytes(body.into());
        self
    }

    /// With a body of so many bytes, which are made as they are sent.
    #[must_use]
    pub fn huge_body(mut self, bytes: u64) -> Self {
        self.body = Body::Huge(bytes);
        self
    }

    /// Only once this gate is open.
    #[must_use]
    pub fn when(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Closes the connection after the answer, without `Connection: close`.
    #[must_use]
    pub fn then_close(self) -> Self {
        self.manner(Manner::ThenClose)
    }

    /// Closes the connection after the answer's head.
    #[must_use]
    pub fn head_only(self) -> Self {
        self.manner(Manner::HeadOnly)
    }

    /// Resets the connection after so many bytes of the answer.
    #[must_use]
    pub fn reset_after(self, bytes: usize) -> Self {
        self.manner(Manner::ResetAfter(bytes))
    }

    /// Sends so many bytes of the answer and then nothing more.
    #[must_use]
    pub fn stall_after(self, bytes: usize) -> Self {
        self.manner(Manner::StallAfter(bytes))
    }

    /// Sends one byte each time this passes on tokio's clock.
    #[must_use]
    pub fn trickle(self, every: Duration) -> Self {
        self.manner(Manner::Trickle(every))
    }

    fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let length = match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Huge(bytes) => *bytes,
        };
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        // 1xx, 204 and 304 carry no body and so no length.
        if self.status >= 200 && self.status != 204 && self.status != 304 {
            let _ = write!(head, "content-length: {length}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}
