//! Whether a request to redeem is what the holder of a bundle sent. Nothing of an enrollment is looked at before that is
//! known, so that nobody else learns whether it exists.

use std::fmt;

use zen_model::reason::{EnrollRefusal, Row, TrustRefusal};
use zen_model::{ClusterId, Timestamp};
use zen_pki::{CsrRefused, Scope, SigningRequest, TrustDomain};
use zen_seal::RootKey;

use crate::proof::{Proof, Request};
use crate::redeem::{KEY_ID, MAX_BODY, path};
use crate::secrets::Secrets;
use crate::{Redeem, Stamp};

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The cluster that its path names.
    pub cluster: &'a ClusterId,
    /// Its header [`crate::proof::HEADER`].
    pub proof: &'a str,
    /// Its whole body.
    pub body: &'a [u8],
}

/// A request whose sender holds a bundle of this hub, perhaps one that is void, and the key that it wants an issuing CA for.
#[derive(Clone, Debug)]
pub struct Authentic {
    /// Whose bundle it is.
    pub cluster: ClusterId,
    /// Which bundle.
    pub stamp: Stamp,
    /// To be signed, if it is decided so.
    pub request: SigningRequest,
    /// Its nonce is to be noted: [`crate::Replays`].
    pub proof: Proof,
}

/// Why a request to redeem is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The bundle is at fault, or the request as a whole.
    Enroll(EnrollRefusal),
    /// The signing request is, or what any part of the mesh is refused for.
    Trust(TrustRefusal),
}

impl Refused {
    /// The row of the table of reasons.
    pub const fn row(self) -> Row {
        match self {
            Self::Enroll(reason) => reason.row(),
            Self::Trust(reason) => reason.row(),
        }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// When to ask again, seconds; none: it does not pass by itself.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::Enroll(reason) => reason.retry_after(),
            Self::Trust(reason) => reason.retry_after(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl From<EnrollRefusal> for Refused {
    fn from(reason: EnrollRefusal) -> Self {
        Self::Enroll(reason)
    }
}

impl From<TrustRefusal> for Refused {
    fn from(reason: TrustRefusal) -> Self {
        Self::Trust(reason)
    }
}

impl From<CsrRefused> for Refused {
    fn from(refused: CsrRefused) -> Self {
        Self::Trust(match refused {
            CsrRefused::Malformed(_) => TrustRefusal::CsrMalformed,
            CsrRefused::KeyNotSupported => TrustRefusal::CsrKeyNotSupported,
            CsrRefused::NotProven => TrustRefusal::CsrNotProven,
            CsrRefused::AsksTooMuch => TrustRefusal::CsrAsksTooMuch,
            CsrRefused::NamesDiffer => TrustRefusal::CsrNamesDiffer,
        })
    }
}

/// Reads and proves a request. `branch` is [`crate::secrets::BRANCH`] of the hub's root key.
pub fn authenticate(
    branch: &RootKey,
    domain: &TrustDomain,
    received: &Received<'_>,
    now: Timestamp,
) -> Result<Authentic, Refused> {
    if received.body.len() > MAX_BODY {
        return Err(EnrollRefusal::RequestMalformed.into());
    }
    let proof = Proof::parse(received.proof).map_err(|_| EnrollRefusal::RequestMalformed)?;
    let redeem: Redeem = serde_json::from_slice(received.body).map_err(|_| EnrollRefusal::RequestMalformed)?;
    if proof.key_id() != KEY_ID {
        return Err(EnrollRefusal::RequestMalformed.into());
    }
    if redeem.trust_domain != domain.as_str() {
        return Err(EnrollRefusal::WrongHub.into());
    }
    if redeem.cluster != *received.cluster {
        return Err(EnrollRefusal::WrongCluster.into());
    }
    let secrets = Secrets::derive(branch, &redeem.cluster, &redeem.stamp);
    let path = path(received.cluster);
    let request = Request { method: "POST", path: &path, body: received.body };
    if !proof.proves(&request, &secrets.key) || !secrets.is_credential(&redeem.credential.0) {
        return Err(EnrollRefusal::BundleTampered.into());
    }
    if !proof.is_timely(now) {
        return Err(EnrollRefusal::ClockSkew.into());
    }
    let request = SigningRequest::from_pem(&redeem.csr)?;
    request.check_issuer(domain, &Scope::Cluster(redeem.cluster.clone()))?;
    Ok(Authentic { cluster: redeem.cluster, stamp: redeem.stamp, request, proof })
}
