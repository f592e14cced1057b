use super::{Area, Row};

/// Why the intake refuses a request. Nothing of the request is stored. None says which part of a signature was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// No Webhook at this host and path, or it is not in effect.
    UnknownPath,
    /// A method other than POST (or a challenge's method).
    MethodNotAllowed,
    /// Not HTTP as the RFC has it: differing lengths, bad target, bad header.
    BadRequest,
    /// Too many header fields or bytes.
    HeadersTooLarge,
    /// The head or the body did not arrive in time.
    RequestTimeout,
    /// The body is over the Webhook's limit.
    BodyTooLarge,
    /// The content type is not one that the Webhook takes.
    UnsupportedMediaType,
    /// The source address is not in `limits.sources`.
    SourceNotAllowed,
    /// The Webhook is switched off.
    Inactive,
    /// The Webhook cannot be served because an object it needs is missing or wrong.
    NotConfigured,
    /// Signature, token or credentials are missing or do not verify.
    Unauthenticated,
    /// Verified, but the timestamp is outside the tolerance.
    Stale,
    /// The body does not parse where a pointer or challenge needs it.
    MalformedBody,
    /// The waiting bytes of the tenant or of a Destination are at their quota.
    QuotaExceeded,
    /// The budget of body bytes in flight, or the commit queue, is full.
    Overloaded,
    /// The queue cannot commit: disk full, read-only, or damaged.
    QueueUnavailable,
    /// The process is shutting down.
    Draining,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 17] = [
        Self::UnknownPath,
        Self::MethodNotAllowed,
        Self::BadRequest,
        Self::HeadersTooLarge,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::SourceNotAllowed,
        Self::Inactive,
        Self::NotConfigured,
        Self::Unauthenticated,
        Self::Stale,
        Self::MalformedBody,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::QueueUnavailable,
        Self::Draining,
    ];

    /// Code, status, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, status, meaning, hint) = match self {
            Self::UnknownPath => (
                "UnknownPath",
                404,
                "No webhook is served at this host and path.",
                "Compare the URL with the one that zen status shows for the Webhook.",
            ),
            Self::MethodNotAllowed => {
                ("MethodNotAllowed", 405, "Webhooks are taken by POST.", "Have the source send POST requests.")
            }
            Self::BadRequest => (
                "BadRequest",
                400,
                "The request is not well-formed HTTP.",
                "Check what lies between source and intake; differing Content-Length fields are one cause.",
            ),
            Self::HeadersTooLarge => (
                "HeadersTooLarge",
                431,
                "The request has too many header fields, or they are too large.",
                "Send at most 100 fields and 32 KiB.",
            ),
            Self::RequestTimeout => (
                "RequestTimeout",
                408,
                "The request did not arrive completely in time.",
                "Send it again; if this recurs, look at the network between source and intake.",
            ),
            Self::BodyTooLarge => (
                "BodyTooLarge",
                413,
                "The body is larger than the webhook's limit.",
                "Raise limits.body of the Webhook, or have the source send less.",
            ),
            Self::UnsupportedMediaType => (
                "UnsupportedMediaType",
                415,
                "The webhook does not take this content type.",
                "Add the type to contentTypes of the Webhook, or change it at the source.",
            ),
            Self::SourceNotAllowed => (
                "SourceNotAllowed",
                403,
                "The webhook does not take requests from this address.",
                "Add the address to limits.sources of the Webhook.",
            ),
            Self::Inactive => {
                ("Inactive", 503, "The webhook is switched off.", "Set active: true; the source may try again.")
            }
            Self::NotConfigured => (
                "NotConfigured",
                503,
                "The webhook's configuration is incomplete.",
                "Look at the conditions of the Webhook: zen status or zen check name what is missing.",
            ),
            Self::Unauthenticated => (
                "Unauthenticated",
                401,
                "The request could not be verified.",
                "Compare the secret at the source with the Secret that the Webhook names.",
            ),
            Self::Stale => (
                "Stale",
                401,
                "The request's timestamp is outside the tolerance.",
                "Set the clocks at the source and here, or raise tolerance of the Webhook.",
            ),
            Self::MalformedBody => (
                "MalformedBody",
                400,
                "The body is not what the webhook's scheme requires.",
                "Check the content type and the body that the source sends.",
            ),
            Self::QuotaExceeded => (
                "QuotaExceeded",
                503,
                "Too many events are waiting for delivery.",
                "Bring the Destination back or raise the quota; the source may try again.",
            ),
            Self::Overloaded => (
                "Overloaded",
                503,
                "The intake is at its limit.",
                "The source may try again; add capacity if this lasts.",
            ),
            Self::QueueUnavailable => (
                "QueueUnavailable",
                503,
                "The event could not be stored safely.",
                "Look at the queue's disk: the log names the cause. The source may try again.",
            ),
            Self::Draining => ("Draining", 503, "The intake is shutting down.", "The source may try again."),
        };
        Row { code, area: Area::Intake, status, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// Seconds for `Retry-After`, where the source should try again.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::QueueUnavailable | Self::Overloaded | Self::Draining => Some(5),
            Self::QuotaExceeded | Self::NotConfigured => Some(30),
            Self::Inactive => Some(300),
            _ => None,
        }
    }
}
