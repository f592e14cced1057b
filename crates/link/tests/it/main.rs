//! Both sides in one process, over real mutual TLS on loopback.

mod faults;
mod flow;
mod judged;
mod proto;
mod reconnect;
mod sessions;
mod support;
