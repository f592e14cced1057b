//! Whether a caller may: a SubjectAccessReview for each request, in the namespace that it is about. The API server asked
//! RBAC once before it passed the request on; this asks again, so that nobody who reaches the port another way gets more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::error::Error;
use super::{Caller, GROUP, VERSION};

/// An allowance is believed so long: a page of a console asks many times.
const FRESH: Duration = Duration::from_secs(5);
/// Allowances that are remembered.
const MAX_KEPT: usize = 1024;
/// For the API server's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Action {
    pub verb: &'static str,
    /// None: of all namespaces.
    pub namespace: Option<String>,
    pub resource: &'static str,
    pub subresource: Option<&'static str>,
    pub name: Option<String>,
}

/// Asks the API server. Cheap to clone.
#[derive(Clone)]
pub struct Reviewer {
    reviews: Api<SubjectAccessReview>,
    /// Only what was allowed, and until when it counts: a refusal may be put right the next moment.
    allowed: Arc<Mutex<HashMap<(Caller, Action), Instant>>>,
}

impl Reviewer {
    /// With a client that may create `SubjectAccessReview`s.
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), allowed: Arc::default() }
    }

    /// Fails closed: without an answer nothing is allowed.
    pub(super) async fn check(&self, caller: &Caller, action: Action) -> Result<(), Error> {
        let asked = (caller.clone(), action);
        let now = Instant::now();
        if self.kept(|kept| kept.get(&asked).is_some_and(|until| *until > now)) {
            return Ok(());
        }
        let (parameters, review) = (PostParams::default(), review(&asked.0, &asked.1));
        let answer = match timeout(PATIENCE, self.reviews.create(&parameters, &review)).await {
            Ok(Ok(answer)) => answer.status.unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the API server did not answer a SubjectAccessReview");
                return Err(Error::Unavailable("the API server could not be asked whether this is allowed".to_owned()));
            }
            Err(_) => {
                return Err(Error::Unavailable(
                    "the API server took too long to say whether this is allowed".to_owned(),
                ));
            }
        };
        if !answer.allowed || answer.denied == Some(true) {
            return Err(Error::Forbidden(refusal(&asked.0, &asked.1)));
        }
        self.kept(|kept| {
            if kept.len() >= MAX_KEPT {
                kept.retain(|_, until| *until > now);
            }
            if kept.len() < MAX_KEPT {
                kept.insert(asked, now + FRESH);
            }
        });
        Ok(())
    }

    fn kept<T>(&self, look: impl FnOnce(&mut HashMap<(Caller, Action), Instant>) -> T) -> T {
        look(&mut self.allowed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn review(caller: &Caller, action: &Action) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(caller.user.clone()),
            uid: caller.uid.clone(),
            groups: Some(caller.groups.clone()),
            extra: Some(caller.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(action.verb.to_owned()),
                namespace: action.namespace.clone(),
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                resource: Some(action.resource.to_owned()),
                subresource: action.subresource.map(str::to_owned),
                name: action.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// In the API server's own words.
fn refusal(caller: &Caller, action: &Action) -> String {
    let slash = action.subresource.map(|subresource| format!("/{subresource}")).unwrap_or_default();
    let scope = match &action.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    format!(
        "User {:?} cannot {} resource \"{}{slash}\" in API group {GROUP:?} {scope}",
        caller.user, action.verb, action.resource
    )
}

#[cfg(test)]
mod tests;
