//! What every process of the mesh needs around its work: its threads ([`process`]), its parts ([`Tasks`]), signals ([`Shutdown`]), ends that wait for
//! what is in flight ([`Drain`]), sockets ([`listen`]), readiness ([`Readiness`]), the admin port ([`admin`]), logs ([`telemetry`]), the event feed of a
//! terminal ([`watch`]), the limits of the process ([`limits`]), the rules of our metrics ([`metrics`]) and, with the
//! feature `lease`, leader election ([`lease`]).

pub mod admin;
pub mod drain;
#[cfg(feature = "lease")]
pub mod lease;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod watch;

pub use drain::Drain;
pub use readiness::{Gate, Readiness};
pub use shutdown::Shutdown;
pub use tasks::Tasks;
