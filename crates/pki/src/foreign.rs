//! Certificates that somebody else has signed: whether they are what was asked for.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zen_model::Timestamp;

use crate::ca::Signed;
use crate::certificate::{BACKDATED, at, parse};
use crate::csr::{Names, SigningRequest};
use crate::verify::{leaf_names, verify_as_peer};
use crate::{Error, TrustRoots, Validity};

impl SigningRequest {
    /// Judges the chain (PEM, leaf first) that another issuer made for this request. An issuer has the last word about what it
    /// signs, so that everything counts: the key is this request's, the names are exactly `due`, it is no CA, it lives no longer
    /// than `lifetime`, and peers with these roots take it at this time.
    pub fn accept(
        &self,
        chain: &str,
        due: &Names,
        roots: &TrustRoots,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Signed, Error> {
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| unfit(&error.to_string()))?;
        let leaf = certificates.first().ok_or_else(|| unfit("there is none in PEM"))?;
        let (validity, serial) = {
            let parsed = parse(leaf, "the issuer's certificate")?;
            if !self.is_key(parsed.public_key()) {
                return Err(unfit("its key is not the one of the request"));
            }
            if parsed.is_ca() {
                return Err(unfit("it is a CA's"));
            }
            let validity = parsed.validity();
            let validity =
                Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) };
            (validity, parsed.raw_serial_as_string().replace(':', ""))
        };
        if leaf_names(leaf).as_ref() != Some(due) {
            return Err(unfit("its names are not exactly the ones that were asked for"));
        }
        // Issuers backdate as we do.
        if validity.until > now.plus(lifetime).plus(BACKDATED) {
            return Err(unfit(&format!("it is good until {}, longer than was asked for", validity.until)));
        }
        verify_as_peer(&certificates, roots, now)?;
        Ok(Signed { chain_pem: chain.to_owned(), validity, serial })
    }
}

fn unfit(reason: &str) -> Error {
    Error::Malformed { what: "the issuer's certificate".to_owned(), reason: reason.to_owned() }
}
