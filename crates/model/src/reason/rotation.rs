use serde::{Deserialize, Serialize};

use super::{Area, Row};

/// How an exchange of a root, a CA, a certificate or a key stands (T-04): in conditions, Events, metrics and audit entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RotationReason {
    /// It goes on.
    RotationProgressing,
    /// It is done.
    RotationFinished,
    /// Somebody took it back.
    RotationAborted,
    /// The new could not be made.
    MaterialNotMade,
    /// Not everybody came to trust the new.
    TrustNotSpread,
    /// Who was to go first did not.
    CanaryStuck,
    /// A probe failed.
    ProbeFailed,
    /// Probes did not run.
    ProbesMissing,
    /// More requests failed than before.
    ErrorsRaised,
    /// Not everybody came to use the new.
    RolloutStuck,
}

impl RotationReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::RotationProgressing,
        Self::RotationFinished,
        Self::RotationAborted,
        Self::MaterialNotMade,
        Self::TrustNotSpread,
        Self::CanaryStuck,
        Self::ProbeFailed,
        Self::ProbesMissing,
        Self::ErrorsRaised,
        Self::RolloutStuck,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::RotationProgressing => (
                "RotationProgressing",
                "Something is being exchanged.",
                "Nothing; kubectl zen certs shows how far it is.",
            ),
            Self::RotationFinished => {
                ("RotationFinished", "The exchange is done: the old is trusted no more.", "Nothing.")
            }
            Self::RotationAborted => (
                "RotationAborted",
                "Somebody took the exchange back.",
                "Start it again with kubectl zen rotate when it shall go on.",
            ),
            Self::MaterialNotMade => (
                "MaterialNotMade",
                "What should be exchanged for could not be made.",
                "Look at the operator's log for what the issuer says.",
            ),
            Self::TrustNotSpread => (
                "TrustNotSpread",
                "Not every pod came to trust the new in time; all goes back.",
                "Look at the pods that kubectl zen certs names: one that does not run holds up everybody.",
            ),
            Self::CanaryStuck => (
                "CanaryStuck",
                "The pods that were to go first did not come up with the new in time; all goes back.",
                "Look at the log of these pods.",
            ),
            Self::ProbeFailed => (
                "ProbeFailed",
                "A probe failed with the new: a handshake, a signed event from end to end, or a check of chain and expiry; all goes back.",
                "Look at the operator's log for the probe and what it met.",
            ),
            Self::ProbesMissing => (
                "ProbesMissing",
                "Too few probes ran in time; all goes back.",
                "Look at the operator's log: what is not shown to work is not rolled out.",
            ),
            Self::ErrorsRaised => (
                "ErrorsRaised",
                "Requests failed more often than before the exchange; all goes back.",
                "Look at what failed. If it had other causes, start the exchange again.",
            ),
            Self::RolloutStuck => (
                "RolloutStuck",
                "Not every pod came to use the new in time; all goes back.",
                "Look at the pods that kubectl zen certs names.",
            ),
        };
        Row { code, area: Area::Rotation, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
