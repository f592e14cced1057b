//! What `zen check` prints: one finding per problem, with its place.

use std::fmt;
use std::path::PathBuf;

use zen_model::ObjectReason;

/// One problem or warning of one object or file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the folder; empty where the finding belongs to no file.
    pub file: PathBuf,
    /// Line, counted from 1; 0 where the finding belongs to no line.
    pub line: u32,
    /// `Webhook ns/name`; empty where it is about the file itself.
    pub object: String,
    /// Path of the field inside the object; empty where it is about the whole.
    pub field: String,
    /// What is wrong, in a sentence that quotes no secret.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Stable code.
    pub reason: ObjectReason,
    /// The object is in effect all the same.
    pub warning: bool,
}

impl Finding {
    /// A finding about a file; the hint is the general one of its reason.
    pub(crate) fn new(file: impl Into<PathBuf>, line: u32, reason: ObjectReason, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            object: String::new(),
            field: String::new(),
            reason,
            message: message.into(),
            hint: reason.row().hint.to_owned(),
            warning: reason.is_warning(),
        }
    }

    /// The same about an object and one of its fields.
    #[must_use]
    pub(crate) fn about(self, kind: &str, key: &dyn fmt::Display, field: impl Into<String>) -> Self {
        Self { object: format!("{kind} {key}"), field: field.into(), ..self }
    }
}

/// `FILE:LINE  Kind ns/name  field  Reason  message  (hint: …)`, without what is empty.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [self.object.as_str(), &self.field, self.reason.code(), &self.message] {
            if !part.is_empty() {
                write!(f, "  {part}")?;
            }
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "  (hint: {})", self.hint) }
    }
}
