//! The keys of one member (T-06). They have no canary: each is of one cluster, whose egresses begin a session with the new while
//! that with the old goes on, and the hub takes both for the overlap.

use zen_model::ClusterId;
use zen_model::reason::RotationReason;
use zen_rotation::Phase;
use zen_rotation::record::Active;
use zen_rotation::signing::OVERLAP;

use super::super::Parts;
use super::super::desk::Error;
use crate::enroll::rotate::{self, Rotated};

/// What is stored of it then.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    pub(crate) new: Option<String>,
    pub(crate) detail: String,
}

/// The version in use.
pub(super) async fn old<F>(parts: &Parts<F>, cluster: &ClusterId) -> Result<String, String> {
    let version = rotate::version(parts.service.client(), cluster, parts.service.now()).await?;
    Ok(version.to_string())
}

/// All of it. What was done before a crash is not done again.
pub(crate) async fn rotate<F>(parts: &Parts<F>, active: &Active, cluster: &ClusterId) -> Result<Outcome, Error> {
    let back =
        |failure, detail: &str| Outcome { phase: Phase::RolledBack { failure }, new: None, detail: detail.to_owned() };
    let Ok(old) = active.old.parse::<i64>() else {
        return Ok(back(RotationReason::MaterialNotMade, "no version is known"));
    };
    let overlap = active.rotation.plan.overlap().unwrap_or(OVERLAP);
    let (client, now) = (parts.service.client(), parts.service.now());
    let (version, until) = match rotate::rotate(client, &parts.writer, cluster, old, overlap, now).await? {
        Rotated::Done { version, until } => (version, until),
        Rotated::Not(why) => return Ok(back(RotationReason::MaterialNotMade, &why)),
    };
    let until = until.map_or_else(|| "no more".to_owned(), |until| format!("until {until}"));
    let detail = format!("{cluster}: version {version} from now on, version {old} {until}");
    Ok(Outcome { phase: Phase::Finished, new: Some(version.to_string()), detail })
}
