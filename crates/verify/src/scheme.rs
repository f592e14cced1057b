//! How a request proves its origin, as data. The preset table is written in these types; `generic` and `apiKey` make
//! the same from a Webhook's fields, so that there is one engine.

use crate::{Algorithm, Encoding, TimestampFormat};

/// One way to prove the origin. A preset may have several; the first whose header (or parameter) is in the request and
/// for which a secret is configured decides alone: there is no falling back after a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme<'a> {
    /// A MAC or signature over parts of the request.
    Signature(Signature<'a>),
    /// A shared secret that is sent as it is.
    Token(Token<'a>),
}

/// A MAC or an asymmetric signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature<'a> {
    /// Header that carries one or several signatures, lower case.
    pub(crate) header: &'a str,
    /// What separates several values in that header.
    pub(crate) separator: Option<u8>,
    /// What stands before a signature, and which algorithm that means. In a list, values with another label are passed
    /// over (`v0=` of Stripe); without a separator they are refused.
    pub(crate) labels: &'a [(&'a str, Algorithm)],
    /// One more label, for `generic`, whose label is not static.
    pub(crate) label: Option<(&'a str, Algorithm)>,
    /// How the signature is written.
    pub(crate) encoding: Encoding,
    /// Where the signed timestamp is.
    pub(crate) time: Time<'a>,
    /// What is signed, as a template (see `template.rs`).
    pub(crate) content: &'a str,
    /// What the configured secret looks like.
    pub(crate) secret: SecretForm,
    /// Whether a URL is tried without and with its port, as Twilio's own libraries do because its back ends differ.
    pub(crate) either_port: bool,
}

impl<'a> Signature<'a> {
    /// All labels.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&'a str, Algorithm)> {
        self.labels.iter().copied().chain(self.label)
    }

    /// The algorithm of plain keys: that of the first label.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.labels().next().map_or(Algorithm::HmacSha256, |(_, algorithm)| algorithm)
    }

    /// What stands before a signature of this algorithm.
    pub(crate) fn label_of(&self, algorithm: Algorithm) -> &'a str {
        self.labels().find(|(_, of)| *of == algorithm).map_or("", |(label, _)| label)
    }
}

/// Where the signed timestamp is. Each of these is covered by the signature, or it would protect nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time<'a> {
    /// The scheme has none.
    None,
    /// In a header of its own.
    Header(&'a str, TimestampFormat),
    /// In the signature header with this label (Stripe's `t=`), as Unix seconds.
    Label(&'a str),
    /// In the JSON body at this pointer, read after the signature verified.
    Body(&'a str, TimestampFormat),
}

/// How the secret's bytes become a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretForm {
    /// The bytes are the key.
    Bytes,
    /// Standard Webhooks: `whsec_` + base64 or bare base64 is an HMAC key, `whpk_` + base64 an Ed25519 public key.
    Standard,
    /// Only `whsec_…` is for this scheme; other secrets are for the next one (GitLab has both kinds).
    StandardOnly,
    /// A public key.
    PublicKey,
}

/// A shared secret sent as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    /// Where.
    pub(crate) place: Place<'a>,
    /// What the configured secret looks like.
    pub(crate) secret: TokenForm,
}

/// Where a token is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The whole value of a header, lower case.
    Header(&'a str),
    /// `Authorization` with this scheme word (RFC 9110 section 11.1, compared without case).
    Authorization(&'a str),
    /// A query parameter.
    Query(&'a str),
}

/// How the secret's bytes become the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenForm {
    /// As they are.
    Plain,
    /// As they are, but `whsec_…` belongs to another scheme of the preset.
    PlainNotStandard,
    /// `username:password`, sent as base64 (RFC 7617).
    Basic,
}
