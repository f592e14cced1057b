//! What went wrong in an attempt, in a fixed vocabulary: never text of the target's, so that it can stand in logs,
//! metrics and histories, and cross the link as a number.

/// Why no usable answer came. The discriminant crosses the link: it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// Nobody listens at the address.
    ConnectRefused = 1,
    /// No connection within the connect timeout, TLS included.
    ConnectTimeout = 2,
    /// The address cannot be reached.
    ConnectFailed = 3,
    /// The name has no address.
    NameNotFound = 4,
    /// The resolver did not answer: our own side.
    ResolverFailed = 5,
    /// The TLS handshake failed.
    TlsFailed = 6,
    /// The target's certificate does not verify.
    CertificateInvalid = 7,
    /// The guard refused every address of the target (D-07).
    AddressNotAllowed = 8,
    /// The request timeout ran out.
    RequestTimeout = 9,
    /// The connection ended before an answer came.
    ConnectionLost = 10,
    /// The answer is not HTTP/1.1.
    AnswerMalformed = 11,
    /// Descriptors, ports or memory of our own side are used up.
    OutOfResources = 12,
    /// The response was longer than `maxResponse`; the status counts.
    ResponseCut = 13,
    /// The response body did not arrive whole; the status counts.
    ResponseIncomplete = 14,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 14] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::NameNotFound,
        Self::ResolverFailed,
        Self::TlsFailed,
        Self::CertificateInvalid,
        Self::AddressNotAllowed,
        Self::RequestTimeout,
        Self::ConnectionLost,
        Self::AnswerMalformed,
        Self::OutOfResources,
        Self::ResponseCut,
        Self::ResponseIncomplete,
    ];

    /// The words for people, logs and [`crate::settle::Attempt::error`].
    pub const fn words(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect refused",
            Self::ConnectTimeout => "connect timeout",
            Self::ConnectFailed => "connect failed",
            Self::NameNotFound => "name not found",
            Self::ResolverFailed => "resolver failed",
            Self::TlsFailed => "TLS handshake failed",
            Self::CertificateInvalid => "certificate not valid",
            Self::AddressNotAllowed => "address not allowed",
            Self::RequestTimeout => "request timeout",
            Self::ConnectionLost => "connection lost",
            Self::AnswerMalformed => "malformed answer",
            Self::OutOfResources => "out of descriptors",
            Self::ResponseCut => "response too long",
            Self::ResponseIncomplete => "response incomplete",
        }
    }

    /// The fault of a number that crossed the link.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u32 == number)
    }

    /// The fault of [`Fault::words`].
    pub fn from_words(words: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.words() == words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_name_one_fault_each() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_number(fault as u32), Some(fault));
            assert_eq!(Fault::from_words(fault.words()), Some(fault));
        }
        assert_eq!(Fault::from_number(0), None);
    }
}
