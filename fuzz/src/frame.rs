use bytes::Bytes;
use prost::Message;
use zen_link::frame::{FromEgress, FromIngester};
use zen_model::Event;

/// Arbitrary bytes as frames of the link, in both directions.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn frame(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(frame) = FromEgress::decode(bytes.clone()) {
        assert_eq!(FromEgress::decode(frame.encode_to_vec().as_slice()).as_ref(), Ok(&frame));
        for settled in frame.settled {
            let _ = settled.into_parts();
        }
    }
    if let Ok(frame) = FromIngester::decode(bytes) {
        for lease in frame.leases {
            let _ = Event::decode(lease.record);
            let _ = zen_verify::zen_signature::parse(&lease.signature);
        }
    }
}
