use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use zen_model::Event;
use zen_seal::{Aad, Keyring};

/// Arbitrary bytes as a stored record: nothing that was not sealed here may open.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn record(data: &[u8]) {
    static KEYS: OnceLock<Keyring> = OnceLock::new();
    let keys = KEYS.get_or_init(Keyring::ephemeral);
    let aad = Aad::new("event", &[b"team-a", b"github", b"1"]);
    assert!(keys.open(&aad, data.to_vec()).is_err(), "a forged record opened");
    let sealed = keys.seal(&aad, data);
    assert_eq!(keys.open(&aad, sealed).ok().as_deref(), Some(data));
    if let Ok(event) = Event::decode(Bytes::copy_from_slice(data)) {
        let _ = (event.webhook_key(), event.timestamp().to_string());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = zen_seal::parse_ring(text);
    }
}
