//! A worker takes one job after the other from its lane.

use std::sync::Arc;
use std::time::Duration;

use zen_deliver::{AttemptResult, Prepared, release, settle};
use zen_model::observe::Observation;
use zen_model::settle::ReleaseReason;
use zen_model::{DeadReason, Fault, Settlement, Timestamp};

use crate::Egress;
use crate::hosts::Slot as HostSlot;
use crate::lane::{Lane, Ready, Standing};
use crate::lease::Begin;
use crate::session::Job;

/// A Destination that is paused or without endpoints is looked at again after this.
const HELD: Duration = Duration::from_secs(5);

/// Starts a worker in a slot that is already taken.
pub(crate) fn spawn(egress: Arc<Egress>, lane: Arc<Lane>, first: Job) {
    tokio::spawn(async move {
        let mut slot = Slot { egress, lane, free: false };
        let mut next = Some(first);
        while let Some(job) = next {
            perform(&slot.egress, &slot.lane, job).await;
            next = slot.lane.next();
        }
        slot.free = true;
    });
}

/// Gives the slot to the next job when a job panics; its own lease ends without a word and counts towards `Poison`.
struct Slot {
    egress: Arc<Egress>,
    lane: Arc<Lane>,
    free: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and nothing can be spawned.
        if !self.free
            && tokio::runtime::Handle::try_current().is_ok()
            && let Some(job) = self.lane.next()
        {
            spawn(Arc::clone(&self.egress), Arc::clone(&self.lane), job);
        }
    }
}

async fn perform(egress: &Egress, lane: &Lane, job: Job) {
    if job.lease.is_aborted() && !job.session.is_draining() {
        return;
    }
    if job.session.is_draining() {
        return give_back(egress, job, &drained());
    }
    let (prepared, _slot) = match ready(egress, lane, &job).await {
        Ok(ready) => ready,
        Err(Some(settlement)) => return give_back(egress, job, &settlement),
        Err(None) => return,
    };
    let idempotent = prepared.destination.idempotent;
    if !idempotent {
        job.session.outbox.begin(job.lease.token);
        match job.lease.begun().await {
            Begin::Proceed => {}
            Begin::Aborted if job.session.is_draining() => return give_back(egress, job, &drained()),
            Begin::Refused | Begin::Aborted => return,
        }
    }
    let attempt = {
        let _in_flight = egress.metrics.in_flight();
        tokio::select! {
            biased;
            result = egress.parts.deliverer.attempt(&prepared, &job.event, Timestamp::now()) => Some(result),
            () = job.lease.aborted() => None,
        }
    };
    match attempt {
        Some(result) => conclude(egress, lane, &prepared, job, result),
        // The limit of the drain. Where a repeat does harm, nobody may try again by himself.
        None if job.session.is_draining() && idempotent => give_back(egress, job, &drained()),
        None if job.session.is_draining() => job.settle(&Settlement::Dead { reason: DeadReason::Ambiguous }, None),
        // The lease has ended: another attempt may have begun elsewhere, and what happened here counts no more.
        None => {}
    }
}

/// What the attempt needs, and a slot of the target's host. Else how the lease ends; none: it has ended.
async fn ready(egress: &Egress, lane: &Lane, job: &Job) -> Result<(Arc<Prepared>, HostSlot), Option<Settlement>> {
    let mut slot: Option<(HostSlot, Arc<Prepared>)> = None;
    loop {
        let Ready { prepared, share } = match lane.standing(egress) {
            Standing::Ready(ready) => ready,
            Standing::Held => return Err(Some(Settlement::Release { after: HELD, reason: ReleaseReason::Held })),
            Standing::Unknown | Standing::Unusable => {
                return Err(Some(release(ReleaseReason::OurFault, fastrand::f64())));
            }
        };
        // While it was waited for, the Destination may have been paused or changed.
        let waited_for = slot.take().filter(|(_, of)| Arc::ptr_eq(of, &prepared)).map(|(slot, _)| slot);
        if let Some(slot) = waited_for.or_else(|| share.free()) {
            return Ok((prepared, slot));
        }
        tokio::select! {
            biased;
            free = share.slot() => slot = Some((free, prepared)),
            () = job.lease.aborted() => return Err(job.session.is_draining().then(drained)),
        }
        if job.session.is_draining() {
            return Err(Some(drained()));
        }
    }
}

fn drained() -> Settlement {
    Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain }
}

pub(crate) fn give_back(egress: &Egress, job: Job, settlement: &Settlement) {
    egress.metrics.settled(settlement);
    job.settle(settlement, None);
}

fn conclude(egress: &Egress, lane: &Lane, prepared: &Prepared, job: Job, result: AttemptResult) {
    let destination = &prepared.destination;
    let settlement = settle(destination, job.attempts, job.first_attempt, Timestamp::now(), &result, fastrand::f64());
    lane.attempts.ended(result.class);
    egress.metrics.took(result.took);
    egress.metrics.settled(&settlement);
    if let Some(fault) = result.fault {
        tracing::debug!(
            destination = %destination.key,
            event = job.event.id,
            class = result.class.label(),
            status = result.status,
            error = fault.words(),
            "attempt failed"
        );
    }
    if egress.parts.observer.is_watched() {
        egress.parts.observer.observe(observation(destination.key.clone(), &job, &result, &settlement));
    }
    job.settle(&settlement, Some(&result.into_record()));
}

fn observation(
    destination: zen_model::ObjectKey,
    job: &Job,
    result: &AttemptResult,
    settlement: &Settlement,
) -> Observation {
    Observation::Attempted {
        destination,
        id: job.event.event_id(),
        attempt: job.attempts.saturating_add(1),
        class: result.class,
        status: result.status,
        took: result.took,
        error: result.fault.map(Fault::words),
        retry_in: match settlement {
            Settlement::Retry { after } | Settlement::Release { after, .. } => Some(*after),
            Settlement::Ack | Settlement::Dead { .. } => None,
        },
        dead: match settlement {
            Settlement::Dead { reason } => Some(*reason),
            _ => None,
        },
    }
}
