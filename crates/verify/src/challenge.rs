//! Challenges: requests by which a provider checks the endpoint. They are verified like any other, then answered, and
//! are no events (W-04).

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use crate::Request;

/// The kinds of challenge that presets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Slack: a signed JSON body of type `url_verification` wants its `challenge` back
    /// (<https://docs.slack.dev/reference/events/url_verification/>).
    SlackUrlVerification,
}

/// How a challenge is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
}

impl Challenge {
    /// The answer, if this request is a challenge. The caller has verified it.
    pub(crate) fn answer(self, request: &Request<'_>) -> Option<ChallengeAnswer> {
        match self {
            Self::SlackUrlVerification => slack(request.body),
        }
    }
}

fn slack(body: &[u8]) -> Option<ChallengeAnswer> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow)]
        challenge: Cow<'a, str>,
    }
    // Every event passes here: a search is much cheaper than to parse it.
    memchr::memmem::find(body, b"url_verification")?;
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    (body.r#type == "url_verification").then(|| ChallengeAnswer {
        status: 200,
        content_type: "text/plain; charset=utf-8",
        body: Bytes::copy_from_slice(body.challenge.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_challenge_is_answered() {
        let body = br#"{"token":"x","challenge":"3eZbrw1aB","type":"url_verification"}"#;
        assert_eq!(slack(body).expect("a challenge").body, "3eZbrw1aB");
        for other in [
            &br#"{"type":"event_callback","challenge":"url_verification"}"#[..],
            br#"{"type":"url_verification"}"#,
            br#"["url_verification"]"#,
            b"url_verification",
            b"",
        ] {
            assert_eq!(slack(other), None);
        }
    }
}
