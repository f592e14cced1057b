//! How a member's egress proves its cluster's key (T-06): an HMAC over what only the two ends of one TLS session know, so
//! that a proof that somebody else has seen is worth nothing.
//!
//! `k=<key id>,s=<base64url HMAC-SHA256>` over `zen-hello-1\n<instance>\n<exporter, hex>`. The exporter has a fixed length
//! and comes last: no two instances give one text. No signature of a lease begins like it.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zen_model::Secret;
use zen_pki::{SpiffeId, peer_id};

use crate::Error;

const LABEL: &[u8] = b"EXPORTER-zen-link-1";
const LENGTH: usize = 32;

/// Keying material of one TLS session (RFC 8446, 7.5), alike on both ends and in no other session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Binding([u8; LENGTH]);

impl Binding {
    /// Of a session whose handshake is complete.
    fn of<D>(connection: &rustls::ConnectionCommon<D>) -> Result<Self, rustls::Error> {
        connection.export_keying_material([0; LENGTH], LABEL, None).map(Self)
    }

    /// For tests of those who judge.
    pub const fn new(exported: [u8; LENGTH]) -> Self {
        Self(exported)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding")
    }
}

/// What a handshake has shown of the peer.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Who it is.
    pub peer: SpiffeId,
    /// In which session.
    pub binding: Binding,
}

/// What a complete handshake has shown.
pub(crate) fn presented<D>(connection: &rustls::ConnectionCommon<D>) -> Result<Presented, Error> {
    let peer = peer_id(connection.peer_certificates())?;
    let binding = Binding::of(connection).map_err(|error| Error::Tls(error.to_string()))?;
    Ok(Presented { peer, binding })
}

/// The proof with this key.
pub fn prove(key_id: &str, key: &Secret, instance: &str, binding: &Binding) -> String {
    let mac = hmac::sign(&hmac_key(key), &signed(instance, binding));
    format!("k={key_id},s={}", URL_SAFE_NO_PAD.encode(mac))
}

/// A proof as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// Which key it names.
    pub key_id: &'a str,
    mac: [u8; 32],
}

impl<'a> Proof<'a> {
    /// None for a text of another form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (key_id, sent) = text.strip_prefix("k=")?.split_once(",s=")?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=32).contains(&key_id.len()) || !key_id.bytes().all(known) || sent.len() != 43 {
            return None;
        }
        let mut mac = [0; 32];
        (URL_SAFE_NO_PAD.decode_slice(sent, &mut mac) == Ok(32)).then_some(Self { key_id, mac })
    }

    /// Whether it was made with this key, by this process, for this session.
    pub fn verifies(&self, key: &Secret, instance: &str, binding: &Binding) -> bool {
        hmac::verify(&hmac_key(key), &signed(instance, binding), &self.mac).is_ok()
    }
}

fn signed(instance: &str, binding: &Binding) -> Vec<u8> {
    format!("zen-hello-1\n{instance}\n{}", hex::encode(binding.0)).into_bytes()
}

fn hmac_key(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_key_process_and_session() {
        let (key, other) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let (here, elsewhere) = (Binding::new([1; 32]), Binding::new([2; 32]));
        let text = prove("0011223344556677-3", &key, "egress-0", &here);
        let proof = Proof::parse(&text).expect("of the form");
        assert_eq!(proof.key_id, "0011223344556677-3");
        assert!(proof.verifies(&key, "egress-0", &here));
        assert!(!proof.verifies(&other, "egress-0", &here));
        assert!(!proof.verifies(&key, "egress-1", &here));
        assert!(!proof.verifies(&key, "egress-0", &elsewhere), "replayed from another session");
        assert!(!proof.verifies(&key, "egress-0\n", &here));
    }

    #[test]
    fn nothing_else_is_a_proof() {
        let good = prove("a-1", &Secret::new([7; 32]), "e", &Binding::new([1; 32]));
        assert!(Proof::parse(&good).is_some());
        for bad in
            ["", "k=,s=", &good.replace("k=a-1", "k="), &good.replace("a-1", "a 1"), &format!("{good}="), &good[1..]]
        {
            assert_eq!(Proof::parse(bad), None, "{bad}");
        }
        assert_eq!(Proof::parse(&good.replace("a-1", &"a".repeat(33))), None);
    }
}
