//! What the pods of ingester and egress have in common in a cluster: who they are ([`Arguments`]), the keys that are
//! mounted ([`keys`]), how they start ([`Ground`]), which other pods there are ([`endpoints`]), and what they tell the operator ([`Reports`]).

pub mod arguments;
pub mod endpoints;
pub mod ground;
pub mod keys;
pub mod platform;
mod private;
pub mod reports;
pub mod tls_secret;
pub mod watching;

pub use arguments::Arguments;
pub use endpoints::Endpoint;
pub use ground::{Ground, Known};
pub use platform::Platform;
pub use reports::Reports;
