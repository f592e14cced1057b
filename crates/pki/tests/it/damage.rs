//! Certificates are bytes from outside: reading them never panics.

use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use zen_pki::peer_id;

use crate::support::{HOUR, ca, id};

proptest! {
    #[test]
    fn arbitrary_certificates_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(peer_id(Some(&[CertificateDer::from(bytes)])).is_err());
    }

    /// A good certificate with bytes changed gives a well-formed id or none; the signature over it is not
    /// looked at here.
    #[test]
    fn damaged_certificates_never_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let certificate = ca().issue_workload(&id("egress"), HOUR).expect("issued");
        let mut bytes = certificate.chain()[0].to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(id) = peer_id(Some(&[CertificateDer::from(bytes)])) {
            prop_assert!(id.as_str().starts_with("spiffe://") && !id.path().is_empty());
        }
    }
}
