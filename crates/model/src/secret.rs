//! Secret bytes that cannot be printed by accident and are wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// Key material, a token or a password. `Debug` shows no byte and no length; memory is zeroed on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes; the caller should hold no other copy.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Name the use in the line that calls this; never format the result.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it: an empty secret verifies nothing and must be refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }
}
