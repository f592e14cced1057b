//! What the pods of the mesh have in common in a cluster: who they are ([`Arguments`]), the keys that are mounted ([`keys`]),
//! how they start and end ([`Ground`]), which other pods there are ([`endpoints`]), who asks them ([`caller`]), what they
//! record ([`audit`]), what they tell the operator ([`Reports`]), and where its probes end ([`Sink`]).

pub mod arguments;
pub mod audit;
pub mod caller;
pub mod endpoints;
pub mod ground;
pub mod keys;
pub mod platform;
mod private;
pub mod reports;
pub mod sink;
pub mod tls_secret;
pub mod unseal;
pub mod watching;

pub use arguments::Arguments;
pub use caller::Caller;
pub use endpoints::Endpoint;
pub use ground::{Ground, Known};
pub use platform::Platform;
pub use reports::Reports;
pub use sink::Sink;
