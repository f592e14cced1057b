//! The accepted event as one record: what the queue seals, the link carries and the egress delivers, byte for byte the
//! same, so that nothing is encoded twice.

use bytes::Bytes;
use prost::Message;

use crate::{EventId, ObjectKey, Timestamp};

/// An accepted webhook: a `CloudEvent` 1.0 and what delivery needs beside it.
///
/// Encoded with protocol buffers; field numbers are for ever, a new field gets a new number and an old reader skips it.
/// `Debug` names no body and no header value.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Event {
    /// CloudEvents `id`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Namespace of the Webhook that took it, which is the tenant.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Name of the Webhook that took it.
    #[prost(string, tag = "3")]
    pub webhook: String,
    /// CloudEvents `type`.
    #[prost(string, tag = "4")]
    pub r#type: String,
    /// CloudEvents `source`.
    #[prost(string, tag = "5")]
    pub source: String,
    /// When intake accepted it, milliseconds since the Unix epoch; CloudEvents `time`.
    #[prost(uint64, tag = "6")]
    pub time: u64,
    /// `Content-Type` as received; empty when there was none.
    #[prost(string, tag = "7")]
    pub content_type: String,
    /// Correlation id from source to target (`X-Request-Id`).
    #[prost(string, tag = "8")]
    pub request_id: String,
    /// W3C `traceparent` as received; empty when there was none.
    #[prost(string, tag = "9")]
    pub traceparent: String,
    /// Received headers that a Destination of the matching routes may forward, in order, names in lower case.
    #[prost(message, repeated, tag = "10")]
    pub headers: Vec<Header>,
    /// SHA-256 of `body`, 32 bytes.
    #[prost(bytes = "bytes", tag = "11")]
    pub content_hash: Bytes,
    /// Extension attributes of a `CloudEvent` that arrived as one.
    #[prost(message, repeated, tag = "12")]
    pub extensions: Vec<Header>,
    /// The body, byte for byte as received. Last, so that a reader can find it without copying.
    #[prost(bytes = "bytes", tag = "15")]
    pub body: Bytes,
}

/// One header or attribute: a name in lower case and its bytes.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct Header {
    /// The name in lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value as received.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Event {
    /// The Webhook that took it.
    pub fn webhook_key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.as_str(), self.webhook.as_str())
    }

    /// CloudEvents `id` as an identifier.
    pub fn event_id(&self) -> EventId {
        EventId::from(self.id.as_str())
    }

    /// CloudEvents `time`.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp(self.time)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("webhook", &format_args!("{}/{}", self.namespace, self.webhook))
            .field("type", &self.r#type)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: [{} bytes]", self.name, self.value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_not_copied_when_a_record_is_read() {
        let header = Header { name: "x-a".into(), value: Bytes::from_static(b"b") };
        let (headers, extensions) = (vec![header.clone()], vec![header]);
        let event =
            Event { id: "1".into(), headers, extensions, body: Bytes::from_static(b"payload"), ..Event::default() };
        let record = Bytes::from(event.encode_to_vec());
        assert!(record.ends_with(b"payload"), "the queue cuts it off there");
        let read = Event::decode(record.clone()).expect("decodes");
        assert_eq!(read, event);
        let range = record.as_ptr() as usize..record.as_ptr() as usize + record.len();
        assert!(range.contains(&(read.body.as_ptr() as usize)), "the body must point into the record");
    }

    #[test]
    fn debug_shows_no_payload() {
        let event = Event {
            body: Bytes::from_static(b"MARKER"),
            headers: vec![Header { name: "x".into(), value: Bytes::from_static(b"MARKER") }],
            ..Event::default()
        };
        assert!(!format!("{event:?} {:?}", event.headers).contains("MARKER"));
    }
}
