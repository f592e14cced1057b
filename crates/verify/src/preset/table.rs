//! The table (W-03). A new provider is a row here, a sample in `samples.rs`, and vectors in `tests/it`.

use std::borrow::Cow::Borrowed;

use super::Source::{Form, Header, Headers, Pointer};
use super::samples;
use super::{Answer, EventDefaults, Kind, Preset, Source};
use crate::Algorithm::{Ed25519, HmacSha1, HmacSha256};
use crate::TimestampFormat::{Unix, UnixMillis};
use crate::scheme::{Place, Scheme, SecretForm, Signature, Time, Token, TokenForm};
use crate::{Challenge, Encoding};

const POST: &[&str] = &["POST"];
const JSON: &[&str] = &["application/json"];
const JSON_OR_FORM: &[&str] = &["application/json", "application/x-www-form-urlencoded"];

/// HMAC-SHA256 of the body in hexadecimal, with nothing around it: what most rows differ from in a field or two.
const PLAIN: Signature<'static> = Signature {
    header: "",
    separator: None,
    labels: &[("", HmacSha256)],
    label: None,
    encoding: Encoding::Hex,
    time: Time::None,
    content: "{body}",
    secret: SecretForm::Bytes,
    either_port: false,
};

/// The Standard Webhooks scheme, whose headers come under two prefixes.
const STANDARD: Signature<'static> = Signature {
    header: "webhook-signature",
    separator: Some(b' '),
    labels: &[("v1,", HmacSha256), ("v1a,", Ed25519)],
    encoding: Encoding::Base64,
    time: Time::Header("webhook-timestamp", Unix),
    content: "{header:webhook-id}.{timestamp}.{body}",
    secret: SecretForm::Standard,
    ..PLAIN
};

const fn header(name: &'static str) -> Source {
    Header(Borrowed(name))
}

const fn pointer(pointer: &'static str) -> Source {
    Pointer(Borrowed(pointer))
}

