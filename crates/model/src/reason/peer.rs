use super::{Area, Row};

/// Why a handshake among our own parts fails: what is wrong with the peer's certificate (D-03, T-02). Nobody is answered with
/// these; they stand in logs, metrics and audit entries of the side that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerReason {
    /// The peer presented nothing.
    CertificateMissing,
    /// What it presented is no readable certificate.
    CertificateUnreadable,
    /// Not exactly one name, a URI.
    CertificateNames,
    /// The name is no SPIFFE id.
    IdInvalid,
    /// A CA, a key that may sign certificates, an id of no workload.
    CertificateNotWorkload,
    /// A good certificate of somebody who has no reason to be here.
    PeerNotAllowed,
    /// The leaf comes without its issuing CA, as one that a root signed.
    IssuerMissing,
    /// The issuing CA vouches for another cluster, tenant or trust domain.
    IssuerForeign,
    /// What signed the leaf is no issuing CA.
    IssuerUnfit,
    /// No root that is trusted here stands above the issuing CA.
    IssuerUnknown,
    /// More certificates than any chain of a mesh has.
    ChainTooLong,
    /// The leaf, or a CA above it, has ended.
    CertificateExpired,
    /// The leaf, or a CA above it, is of the future.
    CertificateNotYetValid,
    /// Not for this end of a connection.
    CertificatePurpose,
    /// A signature in the chain is wrong.
    SignatureWrong,
    /// Anything else that path validation refuses.
    ChainInvalid,
}

impl PeerReason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::CertificateMissing,
        Self::CertificateUnreadable,
        Self::CertificateNames,
        Self::IdInvalid,
        Self::CertificateNotWorkload,
        Self::PeerNotAllowed,
        Self::IssuerMissing,
        Self::IssuerForeign,
        Self::IssuerUnfit,
        Self::IssuerUnknown,
        Self::ChainTooLong,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificatePurpose,
        Self::SignatureWrong,
        Self::ChainInvalid,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::CertificateMissing => (
                "CertificateMissing",
                "The peer presented no certificate.",
                "Look at who connects: only parts of the mesh have a reason to.",
            ),
            Self::CertificateUnreadable => (
                "CertificateUnreadable",
                "The peer's certificate cannot be read.",
                "Look at what issues the peer's certificates.",
            ),
            Self::CertificateNames => (
                "CertificateNames",
                "The peer's certificate has other names than one URI.",
                "A workload's certificate has its SPIFFE id as its only alternative name; an issuer must add none.",
            ),
            Self::IdInvalid => (
                "IdInvalid",
                "The URI in the peer's certificate is no SPIFFE id.",
                "Look at what issues the peer's certificates.",
            ),
            Self::CertificateNotWorkload => (
                "CertificateNotWorkload",
                "The peer's certificate is not a workload's: it is a CA's, its key may sign certificates, or its id names no workload.",
                "Look at what issues the peer's certificates.",
            ),
            Self::PeerNotAllowed => (
                "PeerNotAllowed",
                "The peer is who it says, and has no reason to connect here.",
                "Look at who connects: docs/trust.md says who may do what.",
            ),
            Self::IssuerMissing => (
                "IssuerMissing",
                "The peer's certificate comes without the issuing CA that signed it.",
                "A root signs no workloads; the peer's chain must hold the leaf and its issuing CA.",
            ),
            Self::IssuerForeign => (
                "IssuerForeign",
                "The peer's certificate was signed by an issuing CA that does not vouch for its id.",
                "Each cluster of each tenant has its own issuing CA. If nobody made a mistake, look into that cluster: its CA was misused.",
            ),
            Self::IssuerUnfit => (
                "IssuerUnfit",
                "What signed the peer's certificate is no issuing CA of a mesh.",
                "An issuing CA may sign certificates and has path length 0; no other stands above it.",
            ),
            Self::IssuerUnknown => (
                "IssuerUnknown",
                "No root that is trusted here stands above the peer's certificate.",
                "While roots are exchanged, both sides must have the old and the new one; compare the ConfigMap zen-mesh-trust of both.",
            ),
            Self::ChainTooLong => (
                "ChainTooLong",
                "The peer presented more certificates than any chain of a mesh has.",
                "Let at most three CAs of yours stand above the issuing CA.",
            ),
            Self::CertificateExpired => (
                "CertificateExpired",
                "The peer's certificate, or a CA above it, has ended.",
                "Look at zen_identity_certificate_expiry_seconds of the peer, and at the clocks of both.",
            ),
            Self::CertificateNotYetValid => (
                "CertificateNotYetValid",
                "The peer's certificate, or a CA above it, is of the future.",
                "Compare the clocks of both sides.",
            ),
            Self::CertificatePurpose => (
                "CertificatePurpose",
                "The peer's certificate is not for this end of a connection.",
                "A workload's certificate is for servers and clients; a serving certificate is no workload's.",
            ),
            Self::SignatureWrong => (
                "SignatureWrong",
                "A signature in the peer's chain is wrong.",
                "Look at who connects: this happens when somebody has no key, or changes what is on the way.",
            ),
            Self::ChainInvalid => (
                "ChainInvalid",
                "Path validation refuses the peer's chain.",
                "The log says what it says; look at what issues the peer's certificates.",
            ),
        };
        Row { code, area: Area::Handshake, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
