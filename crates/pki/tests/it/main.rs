//! The CA on disk, and real handshakes over in-memory streams.

mod ca;
mod chain;
mod csr;
mod damage;
mod foreign;
mod handshake;
mod hostile;
mod intake;
mod renewal;
mod support;
mod swap;
