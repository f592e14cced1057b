//! Strings with a form: each type is a plain string to serde, and a bounded, patterned one to the API server.
//!
//! Deserializing checks nothing, on purpose: an object that a newer schema admitted must not stall an older pod's watch.
//! [`crate::validate()`] and the API server check; what is used is parsed again where it is compiled.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One DNS label.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// DNS labels with dots between: names of objects and of hosts.
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

macro_rules! text {
    ($($(#[$doc:meta])* $name:ident { $($keyword:literal : $value:expr),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", $($keyword: $value),+ })
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    )+};
}

text! {
    /// Name of an object.
    ObjectName { "maxLength": 253, "pattern": SUBDOMAIN, "x-zen-hint": "a lower-case object name such as ci or ci-token" }

    /// Name of a namespace.
    NamespaceName { "maxLength": 63, "pattern": LABEL, "x-zen-hint": "a namespace such as team-a" }

    /// Key inside a Secret, ConfigMap or ZenLock.
    DataKey {
        "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$",
        "x-zen-hint": "letters, digits, hyphen, underscore and dot, as a Secret's keys",
    }

    /// Host name without a port, lower case.
    HostName { "maxLength": 253, "pattern": SUBDOMAIN, "x-zen-hint": "a host name in lower case, without scheme and port" }

    /// Absolute path of a URL, undecoded, without a query.
    UrlPath {
        "maxLength": 512, "pattern": "^/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$",
        "x-zen-hint": "a path that begins with /, without query, other characters percent-encoded",
    }

    /// Absolute path of a URL with an optional query.
    PathAndQuery {
        "maxLength": 512, "pattern": "^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$",
        "x-zen-hint": "a path that begins with /, other characters percent-encoded",
    }

    /// Name of a verification preset.
    ProviderName {
        "maxLength": 63, "pattern": "^[a-z][a-zA-Z0-9-]*$",
        "x-zen-hint": "a preset such as github, or generic, basic, bearer, apiKey, none",
    }

    /// A public https URL.
    HttpsUrl {
        "maxLength": 512, "pattern": "^https://[A-Za-z0-9.:_\\[\\]-]+(/[!-\"$-~]*)?$",
        "x-zen-hint": "https://HOST/PATH, without user, password and fragment",
    }

    /// URL of a target.
    TargetUrl {
        "maxLength": 512, "pattern": "^https?://[A-Za-z0-9.:_\\[\\]-]+([/?][!-\"$-~]*)?$",
        "x-zen-hint": "https://HOST/PATH, without user, password and fragment",
    }

    /// Name of an HTTP header, any case (RFC 9110 token).
    HeaderName {
        "maxLength": 128, "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        "x-zen-hint": "a header name such as X-Signature",
    }

    /// Value of an HTTP header: printable ASCII.
    HeaderValue { "maxLength": 512, "pattern": "^[ -~]*$", "x-zen-hint": "printable ASCII without line breaks" }

    /// Pointer into a JSON document (RFC 6901).
    JsonPointer {
        "maxLength": 512, "pattern": "^(/([^~/]|~[01])*)+$",
        "x-zen-hint": "an RFC 6901 pointer such as /repository/full_name",
    }

    /// Type of an event.
    EventType { "minLength": 1, "maxLength": 512 }

    /// URI reference (CloudEvents `source`).
    UriReference { "maxLength": 512, "pattern": "^[!-~]+$", "x-zen-hint": "a URI such as https://github.com/acme" }

    /// Media type without parameters.
    MediaType {
        "maxLength": 128, "pattern": "^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$",
        "x-zen-hint": "type/subtype without parameters, such as application/json",
    }

    /// Name of a parameter in a query.
    QueryName { "maxLength": 128, "pattern": "^[A-Za-z0-9._~-]+$", "x-zen-hint": "letters, digits and . _ ~ -" }

    /// Any text of up to 512 characters.
    ShortText { "maxLength": 512 }

    /// Template of what a sender signs.
    SignedContent { "minLength": 1, "maxLength": 512 }

    /// Version of a payload schema.
    SchemaVersion {
        "maxLength": 63, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "x-zen-hint": "a version such as 2026-01",
    }

    /// Value of a label.
    LabelValue { "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$" }

    /// ASCII-armored age file (Z-01).
    AgeFile {
        "maxLength": 1_048_576, "pattern": "^-----BEGIN AGE ENCRYPTED FILE-----\\r?\\n",
        "x-zen-hint": "ciphertext as `zen lock encrypt` or `age --armor` writes it",
    }

    /// Public key of age: X25519.
    AgeRecipient {
        "maxLength": 62, "pattern": "^age1[02-9ac-hj-np-z]{58}$",
        "x-zen-hint": "a public key as `zen lock pubkey` prints it",
    }

    /// Free identifier, such as a counter or a date.
    BundleId { "maxLength": 63, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" }
}

text! {
    /// Range of addresses.
    Cidr {
        "maxLength": 64,
        "x-kubernetes-validations": crate::rules::schema(crate::rules::CIDR),
        "x-zen-hint": "an address range such as 10.20.0.0/16",
    }

    /// Name of a received header that may be forwarded.
    ForwardedHeader {
        "maxLength": 128, "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        "x-kubernetes-validations": crate::rules::schema(crate::rules::FORWARDED_HEADER),
        "x-zen-hint": "a header name such as X-GitHub-Event",
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As manifests write it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}
pub(crate) use words;
