//! Which pod asks, by its ServiceAccount token, as the API server vouches for it (TokenReview).

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use zen_model::reason::{LockRefusal, TrustRefusal};

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
    /// As it stands in the audit log.
    pub fn who(&self) -> String {
        format!("Pod/{}/{}", self.namespace, self.pod)
    }
}

/// Why a token tells of no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The API server does not take it for our audience.
    #[error("the token is not valid for this audience")]
    Invalid,
    /// A person's, or a node's.
    #[error("the token is not that of a ServiceAccount")]
    NoAccount,
    /// A ServiceAccount's that no pod holds.
    #[error("the token is not bound to a pod")]
    NotPodBound,
    /// The API server could not be asked.
    #[error("the token could not be reviewed")]
    Unavailable,
}

impl From<Unknown> for TrustRefusal {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Invalid => Self::TokenInvalid,
            // Whoever is no ServiceAccount has no identity in the mesh.
            Unknown::NoAccount => Self::AccountNotPermitted,
            Unknown::NotPodBound => Self::TokenNotPodBound,
            Unknown::Unavailable => Self::ReviewUnavailable,
        }
    }
}

impl From<Unknown> for LockRefusal {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Invalid => Self::TokenInvalid,
            Unknown::NoAccount | Unknown::NotPodBound => Self::TokenNotPodBound,
            Unknown::Unavailable => Self::ApiUnavailable,
        }
    }
}

/// Asks the API server whose token this is. The audience has to be ours alone: a token for the API server, or for anybody
/// else, is refused then, and ours is of no use there.
///
/// # Errors
///
/// When it is nobody's, or nobody could be asked.
pub async fn review(client: &Client, audience: &str, token: &str) -> Result<Caller, Unknown> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Unknown::Invalid);
    }
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    match tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &review)).await {
        Ok(Ok(review)) => read(audience, &review.status.unwrap_or_default()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to review a token");
            Err(Unknown::Unavailable)
        }
        Err(_) => {
            tracing::warn!("failed to review a token: no answer in time");
            Err(Unknown::Unavailable)
        }
    }
}

/// What the API server's answer says.
fn read(audience: &str, status: &TokenReviewStatus) -> Result<Caller, Unknown> {
    // An API server that does not know audiences answers without any: then the token may be for anybody (API reference,
    // TokenReviewStatus).
    let for_us = status.audiences.iter().flatten().any(|known| known == audience);
    let has_error = status.error.as_ref().is_some_and(|error| !error.is_empty());
    if status.authenticated != Some(true) || !for_us || has_error {
        return Err(Unknown::Invalid);
    }
    let user = status.user.as_ref().ok_or(Unknown::Invalid)?;
    let name = user.username.as_deref().and_then(|name| name.strip_prefix(USER));
    let (namespace, account) = name.and_then(|name| name.split_once(':')).ok_or(Unknown::NoAccount)?;
    let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Ok(value.clone()),
        _ => Err(Unknown::NotPodBound),
    };
    let (pod, pod_uid) = (extra(POD_NAME)?, extra(POD_UID)?);
    Ok(Caller { namespace: namespace.to_owned(), account: account.to_owned(), pod, pod_uid })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const AUDIENCE: &str = "zen-mesh-identity";

    /// What a test does to a good answer.
    type Change = fn(&mut Value);

    /// T-02, Z-03.
    #[test]
    fn tokens_are_read_strictly() {
        let read = |change: Change| {
            let mut status = json!({
                "authenticated": true, "audiences": [AUDIENCE],
                "user": {"username": "system:serviceaccount:team-a:ci", "extra": {POD_NAME: ["shop"], POD_UID: ["u1"]}},
            });
            change(&mut status);
            read(AUDIENCE, &serde_json::from_value(status).expect("a status"))
        };
        let good = read(|_| {}).expect("a caller");
        assert_eq!((good.who().as_str(), &*good.account, &*good.pod_uid), ("Pod/team-a/shop", "ci", "u1"));
        let rows: [(&str, Change, Unknown); 12] = [
            ("not authenticated", |status| status["authenticated"] = false.into(), Unknown::Invalid),
            ("nothing said", |status| *status = json!({}), Unknown::Invalid),
            ("an error", |status| status["error"] = "expired".into(), Unknown::Invalid),
            ("no audience", |status| status["audiences"] = json!([]), Unknown::Invalid),
            ("audiences unknown", |status| status["audiences"] = Value::Null, Unknown::Invalid),
            ("another", |status| status["audiences"] = json!(["https://kubernetes.default.svc"]), Unknown::Invalid),
            ("no user", |status| status["user"] = Value::Null, Unknown::Invalid),
            ("a person", |status| status["user"]["username"] = "admin".into(), Unknown::NoAccount),
            ("a node", |status| status["user"]["username"] = "system:node:a".into(), Unknown::NoAccount),
            ("no pod", |status| status["user"]["extra"] = json!({}), Unknown::NotPodBound),
            ("two pods", |status| status["user"]["extra"][POD_UID] = json!(["a", "b"]), Unknown::NotPodBound),
            ("an empty name", |status| status["user"]["extra"][POD_NAME] = json!([""]), Unknown::NotPodBound),
        ];
        for (what, change, reason) in rows {
            assert_eq!(read(change), Err(reason), "{what}");
        }
    }

    #[test]
    fn every_way_to_be_nobody_has_its_codes() {
        for (unknown, trust, lock) in [
            (Unknown::Invalid, TrustRefusal::TokenInvalid, LockRefusal::TokenInvalid),
            (Unknown::NoAccount, TrustRefusal::AccountNotPermitted, LockRefusal::TokenNotPodBound),
            (Unknown::NotPodBound, TrustRefusal::TokenNotPodBound, LockRefusal::TokenNotPodBound),
            (Unknown::Unavailable, TrustRefusal::ReviewUnavailable, LockRefusal::ApiUnavailable),
        ] {
            assert_eq!((TrustRefusal::from(unknown), LockRefusal::from(unknown)), (trust, lock));
        }
    }
}
