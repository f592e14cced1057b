//! Who asks, as the API server vouches for it (TokenReview).

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use zen_model::reason::LockRefusal;

use crate::AUDIENCE;

/// A TokenReview takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A projected token has about one KiB.
const MAX_TOKEN: usize = 16 << 10;
const USER: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its account.
    pub account: String,
    /// Its name.
    pub pod: String,
    /// Its UID: another pod of the same name is another caller.
    pub pod_uid: String,
}

impl Caller {
    /// For the audit.
    pub fn who(&self) -> String {
        format!("Pod/{}/{}", self.namespace, self.pod)
    }
}

/// Asks whose token this is. The audience is ours alone: a token for the API server is refused, and ours is of no use there.
pub(super) async fn review(client: &Client, token: &str) -> Result<Caller, LockRefusal> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(LockRefusal::TokenInvalid);
    }
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    match tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &review)).await {
        Ok(Ok(review)) => read(&review.status.unwrap_or_default()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to review a token");
            Err(LockRefusal::ApiUnavailable)
        }
        Err(_) => {
            tracing::warn!("failed to review a token: no answer in time");
            Err(LockRefusal::ApiUnavailable)
        }
    }
}

/// What the API server's answer says.
fn read(status: &TokenReviewStatus) -> Result<Caller, LockRefusal> {
    // An API server that does not know audiences answers without any: then the token may be for anybody.
    let for_us = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    let has_error = status.error.as_ref().is_some_and(|error| !error.is_empty());
    if status.authenticated != Some(true) || !for_us || has_error {
        return Err(LockRefusal::TokenInvalid);
    }
    let user = status.user.as_ref().ok_or(LockRefusal::TokenInvalid)?;
    let name = user.username.as_deref().and_then(|name| name.strip_prefix(USER));
    let (namespace, account) = name.and_then(|name| name.split_once(':')).ok_or(LockRefusal::TokenNotPodBound)?;
    let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Ok(value.clone()),
        _ => Err(LockRefusal::TokenNotPodBound),
    };
    let (pod, pod_uid) = (extra(POD_NAME)?, extra(POD_UID)?);
    Ok(Caller { namespace: namespace.to_owned(), account: account.to_owned(), pod, pod_uid })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_tokens_of_pods_for_us() {
        use LockRefusal::{TokenInvalid, TokenNotPodBound};
        let good = json!({
            "authenticated": true, "audiences": [AUDIENCE],
            "user": {"username": "system:serviceaccount:team-a:ci", "extra": {POD_NAME: ["shop"], POD_UID: ["u1"]}},
        });
        let read = |change: &dyn Fn(&mut Value)| {
            let mut status = good.clone();
            change(&mut status);
            read(&serde_json::from_value(status).expect("a status"))
        };
        let caller = read(&|_| {}).expect("good");
        assert_eq!((caller.who().as_str(), &*caller.account, &*caller.pod_uid), ("Pod/team-a/shop", "ci", "u1"));
        assert_eq!(read(&|status| status["authenticated"] = false.into()), Err(TokenInvalid));
        assert_eq!(read(&|status| status["audiences"] = json!(["https://kubernetes.default.svc"])), Err(TokenInvalid));
        assert_eq!(read(&|status| status["audiences"] = Value::Null), Err(TokenInvalid));
        assert_eq!(read(&|status| status["error"] = "expired".into()), Err(TokenInvalid));
        assert_eq!(read(&|status| status["user"]["extra"] = json!({})), Err(TokenNotPodBound));
        assert_eq!(read(&|status| status["user"]["username"] = "mary".into()), Err(TokenNotPodBound));
    }
}
