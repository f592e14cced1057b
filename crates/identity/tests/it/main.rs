//! Both ends of our own HTTP over real sockets, and the client of the identity service against a scripted one.

mod client;
mod control;
mod endpoint;
mod remote;
mod support;
