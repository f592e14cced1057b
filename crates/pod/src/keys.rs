//! The keys that the operator derived for this component, mounted from a Secret.

mod member;
mod signing;

use std::path::Path;

use zen_seal::{Error, Keyring, RootKey};

pub use member::{Member, MemberError};
pub use signing::{Followed, SigningError, follow, signing};

/// Root of the signing keys.
pub const SIGNING: &str = "signing.key";
/// Which versions of them count: [`zen_model::signing::Versions`]. Where it is missing, version 1 alone does.
pub const VERSIONS: &str = "signing.versions";
/// What a member's egress has in place of [`SIGNING`].
pub const MEMBER: &str = "member.json";
/// Root of the data keys; ingester only.
pub const DATA: &str = "data.key";
/// The data keys of one replica, wrapped, beside its queue.
pub const RING: &str = "data.ring";

/// The data keys of the queue in `state`, made there on first use.
pub fn data(folder: &Path, state: &Path) -> Result<Keyring, Error> {
    Keyring::on_volume(RootKey::mounted(&folder.join(DATA))?, &state.join(RING))
}
