//! Collecting what is wrong with one object.

use std::fmt::Display;

use zen_model::ObjectReason;

use crate::Problem;

/// Problems in the order they were found, and whether one of them keeps the object from serving.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    blocking: Option<ObjectReason>,
    /// One of those that block stands in the object itself.
    own: bool,
}

impl Problems {
    /// Something without which the object cannot serve.
    pub(crate) fn block(&mut self, reason: ObjectReason, field: impl Into<String>, message: impl Into<String>) {
        self.blocking = self.blocking.or(Some(reason));
        self.own |= !is_about_content(reason);
        self.note(reason, field, message);
    }

    /// Something that is wrong or without effect, but leaves the rest of the object serving.
    pub(crate) fn note(&mut self, reason: ObjectReason, field: impl Into<String>, message: impl Into<String>) {
        let problem = Problem { field: field.into(), reason, message: message.into() };
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// A field of the API that this release does not implement: refused, never ignored.
    pub(crate) fn not_supported(&mut self, field: impl Into<String>, what: &str) {
        let field = field.into();
        let message = format!("{field} ({what}) is not built in this release; remove it");
        self.block(ObjectReason::NotSupported, field, message);
    }

    /// A value, or the reason why it cannot be used.
    pub(crate) fn valid<T, E: Display>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.block(ObjectReason::Invalid, field, format!("{field}: {error}"))).ok()
    }

    /// Why the object does not serve; none: it does.
    pub(crate) const fn blocking(&self) -> Option<ObjectReason> {
        self.blocking
    }

    /// Whether the object would not serve whatever the objects that it names hold.
    pub(crate) const fn is_refused_itself(&self) -> bool {
        self.own
    }

    /// Whether this very field, or one below it, was reported.
    pub(crate) fn has_field(&self, field: &str) -> bool {
        self.list.iter().any(|problem| problem.field.starts_with(field))
    }

    /// The problems. Nothing is read for an object that is refused itself, so that what could not be read is no news.
    pub(crate) fn into_list(mut self) -> Vec<Problem> {
        if self.own {
            self.list.retain(|problem| problem.reason != ObjectReason::RefPending);
        }
        self.list
    }
}

/// Whether it depends on what a Secret or `ConfigMap` holds, which changes without the object.
const fn is_about_content(reason: ObjectReason) -> bool {
    matches!(
        reason,
        ObjectReason::RefNotFound
            | ObjectReason::RefPending
            | ObjectReason::KeyNotFound
            | ObjectReason::EmptySecret
            | ObjectReason::BadSecret
            | ObjectReason::BadCertificate
            | ObjectReason::ClusterNotFound
            | ObjectReason::ClusterDisabled
            | ObjectReason::Lock(_)
    )
}
