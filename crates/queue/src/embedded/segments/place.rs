//! Where a record lies, as it stands in the table in the record's stead.

/// A record's place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub segment: u64,
    pub start: u64,
    pub length: u32,
}

/// No sealed record begins with it: theirs is the version of the envelope, which counts from 1.
const MARK: u8 = 0;

impl Place {
    /// Bytes of the encoded form.
    pub(crate) const BYTES: usize = 1 + 8 + 8 + 4;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [MARK; Self::BYTES];
        bytes[1..9].copy_from_slice(&self.segment.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.start.to_be_bytes());
        bytes[17..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// None: the bytes are a record themselves.
    pub(crate) fn decode(stored: &[u8]) -> Option<Self> {
        let [MARK, rest @ ..] = stored else { return None };
        let (segment, rest) = rest.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let length = rest.try_into().ok()?;
        Some(Self {
            segment: u64::from_be_bytes(*segment),
            start: u64::from_be_bytes(*start),
            length: u32::from_be_bytes(length),
        })
    }

    pub(crate) fn end(self) -> u64 {
        self.start.saturating_add(u64::from(self.length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_comes_back(segment in 0_u64.., start in 0_u64.., length in 0_u32..) {
            let place = Place { segment, start, length };
            prop_assert_eq!(Place::decode(&place.encode()), Some(place));
        }

        #[test]
        fn nothing_else_is_a_place(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let is = bytes.len() == Place::BYTES && bytes[0] == 0;
            prop_assert_eq!(Place::decode(&bytes).is_some(), is);
        }

        #[test]
        fn no_sealed_record_is_a_place(plain in proptest::collection::vec(any::<u8>(), 0..40)) {
            let aad = zen_seal::Aad::new("test", &[]);
            prop_assert_eq!(Place::decode(&zen_seal::Keyring::ephemeral().seal(&aad, &plain)), None);
        }
    }
}