const fn event(r#type: Option<Source>, id: Option<Source>, source: Option<&'static str>) -> EventDefaults {
    EventDefaults { r#type, id, source }
}

pub(super) static PRESETS: &[Preset] = &[
    Preset {
        name: "github",
        title: "GitHub",
        content_types: JSON_OR_FORM,
        event: event(Some(header("x-github-event")), Some(header("x-github-delivery")), Some("https://github.com")),
        // A redelivery repeats the id, so it is recognised (W-07).
        idempotency: Some(header("x-github-delivery")),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        notes: "`X-Hub-Signature` (SHA-1) is not looked at: a request that carries nothing else is refused.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "x-hub-signature-256",
            labels: &[("sha256=", HmacSha256)],
            ..PLAIN
        })]),
        secret_headers: &["x-hub-signature"],
        sample: samples::GITHUB,
    },
    Preset {
        name: "gitlab",
        title: "GitLab",
        content_types: JSON,
        event: event(Some(header("x-gitlab-event")), Some(Headers(&["webhook-id", "idempotency-key"])), None),
        // X-Gitlab-Event-UUID is no key: a chain of recursive webhooks shares it.
        idempotency: Some(Headers(&["webhook-id", "idempotency-key"])),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://docs.gitlab.com/user/project/integrations/webhooks/",
        notes: "A secret token is compared with `X-Gitlab-Token`; a signing token (`whsec_…`) verifies the signature.",
        kind: Kind::Schemes(&[
            Scheme::Signature(Signature {
                labels: &[("v1,", HmacSha256)],
                secret: SecretForm::StandardOnly,
                ..STANDARD
            }),
            Scheme::Token(Token { place: Place::Header("x-gitlab-token"), secret: TokenForm::PlainNotStandard }),
        ]),
        secret_headers: &[],
        sample: samples::GITLAB,
    },
    Preset {
        name: "stripe",
        title: "Stripe",
        content_types: JSON,
        event: event(Some(pointer("/type")), Some(pointer("/id")), Some("https://stripe.com")),
        idempotency: Some(pointer("/id")),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://docs.stripe.com/webhooks/signature",
        notes: "The whole `whsec_…` string is the secret.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "stripe-signature",
            separator: Some(b','),
            labels: &[("v1=", HmacSha256)],
            time: Time::Label("t="),
            content: "{timestamp}.{body}",
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::STRIPE,
    },
    Preset {
        name: "slack",
        title: "Slack",
        content_types: JSON_OR_FORM,
        event: event(Some(pointer("/event/type")), Some(pointer("/event_id")), Some("https://slack.com")),
        // A retry (X-Slack-Retry-Num) repeats the event id.
        idempotency: Some(pointer("/event_id")),
        answer: Answer::Json(200),
        methods: POST,
        challenge: Some(Challenge::SlackUrlVerification),
        docs: "https://docs.slack.dev/authentication/verifying-requests-from-slack/",
        notes: "The secret is the app's signing secret. `url_verification` is answered once it is verified.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "x-slack-signature",
            labels: &[("v0=", HmacSha256)],
            time: Time::Header("x-slack-request-timestamp", Unix),
            content: "v0:{timestamp}:{body}",
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::SLACK,
    },
    Preset {
        name: "shopify",
        title: "Shopify",
        content_types: &["application/json", "application/xml"],
        event: event(
            Some(Headers(&["x-shopify-topic", "shopify-topic"])),
            Some(Headers(&["x-shopify-webhook-id", "shopify-webhook-id"])),
            Some("https://shopify.com"),
        ),
        // Not the event id: deliveries of several topics may share one.
        idempotency: Some(Headers(&["x-shopify-webhook-id", "shopify-webhook-id"])),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
        notes: "The secret is the app's client secret. Headers with and without `X-` are taken.",
        kind: Kind::Schemes(&[
            Scheme::Signature(Signature { header: "x-shopify-hmac-sha256", encoding: Encoding::Base64, ..PLAIN }),
            Scheme::Signature(Signature { header: "shopify-hmac-sha256", encoding: Encoding::Base64, ..PLAIN }),
        ]),
        secret_headers: &[],
        sample: samples::SHOPIFY,
    },
    Preset {
        name: "twilio",
        title: "Twilio",
        content_types: &["application/x-www-form-urlencoded", "application/json"],
        event: event(
            Some(Form(Borrowed("EventType"))),
            Some(header("i-twilio-idempotency-token")),
            Some("https://twilio.com"),
        ),
        idempotency: Some(header("i-twilio-idempotency-token")),
        // Twilio runs what it is answered: an empty document does nothing, JSON would be its error 12300.
        answer: Answer::Fixed { status: 200, content_type: "text/xml", body: "<Response/>" },
        methods: POST,
        challenge: None,
        docs: "https://www.twilio.com/docs/usage/webhooks/webhooks-security",
        notes: "The secret is the account's auth token. The URL is signed: set `publicUrl` where an ingress changes host \
                or path. A body that is no form must be named by `bodySHA256` in the query, as Twilio does for JSON.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "x-twilio-signature",
            labels: &[("", HmacSha1)],
            encoding: Encoding::Base64,
            content: "{url}{form}",
            either_port: true,
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::TWILIO,
    },
    Preset {
        name: "standard-webhooks",
        title: "Standard Webhooks, Svix",
        content_types: JSON,
        event: event(Some(pointer("/type")), Some(Headers(&["webhook-id", "svix-id"])), None),
        idempotency: Some(Headers(&["webhook-id", "svix-id"])),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://www.standardwebhooks.com/",
        notes: "Headers `webhook-*` and `svix-*`; secrets `whsec_…` (v1) and public keys `whpk_…` (v1a).",
        kind: Kind::Schemes(&[
            Scheme::Signature(STANDARD),
            Scheme::Signature(Signature {
                header: "svix-signature",
                time: Time::Header("svix-timestamp", Unix),
                content: "{header:svix-id}.{timestamp}.{body}",
                ..STANDARD
            }),
        ]),
        secret_headers: &[],
        sample: samples::STANDARD_WEBHOOKS,
    },
    Preset {
        name: "bitbucket",
        title: "Bitbucket",
        content_types: JSON,
        // Cloud sends X-Request-UUID, Data Center X-Request-Id.
        event: event(Some(header("x-event-key")), Some(Headers(&["x-request-uuid", "x-request-id"])), None),
        idempotency: Some(Headers(&["x-request-uuid", "x-request-id"])),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/",
        notes: "Cloud and Data Center.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "x-hub-signature",
            labels: &[("sha256=", HmacSha256)],
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::BITBUCKET,
    },
    Preset {
        name: "pagerduty",
        title: "PagerDuty",
        content_types: JSON,
        event: event(Some(pointer("/event/event_type")), Some(pointer("/event/id")), Some("https://pagerduty.com")),
        idempotency: Some(pointer("/event/id")),
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs: "https://developer.pagerduty.com/docs/verifying-webhook-signatures",
        notes: "Webhooks v3. During a rotation PagerDuty sends one signature for each secret.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "x-pagerduty-signature",
            separator: Some(b','),
            labels: &[("v1=", HmacSha256)],
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::PAGERDUTY,
    },
    Preset {
        name: "linear",
        title: "Linear",
        content_types: JSON,
        event: event(Some(header("linear-event")), Some(header("linear-delivery")), Some("https://linear.app")),
        idempotency: Some(header("linear-delivery")),
        // Linear counts any other status as a failure.
        answer: Answer::Json(200),
        methods: POST,
        challenge: None,
        docs: "https://linear.app/developers/webhooks",
        notes: "The timestamp is `webhookTimestamp` in the body, which is signed; `Linear-Timestamp` is not looked at.",
        kind: Kind::Schemes(&[Scheme::Signature(Signature {
            header: "linear-signature",
            time: Time::Body("/webhookTimestamp", UnixMillis),
            ..PLAIN
        })]),
        secret_headers: &[],
        sample: samples::LINEAR,
    },
    other(
        "generic",
        "Generic signature",
        "",
        Kind::Generic,
        "Algorithm, header, prefix, encoding, signed content and timestamp are `verification.generic`. For `ed25519` \
         and `ecdsa-p256-sha256` the secret is the public key, as PEM or base64.",
    ),
    other(
        "basic",
        "HTTP basic credentials",
        "https://www.rfc-editor.org/rfc/rfc7617",
        Kind::Schemes(&[Scheme::Token(Token { place: Place::Authorization("Basic"), secret: TokenForm::Basic })]),
        "The Secret's keys `username` and `password`.",
    ),
    other(
        "bearer",
        "Bearer token",
        "https://www.rfc-editor.org/rfc/rfc6750#section-2.1",
        Kind::Schemes(&[Scheme::Token(Token { place: Place::Authorization("Bearer"), secret: TokenForm::Plain })]),
        "",
    ),
    other("apiKey", "API key", "", Kind::ApiKey, "In the header or query parameter that `verification.apiKey` names."),
    other(
        "none",
        "Nothing",
        "",
        Kind::Open,
        "Anybody who can reach the URL may send. Only where something else proves the source.",
    ),
];

/// A row of a scheme that is no provider's.
const fn other(name: &'static str, title: &'static str, docs: &'static str, kind: Kind, notes: &'static str) -> Preset {
    Preset {
        name,
        title,
        content_types: &[],
        event: event(None, None, None),
        idempotency: None,
        answer: Answer::Accepted,
        methods: POST,
        challenge: None,
        docs,
        notes,
        kind,
        secret_headers: &[],
        sample: samples::OTHER,
    }
}
