//! Another version of one member's keys, because somebody asks for it (T-06). The member has it with its next request, half a
//! minute later; what was signed before counts for the overlap.

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use zen_model::{ClusterId, Timestamp};

use super::lead::look;
use super::state::{Enrollment, at};
use crate::writer::{self, Writer};

/// A member proves itself with the version that it has when it asks for the next one: where that counts no more, it has to be
/// enrolled anew.
const LEAST: Duration = Duration::from_mins(10);
/// As many as a status holds, less the one that comes.
const MOST: usize = 3;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rotated {
    /// The version that is signed with from now on, and until when the one before is accepted.
    Done { version: i64, until: Option<Timestamp> },
    /// In words why not.
    Not(String),
}

/// Why it is not known yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read the enrollment: {0}")]
    Read(String),
    #[error(transparent)]
    Write(#[from] writer::Error),
}

/// The version in use; in words why there can be no other now.
pub(crate) async fn version(client: &Client, cluster: &ClusterId, now: Timestamp) -> Result<i64, String> {
    let enrollment = look(client, cluster).await?;
    let enrollment = enrollment.filter(|it| !it.is_revoked() && !it.status.keys.is_empty());
    let enrollment = enrollment.ok_or_else(|| format!("{cluster} is not enrolled"))?;
    let accepted = enrollment.versions(now).len();
    if accepted > MOST {
        return Err(format!("{accepted} versions of its keys are accepted already: wait for the end of one"));
    }
    enrollment.status.key_version.ok_or_else(|| format!("{cluster} is not enrolled"))
}

/// Puts another version in the place of `old`. Again does no harm: what is done already is not done twice.
pub(crate) async fn rotate(
    client: &Client,
    writer: &Writer,
    cluster: &ClusterId,
    old: i64,
    overlap: Duration,
    now: Timestamp,
) -> Result<Rotated, Error> {
    let Some(before) = look(client, cluster).await.map_err(Error::Read)? else {
        return Ok(Rotated::Not(format!("{cluster} is not enrolled any more")));
    };
    match before.status.key_version {
        _ if before.is_revoked() => Ok(Rotated::Not(format!("{cluster} is not enrolled any more"))),
        Some(version) if version == old => {
            let status = before.rotated(overlap.max(LEAST), now);
            let value = serde_json::to_value(&status).unwrap_or(Value::Null);
            writer.swap_status(&before.target(), &value, &before.resource_version).await?;
            Ok(done(&Enrollment { status, ..before }, old))
        }
        Some(version) if version == old.saturating_add(1) => Ok(done(&before, old)),
        _ => Ok(Rotated::Not(format!("{cluster} was enrolled anew meanwhile"))),
    }
}

fn done(enrollment: &Enrollment, old: i64) -> Rotated {
    let before = enrollment.status.keys.iter().find(|key| key.version == old);
    let until = before.and_then(|key| key.until.as_ref().map(at));
    Rotated::Done { version: enrollment.status.key_version.unwrap_or_default(), until }
}
