//! What a writer and the store say to each other: HTTP over mutual TLS. Entries go as the lines that they are.

use serde::{Deserialize, Serialize};
use zen_identity::wire::Refused;

use crate::head::Head;
use crate::names::{ChainId, Writer};

/// Port of the store.
pub const PORT: u16 = 9445;
/// `POST`: [`Resume`] → [`Resumed`].
pub const RESUME: &str = "/v1/audit/resume";
/// `POST`: lines of one chain, in order → [`Stored`], or 409 with [`Conflict`]. Query: `earliest`, the first entry of the
/// chain that the writer still has.
pub const ENTRIES: &str = "/v1/audit/entries";
/// The most bytes of lines in a request.
pub const MAX_BODY: usize = 1 << 20;
/// The most chains in a request.
pub const MAX_CHAINS: usize = 256;

/// A writer asks where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Who.
    pub writer: Writer,
    /// Chains that it has entries of.
    pub chains: Vec<ChainId>,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The end of its last chain that is none of those; else that of the last chain of its component. What a new chain
    /// follows on.
    pub after: Option<Head>,
    /// Those that the store has.
    pub heads: Vec<Head>,
}

/// Everything up to this is durable at the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The chain's end.
    pub head: Head,
}

/// The lines do not follow on what the store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The usual body.
    #[serde(flatten)]
    pub refused: Refused,
    /// What it has; none: nothing of this chain.
    pub head: Option<Head>,
}
