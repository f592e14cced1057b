//! Finds a header's name in a stream of bytes that comes in pieces.

/// The header whose presence beside `Transfer-Encoding` is asked.
const NAME: &[u8] = b"content-length";
/// What stands before the name's dash, which is what is searched for: dashes are rarer than letters.
const DASH: usize = 7;

/// Looks for `content-length`, in any case, anywhere: also in a body, which is a false alarm that costs a connection.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The end of what came before, shorter than the name.
    tail: Vec<u8>,
}

impl Scan {
    /// Whether the name ends in these bytes, having begun in them or in those before.
    pub(super) fn finds(&mut self, bytes: &[u8]) -> bool {
        let overlap = NAME.len() - 1;
        self.tail.extend_from_slice(&bytes[..bytes.len().min(overlap)]);
        if contains_name(&self.tail) || contains_name(bytes) {
            return true;
        }
        if bytes.len() > overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            let excess = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..excess);
        }
        false
    }
}

fn contains_name(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'-', bytes).any(|at| {
        at.checked_sub(DASH)
            .and_then(|from| bytes.get(from..from + NAME.len()))
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_is_found_in_any_case() {
        assert!(contains_name(b"POST / HTTP/1.1\r\ncOnTent-LENGTH: 3"));
        assert!(!contains_name(b"content-type: x-length"));
        assert!(!contains_name(b"-length"));
    }

    proptest! {
        /// However the bytes are cut, the answer is that of the whole.
        #[test]
        fn pieces_are_as_good_as_the_whole(
            text in "[a-z-]{0,20}(content-length|Content-Length|content-lengt|ontent-length|content--length)?[a-z-]{0,20}",
            cuts in proptest::collection::vec(0_usize..60, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut scan = Scan::default();
            let found = cuts.windows(2).fold(false, |found, cut| found | scan.finds(&bytes[cut[0]..cut[1]]));
            prop_assert_eq!(found, text.to_lowercase().contains("content-length"));
        }
    }
}
