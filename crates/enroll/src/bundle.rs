//! Bundles.
//!
//! ```text
//! enrollment.json   in clear: hub, trust domain, tenant, cluster, uid, bundle, times
//! enrollment.age    sealed to the member: SHA-256 of every byte of enrollment.json, credential, HMAC key, roots
//! ```
//!
//! A change of any byte of either is seen: age authenticates the one, the digest in it the other. What age does not do is say
//! who sealed: whoever can put a bundle of his own in the place of the whole one enrolls the member with himself. Against that
//! the member is told the fingerprint of the hub's root by another way, and takes no other ([`Bundle::open`]).

mod manifest;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zen_lock::{Keyring, Recipient};
use zen_model::reason::EnrollRefusal;
use zen_model::{ClusterId, Secret, Timestamp};
use zen_pki::TrustDomain;
use zeroize::Zeroizing;

use crate::SecretText;
use crate::proof::SKEW;
use crate::secrets::Secrets;

/// Name of the Secret in the member.
pub const SECRET: &str = "zen-mesh-enrollment";
/// Its type.
pub const SECRET_TYPE: &str = "zen-mesh.io/enrollment";
/// Its keys.
pub const CLEAR: &str = "enrollment.json";
/// See [`CLEAR`].
pub const SEALED: &str = "enrollment.age";
/// Of the form of both parts.
const VERSION: u8 = 1;
/// The clear part is far smaller.
const MAX_CLEAR: usize = 4 << 10;

/// Which bundle of which enrollment: another one as soon as any of these differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// `metadata.uid` of the `ClusterEnrollment`: one that was deleted and made again is another.
    pub uid: String,
    /// The `spec.bundle` that it was made for.
    pub bundle: String,
    /// When; whole seconds, as the enrollment's status has it.
    pub issued_at: Timestamp,
}

/// What everybody may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clear {
    version: u8,
    /// The hub's.
    pub trust_domain: String,
    /// Where the hub is: `https://<host>[:<port>]`.
    pub hub: String,
    tenant: String,
    cluster: String,
    uid: String,
    bundle: String,
    issued_at: Timestamp,
    /// Until when it can be redeemed.
    pub expires_at: Timestamp,
}

/// What only the member may read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Contents {
    version: u8,
    /// SHA-256 of the clear part, hex.
    clear: String,
    credential: SecretText,
    key: SecretText,
    roots: String,
}

/// Both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    clear_text: String,
    clear: Clear,
    sealed: String,
}

/// A bundle that was opened and found whole.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Who the cluster will be.
    pub cluster: ClusterId,
    /// Which bundle it is.
    pub stamp: Stamp,
    /// The rest of the clear part.
    pub clear: Clear,
    /// To redeem it with.
    pub secrets: Secrets,
    /// The hub's root certificates, PEM.
    pub roots: String,
}

