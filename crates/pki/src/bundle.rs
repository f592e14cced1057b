//! Trust bundles as text: the roots, and issuing CAs of somebody else that are trusted themselves for the hub's workloads.
//!
//! The latter are PEM blocks with a label of their own, so that whoever reads a bundle for its roots alone (an API server, a
//! webhook source) does not see them, and whoever does cannot take them for roots.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::{Error, Scope, TrustRoots};

const LABEL: &str = "CERTIFICATE";
const ISSUER: &str = "ZEN MESH HUB ISSUER";

/// A bundle of these roots, with these issuing CAs (PEM, at least one) in place of those beneath the roots for the hub's
/// workloads. Fails for what is no certificate of a CA.
pub fn with_hub_issuers(roots: &str, issuers: &str) -> Result<String, Error> {
    let parsed = CertificateDer::pem_slice_iter(issuers.as_bytes()).collect::<Result<Vec<_>, _>>();
    let parsed = parsed.map_err(|error| malformed(&error.to_string()))?;
    if parsed.is_empty() {
        return Err(malformed("it holds no certificate"));
    }
    TrustRoots::from_pem(roots)?.pin(Scope::Hub, &parsed)?;
    let mut bundle = roots.trim_end().to_owned();
    for block in blocks(issuers, LABEL) {
        let block = block.trim();
        for part in ["\n-----BEGIN ", ISSUER, "-----\n", block, "\n-----END ", ISSUER, "-----"] {
            bundle.push_str(part);
        }
    }
    bundle.push('\n');
    Ok(bundle)
}

/// The issuing CAs of a bundle.
pub(crate) fn hub_issuers(bundle: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = |block: &str| {
        let pem = format!("-----BEGIN {LABEL}-----{block}-----END {LABEL}-----\n");
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed(&error.to_string()))
    };
    blocks(bundle, ISSUER).map(read).collect()
}

/// What stands between the lines of a label; of a block without an end, everything.
fn blocks<'a>(text: &'a str, label: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&begin)?;
        let (block, after) = after.split_once(&end).unwrap_or((after, ""));
        rest = after;
        Some(block)
    })
}

fn malformed(reason: &str) -> Error {
    Error::Malformed { what: "the issuing CA of another issuer".to_owned(), reason: reason.to_owned() }
}
