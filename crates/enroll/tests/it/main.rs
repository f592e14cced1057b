//! From the hub's bundle to its decision, with real keys, and everything that must not be taken on the way (T-01).

mod bundle;
mod decide;
mod redeem;
mod support;
