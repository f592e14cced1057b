//! What the pods of the mesh have in common in a cluster: who they are ([`Arguments`]), the keys that are mounted ([`keys`]),
//! how they start and end ([`Ground`]), which other pods there are ([`endpoints`]), who asks them ([`caller`]), what they
//! record ([`audit`]), and what they tell the operator ([`Reports`]).

pub mod arguments;
pub mod audit;
pub mod caller;
pub mod endpoints;
pub mod ground;
pub mod keys;
pub mod platform;
mod private;
pub mod reports;
pub mod tls_secret;
pub mod unseal;
pub mod watching;

pub use arguments::Arguments;
pub use caller::Caller;
pub use endpoints::Endpoint;
pub use ground::{Ground, Known};
pub use platform::Platform;
pub use reports::Reports;
