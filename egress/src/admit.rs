//! A frame of leases, checked and put into lanes.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use prost::Message;
use zen_compile::Snapshot;
use zen_deliver::release;
use zen_link::frame::{FromIngester, Lease as Leased};
use zen_model::settle::ReleaseReason;
use zen_model::{DeadReason, Event, ObjectKey, Settlement, Timestamp};
use zen_verify::zen_signature;

use crate::Egress;
use crate::lane::Lane;
use crate::metrics::Tampered;
use crate::session::{Job, Session};
use crate::worker::give_back;

/// Age of a link signature, both ways: it was made when the event was leased.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Takes what the ingester says.
pub(crate) fn frame(egress: &Arc<Egress>, session: &Arc<Session>, frame: FromIngester) {
    for token in &frame.proceed {
        if let Some(lease) = session.lease(token) {
            lease.proceed();
        }
    }
    for token in &frame.refused {
        if let Some(lease) = session.lease(token) {
            session.forget(token);
            lease.refuse();
        }
    }
    if !frame.void.is_empty() {
        let ended = session.void(&frame.void);
        egress.metrics.expired(ended);
        tracing::info!(leases = ended, "an ingester is gone: its leases have ended");
    }
    if frame.leases.is_empty() {
        return;
    }
    // The ingester keeps to what the Hello said, give or take a lease for each destination. One that does not is not
    // allowed to fill our memory.
    let room = (egress.parts.options.max_leases as usize).saturating_mul(2).saturating_sub(session.held());
    let leases = session.hold(frame.leases.iter().map(|lease| lease.token));
    let now = Timestamp::now();
    let mut accepted = Vec::with_capacity(leases.len());
    for (at, (leased, lease)) in frame.leases.into_iter().zip(leases).enumerate() {
        let Leased { token, destination, .. } = &leased;
        let refusal = if session.is_draining() {
            Some(Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain })
        } else if at >= room {
            Some(release(ReleaseReason::Overload, fastrand::f64()))
        } else {
            None
        };
        if let Some(settlement) = refusal {
            egress.metrics.settled(&settlement);
            session.settle(*token, &settlement, None);
            continue;
        }
        match open(egress, session, &leased, now) {
            Ok(event) => {
                let first = (leased.first_attempt > 0).then_some(Timestamp(leased.first_attempt));
                let job = Job::new(session, lease, event, leased.attempts, first);
                accepted.push((leased.destination, leased.slots, job));
            }
            Err(Refusal::Dead(reason)) => {
                tracing::warn!(%destination, seq = token.seq, reason = reason.code(), "a lease was refused");
                session.settle(*token, &Settlement::Dead { reason }, None);
            }
            Err(Refusal::Later(error)) => {
                tracing::warn!(%destination, seq = token.seq, %error, "a lease was given back");
                let settlement = release(ReleaseReason::OurFault, fastrand::f64());
                egress.metrics.settled(&settlement);
                session.settle(*token, &settlement, None);
            }
        }
    }
    enqueue(egress, accepted);
}

/// Why a lease is not attempted.
enum Refusal {
    /// It was changed on the way, or is signed by somebody else: for a person to look at.
    Dead(DeadReason),
    /// Clocks are apart, or keys are being exchanged: the mesh's own trouble, which passes, and no event is lost to it.
    Later(zen_signature::Error),
}

/// The event of a lease whose signature verifies (W-12). The content hash is made of the body as it is here, so that a body
/// that was changed on the way is seen.
fn open(egress: &Egress, session: &Session, leased: &Leased, now: Timestamp) -> Result<Event, Refusal> {
    let event = Event::decode(leased.record.clone()).map_err(|_| Refusal::Dead(DeadReason::RecordDamaged))?;
    let hash = digest::digest(&digest::SHA256, &event.body);
    if constant_time::verify_slices_are_equal(hash.as_ref(), &event.content_hash).is_err() {
        egress.metrics.tampered(Tampered::ContentHash);
        return Err(Refusal::Dead(DeadReason::SignatureInvalid));
    }
    match session.keys.verify(&leased.signature, &event.id, hash.as_ref(), now, TOLERANCE) {
        Ok(()) => Ok(event),
        Err(error) => {
            egress.metrics.tampered(Tampered::Signature(error));
            Err(match error {
                zen_signature::Error::Stale | zen_signature::Error::UnknownKey => Refusal::Later(error),
                zen_signature::Error::Malformed | zen_signature::Error::Mismatch => {
                    Refusal::Dead(DeadReason::SignatureInvalid)
                }
            })
        }
    }
}

fn enqueue(egress: &Arc<Egress>, jobs: Vec<(String, u32, Job)>) {
    let snapshot = egress.parts.snapshot.load();
    let mut lanes = egress.lanes();
    for (destination, slots, job) in jobs {
        if let Some(lane) = lanes.get(destination.as_str()) {
            lane.push(egress, job, slots);
        } else if let Some(lane) = known(egress, &snapshot, &destination) {
            lane.push(egress, job, slots);
            lanes.insert(destination.into_boxed_str(), lane);
        } else {
            // Its configuration may be on the way to us. If it is of no business here, the hub's configuration and this
            // cluster's differ, or the hub would have this cluster reach what it does not name.
            egress.metrics.foreign();
            tracing::warn!(%destination, "a lease for a Destination that is not delivered to from here was given back");
            give_back(egress, job, &release(ReleaseReason::OurFault, fastrand::f64()));
        }
    }
}

fn known(egress: &Egress, snapshot: &Snapshot, destination: &str) -> Option<Arc<Lane>> {
    let key: ObjectKey = destination.parse().ok()?;
    if !egress.parts.serves(snapshot.destination(&key)?) {
        return None;
    }
    let attempts = egress.metrics.attempts_of(&key);
    Some(Arc::new(Lane::new(key, attempts)))
}
