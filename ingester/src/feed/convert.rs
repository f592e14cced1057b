//! Between the link's frames and the queue's types.

use zen_link::convert::Invalid;
use zen_link::frame;
use zen_queue::{DeliveryId, LeaseToken, Settled};

pub(super) fn token(token: frame::Token) -> LeaseToken {
    LeaseToken { delivery: DeliveryId { seq: token.seq, destination: token.destination }, lease: token.lease }
}

pub(super) fn frame_token(token: LeaseToken) -> frame::Token {
    frame::Token { seq: token.delivery.seq, destination: token.delivery.destination, lease: token.lease }
}

pub(super) fn settled(settled: frame::Settled) -> Result<Settled, Invalid> {
    let (named, settlement, attempt) = settled.into_parts()?;
    Ok(Settled { token: token(named), settlement, attempt })
}
