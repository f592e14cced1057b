use super::{Area, Row};

/// Why a `ZenLock` cannot be opened, or not for this subject: of its own conditions, and of the objects that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockReason {
    /// A value that is no armoured age file.
    NotArmored,
    /// An age file that breaks the format.
    BadCiphertext,
    /// An age file that no X25519 key can open.
    NoX25519Recipient,
    /// An age file that none of the mesh's keys opens.
    UnknownKey,
    /// An age file that was changed after it was written.
    CorruptCiphertext,
    /// More than a `ZenLock` may hold.
    TooLarge,
    /// The `ZenLock` does not list who wants it.
    SubjectNotAllowed,
    /// There is no private key to open `ZenLocks` with.
    NoIdentity,
    /// Whoever opens `ZenLocks` in a cluster did not give it.
    UnsealUnavailable,
}

impl LockReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NotArmored,
        Self::BadCiphertext,
        Self::NoX25519Recipient,
        Self::UnknownKey,
        Self::CorruptCiphertext,
        Self::TooLarge,
        Self::SubjectNotAllowed,
        Self::NoIdentity,
        Self::UnsealUnavailable,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::NotArmored => (
                "NotArmored",
                "A value of the ZenLock is not an ASCII-armoured age file.",
                "Encrypt it with zen lock encrypt, or with age --armor.",
            ),
            Self::BadCiphertext => (
                "BadCiphertext",
                "A value of the ZenLock is not a well-formed age file.",
                "Restore it from Git, or encrypt the key again with zen lock encrypt.",
            ),
            Self::NoX25519Recipient => (
                "NoX25519Recipient",
                "A value of the ZenLock is not encrypted to any X25519 public key.",
                "Encrypt it again to the public keys of the cluster (age1…).",
            ),
            Self::UnknownKey => (
                "UnknownKey",
                "None of the private keys at hand opens a value of the ZenLock.",
                "Encrypt it again to the public keys of this cluster, or give the mesh the private key that opens it.",
            ),
            Self::CorruptCiphertext => (
                "CorruptCiphertext",
                "A value of the ZenLock was changed or cut after it was encrypted.",
                "Restore it from Git, or encrypt the key again with zen lock encrypt.",
            ),
            Self::TooLarge => (
                "TooLarge",
                "The ZenLock holds more than it may.",
                "Keep to 64 keys, 1 MiB for each and 1.5 MiB for the object; split what is larger.",
            ),
            Self::SubjectNotAllowed => (
                "SubjectNotAllowed",
                "The ZenLock does not list this subject in allowedSubjects.",
                "Have the ZenLock's owner add the kind and name to its allowedSubjects.",
            ),
            Self::NoIdentity => (
                "NoIdentity",
                "There is no private key to open ZenLocks with.",
                "Under zen up name the file with --identity; in a cluster see the key custody of zenlock-webhook.",
            ),
            Self::UnsealUnavailable => (
                "UnsealUnavailable",
                "The unseal API of zenlock-webhook gave no answer yet, or none that can be used.",
                "Nothing to do if it passes: it is asked again by itself. Else see the message, and the pods and log of zenlock-webhook.",
            ),
        };
        Row { code, area: Area::Object, status: 0, meaning, hint }
    }

    /// The reason of a code that a server sent.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
