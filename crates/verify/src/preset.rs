//! The presets: what a provider's webhooks look like, as rows of one table.

mod reference;
mod samples;
mod table;

use std::borrow::Cow;

pub use reference::reference_markdown;
pub(crate) use samples::SampleRow;

use crate::Challenge;
use crate::scheme::{Scheme, Time};

/// A row of the preset table.
#[derive(Debug)]
pub struct Preset {
    /// What `verification.provider` says.
    pub name: &'static str,
    /// For people, e.g. `GitHub`.
    pub title: &'static str,
    /// Content types that the provider sends (type/subtype in lower case); empty: any.
    pub content_types: &'static [&'static str],
    /// Where type, id and source come from unless the Webhook says otherwise.
    pub event: EventDefaults,
    /// Where the idempotency key comes from unless the Webhook says otherwise; none: no default idempotency.
    pub idempotency: Option<Source>,
    /// What the provider wants to hear when the event is stored.
    pub answer: Answer,
    /// The HTTP methods that the provider uses.
    pub methods: &'static [&'static str],
    /// The challenge by which the provider checks the endpoint.
    pub challenge: Option<Challenge>,
    /// The provider's documentation of the scheme; empty for the schemes that are no provider's.
    pub docs: &'static str,
    /// What a user has to know, in a sentence or two of Markdown.
    pub notes: &'static str,
    pub(crate) kind: Kind,
    /// Headers with signatures beside those that the schemes name (GitHub's SHA-1), in lower case.
    pub(crate) secret_headers: &'static [&'static str],
    pub(crate) sample: SampleRow,
}

/// Where a preset's schemes come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The row itself.
    Schemes(&'static [Scheme<'static>]),
    /// `verification.generic`.
    Generic,
    /// `verification.apiKey`.
    ApiKey,
    /// Nothing is verified: explicit, never a default.
    Open,
}

impl Preset {
    /// Whether its scheme signs a timestamp; false for `generic`, where it depends on the Webhook.
    pub fn has_timestamp(&self) -> bool {
        let Kind::Schemes(schemes) = self.kind else { return false };
        schemes.iter().any(|scheme| matches!(scheme, Scheme::Signature(s) if !matches!(s.time, Time::None)))
    }

    /// Whether it needs secrets: all but `none`.
    pub fn needs_secret(&self) -> bool {
        !matches!(self.kind, Kind::Open)
    }
}

/// Where a value is found in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header, name in lower case.
    Header(Cow<'static, str>),
    /// The first of these headers that is there, names in lower case: for providers that send one of two families.
    Headers(&'static [&'static str]),
    /// RFC 6901 pointer into the JSON body.
    Pointer(Cow<'static, str>),
    /// A field of a form body.
    Form(Cow<'static, str>),
    /// Always this.
    Value(Cow<'static, str>),
}

/// Preset's defaults for `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDefaults {
    /// CloudEvents type; none: `<preset>.event`.
    pub r#type: Option<Source>,
    /// CloudEvents id; none: generated.
    pub id: Option<Source>,
    /// CloudEvents source, a constant URI such as `https://github.com`; none: the Webhook's URL path.
    pub source: Option<&'static str>,
}

/// What the source hears when its event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202 with `{"id": "…"}`.
    Accepted,
    /// This status with the same JSON.
    Json(u16),
    /// This status and body, for providers that read them (Twilio: 200 with an empty document).
    Fixed {
        /// HTTP status.
        status: u16,
        /// Content type.
        content_type: &'static str,
        /// Body.
        body: &'static str,
    },
}

/// All presets, in the order of the documentation. `generic`, `basic`, `bearer`, `apiKey` and `none` are among them.
pub fn presets() -> &'static [Preset] {
    table::PRESETS
}

/// The preset of a name; none is `UnknownProvider`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::HeaderName;

    use super::*;
    use crate::template;

    /// A row is data, so what the compiler cannot check is checked here.
    #[test]
    fn every_row_is_sound() {
        let mut names = BTreeSet::new();
        for preset in presets() {
            let name = preset.name;
            assert!(names.insert(name), "{name} stands twice");
            assert!(!preset.title.is_empty() && !preset.methods.is_empty(), "{name}");
            assert!(preset.notes.is_empty() || preset.notes.ends_with('.'), "{name}");
            let sources = [&preset.event.r#type, &preset.event.id, &preset.idempotency];
            for source in sources.into_iter().flatten() {
                match source {
                    Source::Header(header) => lower(header),
                    Source::Headers(headers) => headers.iter().for_each(|header| lower(header)),
                    Source::Pointer(pointer) => assert!(pointer.starts_with('/'), "{name}: {pointer}"),
                    Source::Form(_) | Source::Value(_) => {}
                }
            }
            preset.secret_headers.iter().for_each(|header| lower(header));
            let Kind::Schemes(schemes) = preset.kind else { continue };
            assert!(preset.docs.starts_with("https://"), "{name}");
            for scheme in schemes {
                let Scheme::Signature(signature) = scheme else { continue };
                lower(signature.header);
                let parts = template::parse(signature.content).unwrap();
                assert!(parts.contains(&template::Part::Body) || parts.contains(&template::Part::Form), "{name}");
                assert!(signature.labels().count() > 0, "{name}");
                let signs_time = parts.contains(&template::Part::Timestamp);
                match signature.time {
                    Time::Header(header, _) => {
                        lower(header);
                        let header = template::Part::Header(HeaderName::try_from(header).unwrap());
                        assert!(signs_time || parts.contains(&header), "{name}");
                    }
                    Time::Label(_) => assert!(signs_time && signature.separator.is_some(), "{name}"),
                    Time::None | Time::Body(..) => assert!(!signs_time, "{name}"),
                }
            }
        }
        assert!(preset("GitHub").is_none() && preset("").is_none() && preset("unknown").is_none());
    }

    fn lower(header: &str) {
        assert_eq!(HeaderName::try_from(header).unwrap().as_str(), header);
    }
}
