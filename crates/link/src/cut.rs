//! Cutting leases into frames.

use crate::frame::{FromIngester, Lease};

/// A frame is cut when its records reach about so many bytes: large enough to share the cost of a frame, small enough
/// that a proceed or a small event behind it does not wait long.
pub const TARGET_BYTES: usize = 1 << 20;
/// A frame is cut at so many leases.
pub const MAX_LEASES: usize = 512;

/// Collects leases and hands out a frame when one is full. A record larger than [`TARGET_BYTES`] gets a frame to itself
/// or ends one; no lease is ever split.
#[derive(Debug, Default)]
pub struct FrameCutter {
    leases: Vec<Lease>,
    bytes: usize,
}

impl FrameCutter {
    /// Adds a lease; returns the frame that is full.
    pub fn push(&mut self, lease: Lease) -> Option<FromIngester> {
        let full = if self.bytes + lease.record.len() > TARGET_BYTES { self.finish() } else { None };
        self.bytes += lease.record.len();
        self.leases.push(lease);
        // At most one of the two: what was just handed out left this one empty.
        full.or_else(|| if self.leases.len() >= MAX_LEASES { self.finish() } else { None })
    }

    /// What is left; none when nothing is.
    pub fn finish(&mut self) -> Option<FromIngester> {
        if self.leases.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(FromIngester { leases: std::mem::take(&mut self.leases), ..FromIngester::default() })
    }

    /// Cuts a batch into frames.
    pub fn cut(leases: impl IntoIterator<Item = Lease>) -> impl Iterator<Item = FromIngester> {
        let mut leases = leases.into_iter();
        let mut cutter = Self::default();
        std::iter::from_fn(move || leases.by_ref().find_map(|lease| cutter.push(lease)).or_else(|| cutter.finish()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn lease(seq: u64, size: usize) -> Lease {
        let token = crate::frame::Token { seq, ..Default::default() };
        Lease { token, record: Bytes::from(vec![0; size]), ..Lease::default() }
    }

    fn cut(sizes: &[usize]) -> Vec<Vec<u64>> {
        let leases = sizes.iter().zip(0..).map(|(size, seq)| lease(seq, *size));
        FrameCutter::cut(leases).map(|frame| frame.leases.iter().map(|lease| lease.token.seq).collect()).collect()
    }

    #[test]
    fn cuts_by_bytes_and_keeps_order() {
        let half = TARGET_BYTES / 2;
        assert_eq!(cut(&[]), Vec::<Vec<u64>>::new());
        assert_eq!(cut(&[0]), [[0]]);
        assert_eq!(cut(&[half, half, 1, half]), [vec![0, 1], vec![2, 3]]);
        assert_eq!(cut(&[1, 3 * TARGET_BYTES, 1]), [[0], [1], [2]]);
    }

    #[test]
    fn cuts_by_count() {
        let frames = cut(&vec![1; 2 * MAX_LEASES + 1]);
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LEASES, MAX_LEASES, 1]);
        assert!(frames.concat().into_iter().eq(0..=2 * MAX_LEASES as u64));
    }
}
