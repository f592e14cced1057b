//! The keys that the operator derived for this component, mounted from a Secret.

mod member;

use std::path::Path;

use zen_seal::{Error, Keyring, RootKey};
use zen_verify::SigningKeys;

pub use member::{Member, MemberError};

/// Root of the signing keys.
pub const SIGNING: &str = "signing.key";
/// What a member's egress has in place of [`SIGNING`].
pub const MEMBER: &str = "member.json";
/// Root of the data keys; ingester only.
pub const DATA: &str = "data.key";
/// The data keys of one replica, wrapped, beside its queue.
pub const RING: &str = "data.ring";

/// The signing keys.
pub fn signing(folder: &Path) -> Result<SigningKeys, Error> {
    Ok(SigningKeys::new(RootKey::mounted(&folder.join(SIGNING))?.secret()))
}

/// The data keys of the queue in `state`, made there on first use.
pub fn data(folder: &Path, state: &Path) -> Result<Keyring, Error> {
    Keyring::on_volume(RootKey::mounted(&folder.join(DATA))?, &state.join(RING))
}
