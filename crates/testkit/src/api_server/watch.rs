use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};

/// What a watch says. Each event is given once, to the connection that asks first; [`Watch::end`] ends a connection.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Lines to send; none ends the connection.
    lines: std::collections::VecDeque<Option<String>>,
    wakers: Vec<Waker>,
}

#[allow(clippy::needless_pass_by_value, reason = "a test writes the object down where it tells it")]
impl Watch {
    /// An object appeared.
    pub fn added(&self, object: Value) {
        self.event("ADDED", &object);
    }

    /// An object changed.
    pub fn modified(&self, object: Value) {
        self.event("MODIFIED", &object);
    }

    /// An object is gone.
    pub fn deleted(&self, object: Value) {
        self.event("DELETED", &object);
    }

    /// Nothing changed up to this resource version.
    pub fn bookmark(&self, kind: &str, api_version: &str, version: &str) {
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": version}});
        self.event("BOOKMARK", &object);
    }

    /// 410: the resource version is too old, everything has to be listed again. Ends the connection.
    pub fn expired(&self) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": 410, "reason": "Expired", "message": "too old resource version",
        });
        self.event("ERROR", &status);
        self.end();
    }

    /// Ends the connection, as an API server does every few minutes.
    pub fn end(&self) {
        self.push(None);
    }

    /// A line of the test's choice, for what no API server should say.
    pub fn raw(&self, line: &str) {
        self.push(Some(format!("{line}\n")));
    }

    fn event(&self, r#type: &str, object: &Value) {
        self.raw(&json!({"type": r#type, "object": object}).to_string());
    }

    fn push(&self, line: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.push_back(line);
        state.wakers.drain(..).for_each(Waker::wake);
    }

    pub(super) fn stream(&self) -> Connection {
        Connection(self.clone())
    }
}

/// One connection of a watch.
pub(super) struct Connection(Watch);

impl Body for Connection {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.lines.pop_front() {
            Some(Some(line)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(line))))),
            Some(None) => Poll::Ready(None),
            None => {
                state.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
