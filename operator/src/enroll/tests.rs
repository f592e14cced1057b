//! The hub over real TLS, on a scripted API server: whom it enrolls, and every way not to be (T-01, T-05, T-06, T-08).

mod handshakes;
mod leaders;
mod redeeming;
mod rotating;
mod stage;
mod standing;
mod syncing;
