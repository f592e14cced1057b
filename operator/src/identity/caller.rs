//! Who asks: a pod, by its ServiceAccount token (TokenReview).

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use zen_identity::wire::AUDIENCE;
use zen_model::reason::TrustRefusal;

/// A TokenReview takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A projected token has about one KiB.
const MAX_TOKEN: usize = 16 << 10;

const USER: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A pod, as the API server vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub(super) namespace: String,
    pub(super) account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
}

/// Asks the API server whose token this is. The audience is ours alone: a token for the API server, or for anybody else,
/// is refused, and ours is of no use there.
pub(super) async fn review(client: &Client, token: &str) -> Result<Caller, TrustRefusal> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(TrustRefusal::TokenInvalid);
    }
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    match tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &review)).await {
        Ok(Ok(review)) => read(&review.status.unwrap_or_default()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to review a token");
            Err(TrustRefusal::ReviewUnavailable)
        }
        Err(_) => {
            tracing::warn!("failed to review a token: no answer in time");
            Err(TrustRefusal::ReviewUnavailable)
        }
    }
}

/// What the API server's answer says.
pub(super) fn read(status: &TokenReviewStatus) -> Result<Caller, TrustRefusal> {
    // An API server that does not know audiences answers without any: then the token may be for anybody (API reference,
    // TokenReviewStatus).
    let for_us = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    let has_error = status.error.as_ref().is_some_and(|error| !error.is_empty());
    if status.authenticated != Some(true) || !for_us || has_error {
        return Err(TrustRefusal::TokenInvalid);
    }
    let user = status.user.as_ref().ok_or(TrustRefusal::TokenInvalid)?;
    let name = user.username.as_deref().and_then(|name| name.strip_prefix(USER));
    // Whoever is no ServiceAccount has no pod either, and no identity here.
    let (namespace, account) = name.and_then(|name| name.split_once(':')).ok_or(TrustRefusal::AccountNotPermitted)?;
    let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Ok(value.clone()),
        _ => Err(TrustRefusal::TokenNotPodBound),
    };
    Ok(Caller {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod: extra(POD_NAME)?,
        pod_uid: extra(POD_UID)?,
    })
}
