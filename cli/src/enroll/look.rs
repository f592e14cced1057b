//! How far an enrollment is. Pure.

use zen_crds::{ClusterEnrollment, Phase};

/// A bundle that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its two parts.
    pub clear: String,
    /// See [`Ready::clear`].
    pub sealed: String,
    /// Of the hub's roots.
    pub fingerprints: Vec<String>,
}

/// What can be said of an enrollment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its bundle is there.
    Ready(Box<Ready>),
    /// It will come by itself, or may.
    Wait(String),
    /// Not before somebody changes something.
    Never {
        /// What is so.
        what: String,
        /// What to do.
        hint: String,
    },
}

pub fn look(enrollment: &ClusterEnrollment) -> Look {
    let never = |what: &str, hint: &str| Look::Never { what: what.to_owned(), hint: hint.to_owned() };
    if enrollment.spec.disabled {
        return never("the enrollment is disabled", "set spec.disabled to false to let the cluster in again");
    }
    let Some(status) = &enrollment.status else {
        return Look::Wait("the hub has not looked at the enrollment yet".to_owned());
    };
    if status.observed_generation != enrollment.metadata.generation {
        return Look::Wait("the hub has not looked at this generation of the enrollment yet".to_owned());
    }
    let refused =
        status.conditions.iter().find(|condition| condition.type_ == "Accepted" && condition.status == "False");
    if let Some(refused) = refused {
        return match refused.reason.as_str() {
            "IssuerUnavailable" => Look::Wait(refused.message.clone()),
            _ => never(&refused.message, "kubectl describe clusterenrollment shows more"),
        };
    }
    let bundle = status.bundle.as_ref().filter(|bundle| bundle.id == enrollment.spec.bundle);
    let Some(bundle) = bundle else { return Look::Wait("the hub has not made the bundle yet".to_owned()) };
    match (&bundle.data, &bundle.used_at) {
        (Some(data), None) => Look::Ready(Box::new(Ready {
            clear: data.clear.clone(),
            sealed: data.sealed.clone(),
            fingerprints: data.fingerprints.clone(),
        })),
        (_, Some(used)) => never(
            &format!("the bundle {} was used at {}", bundle.id, used.0),
            "change spec.bundle of the ClusterEnrollment to have another one made; the cluster then gets new keys",
        ),
        (None, None) if status.phase == Some(Phase::Disabled) => {
            Look::Wait("the hub has not made the bundle yet".to_owned())
        }
        (None, None) => never(
            &format!("the bundle {} ended at {} before it was used", bundle.id, bundle.expires_at.0),
            "change spec.bundle of the ClusterEnrollment to have another one made",
        ),
    }
}
