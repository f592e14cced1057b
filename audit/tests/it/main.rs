//! Writers and the store, over real mutual TLS and real files.

mod anchors;
mod crash;
mod store;
mod support;
mod trail;
mod transfer;