/// A bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// An address, an id or a time that no bundle can have.
    #[error("failed to make a bundle: {0}")]
    Unfit(&'static str),
    /// Nothing can be sealed to this key.
    #[error(transparent)]
    Seal(#[from] zen_lock::SealError),
}

/// A bundle is not used. Nothing of it is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not of this form, or of a newer one.
    #[error("the bundle is malformed: {0}")]
    Malformed(&'static str),
    /// Sealed to another key.
    #[error("the bundle is sealed to the key of another cluster")]
    WrongCluster,
    /// Some byte of it is not what the hub wrote.
    #[error("the bundle was changed after it was made")]
    Tampered,
    /// A root that is not the one the member was told to expect.
    #[error("the bundle is of another hub: its root has the fingerprint {found}")]
    WrongHub {
        /// Of its first root that was not expected.
        found: String,
    },
    /// Too late.
    #[error("the bundle ended at {0}; let the hub make another")]
    Expired(Timestamp),
    /// Made in the future, as the member's clock has it.
    #[error("the bundle was made at {0}, later than the clock here says")]
    Future(Timestamp),
}

impl OpenError {
    /// The code of the table of reasons.
    pub const fn reason(&self) -> EnrollRefusal {
        match self {
            Self::Malformed(_) => EnrollRefusal::BundleMalformed,
            Self::WrongCluster => EnrollRefusal::WrongCluster,
            Self::Tampered => EnrollRefusal::BundleTampered,
            Self::WrongHub { .. } => EnrollRefusal::WrongHub,
            Self::Expired(_) => EnrollRefusal::BundleExpired,
            Self::Future(_) => EnrollRefusal::ClockSkew,
        }
    }
}

impl Bundle {
    /// What the hub makes for an enrollment. `hub` is where its members reach it, `roots` what they shall trust, PEM.
    pub fn make(
        cluster: &ClusterId,
        stamp: &Stamp,
        ttl: Duration,
        (trust_domain, hub, roots): (&TrustDomain, &str, &str),
        secrets: &Secrets,
        recipient: &Recipient,
    ) -> Result<Self, MakeError> {
        let clear = Clear {
            version: VERSION,
            trust_domain: trust_domain.to_string(),
            hub: hub.to_owned(),
            tenant: cluster.tenant().to_string(),
            cluster: cluster.cluster().to_string(),
            uid: stamp.uid.clone(),
            bundle: stamp.bundle.clone(),
            issued_at: stamp.issued_at,
            expires_at: stamp.issued_at.plus(ttl),
        };
        clear.check().map_err(MakeError::Unfit)?;
        fingerprints(roots).map_err(MakeError::Unfit)?;
        let unfit = |_| MakeError::Unfit("it cannot be written as JSON");
        let clear_text = serde_json::to_string(&clear).map_err(unfit)?;
        let contents = Contents {
            version: VERSION,
            clear: sha256(clear_text.as_bytes()),
            credential: SecretText(secrets.credential.clone()),
            key: SecretText(secrets.key.clone()),
            roots: roots.to_owned(),
        };
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(roots.len() * 2 + 1024));
        serde_json::to_writer(&mut *plain, &contents).map_err(unfit)?;
        let sealed = zen_lock::seal(&Secret::new(std::mem::take(&mut *plain)), std::slice::from_ref(recipient))?;
        Ok(Self { clear_text, clear, sealed })
    }

    /// From the two values of the Secret. Nothing is opened yet.
    pub fn from_data(clear: &str, sealed: &str) -> Result<Self, OpenError> {
        if clear.len() > MAX_CLEAR {
            return Err(OpenError::Malformed("its clear part is too long"));
        }
        let parsed: Clear =
            serde_json::from_str(clear).map_err(|_| OpenError::Malformed("its clear part is not that of a bundle"))?;
        parsed.check().map_err(OpenError::Malformed)?;
        Ok(Self { clear_text: clear.to_owned(), clear: parsed, sealed: sealed.to_owned() })
    }

    /// What everybody may read. Nobody has vouched for it before it is opened.
    pub fn clear(&self) -> &Clear {
        &self.clear
    }

    /// The values of the Secret: [`CLEAR`], then [`SEALED`].
    pub fn data(&self) -> (&str, &str) {
        (&self.clear_text, &self.sealed)
    }

    /// Opens it with the member's keys. `pins` are fingerprints of roots ([`fingerprint`]) that the member was told to expect;
    /// with any, each of the bundle's roots must be one of them. Without, whoever made the bundle is believed.
    pub fn open(&self, keys: &Keyring, pins: &[String], now: Timestamp) -> Result<Opened, OpenError> {
        let opened = keys.open(&self.sealed).map_err(|error| match error {
            zen_lock::OpenError::UnknownKey => OpenError::WrongCluster,
            zen_lock::OpenError::Corrupt | zen_lock::OpenError::Malformed => OpenError::Tampered,
            zen_lock::OpenError::NotArmored
            | zen_lock::OpenError::NoX25519Recipient
            | zen_lock::OpenError::TooLarge => OpenError::Malformed("its sealed part is not that of a bundle"),
        })?;
        let contents: Contents = serde_json::from_slice(opened.plaintext.expose())
            .map_err(|_| OpenError::Malformed("what is sealed is not a bundle's"))?;
        if contents.version != VERSION {
            return Err(OpenError::Malformed("it is of another release"));
        }
        if contents.clear != sha256(self.clear_text.as_bytes()) {
            return Err(OpenError::Tampered);
        }
        let found = fingerprints(&contents.roots).map_err(OpenError::Malformed)?;
        if let Some(found) = found.into_iter().find(|found| !pins.is_empty() && !pins.contains(found)) {
            return Err(OpenError::WrongHub { found });
        }
        let clear = self.clear.clone();
        if now >= clear.expires_at {
            return Err(OpenError::Expired(clear.expires_at));
        }
        if clear.issued_at > now.plus(SKEW) {
            return Err(OpenError::Future(clear.issued_at));
        }
        Ok(Opened {
            cluster: clear.cluster_id().map_err(OpenError::Malformed)?,
            stamp: clear.stamp(),
            secrets: Secrets { credential: contents.credential.0, key: contents.key.0 },
            roots: contents.roots,
            clear,
        })
    }
}

impl Clear {
    /// Which bundle it says it is.
    pub fn stamp(&self) -> Stamp {
        Stamp { uid: self.uid.clone(), bundle: self.bundle.clone(), issued_at: self.issued_at }
    }

    /// When it was made.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Who the cluster will be.
    fn cluster_id(&self) -> Result<ClusterId, &'static str> {
        ClusterId::new(&self.tenant, &self.cluster).map_err(|_| "it names no cluster")
    }

    /// What it may hold. None of these needs an escape in JSON, in YAML or in a header.
    fn check(&self) -> Result<(), &'static str> {
        if self.version != VERSION {
            return Err("it is of another release");
        }
        self.cluster_id()?;
        self.trust_domain.parse::<TrustDomain>().map_err(|_| "its trust domain is none")?;
        let host = self.hub.strip_prefix("https://").unwrap_or_default();
        let in_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        if host.is_empty() || host.len() > 300 || !host.bytes().all(in_host) {
            return Err("its hub is not https://<host>[:<port>]");
        }
        let token = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            (1..=128).contains(&text.len()) && text.bytes().all(allowed)
        };
        if !token(&self.uid) || !token(&self.bundle) {
            return Err("its id is none");
        }
        let whole = self.issued_at.0.is_multiple_of(1000);
        if whole && self.issued_at < self.expires_at { Ok(()) } else { Err("its times are none") }
    }
}

/// SHA-256 of the first certificate of a PEM text, in DER, as hex: what a member is told to expect of its hub.
pub fn fingerprint(roots: &str) -> Option<String> {
    fingerprints(roots).ok()?.into_iter().next()
}

/// As [`fingerprint`], of each certificate: while a root is exchanged there are two. An error in words for a text that has none.
pub fn fingerprints(roots: &str) -> Result<Vec<String>, &'static str> {
    let certificates = CertificateDer::pem_slice_iter(roots.as_bytes());
    let found: Vec<_> = certificates
        .map(|certificate| certificate.map(|der| sha256(&der)))
        .collect::<Result<_, _>>()
        .map_err(|_| "its roots are not certificates in PEM")?;
    if found.is_empty() { Err("it has no root") } else { Ok(found) }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes).as_ref())
}
