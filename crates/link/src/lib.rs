//! The link between ingester and egress: lease and settlement frames, many events a frame, over one bidirectional gRPC
//! stream on mutual TLS (DESIGN: frames are the same whoever dials).

pub mod frame;
