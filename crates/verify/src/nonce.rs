//! Random nonces, drawn from the generator in blocks: it costs about the same for 16 bytes as for hundreds.

use std::cell::RefCell;

use aws_lc_rs::rand;
use zeroize::Zeroize;

/// A nonce of `X-Zen-Signature`.
pub(crate) type Nonce = [u8; 16];

/// Nonces drawn at once.
const DRAWN: usize = 32;

thread_local! {
    /// Of each thread its own. No part of this program forks without a new program behind it.
    static BLOCK: RefCell<Block> = const { RefCell::new(Block { bytes: [0; 16 * DRAWN], next: 16 * DRAWN }) };
}

/// Random bytes, each given out once and overwritten as it is. Whatever is left is overwritten when the thread ends.
struct Block {
    bytes: [u8; 16 * DRAWN],
    /// Where the unused ones begin.
    next: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Block {
    fn take(&mut self) -> Nonce {
        if self.next >= self.bytes.len() {
            fill(&mut self.bytes);
            self.next = 0;
        }
        let mut nonce = [0; 16];
        let drawn = &mut self.bytes[self.next..self.next + 16];
        nonce.copy_from_slice(drawn);
        drawn.zeroize();
        self.next += 16;
        nonce
    }
}

/// A fresh one.
pub(crate) fn nonce() -> Nonce {
    // At the end of a thread its block may be gone already.
    BLOCK.try_with(|block| block.borrow_mut().take()).unwrap_or_else(|_| {
        let mut nonce = [0; 16];
        fill(&mut nonce);
        nonce
    })
}

fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("aws-lc aborts the process before its generator returns no randomness");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_nonce_comes_twice_on_any_thread_and_no_used_byte_stays() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..1000).map(|_| nonce()).collect::<Vec<_>>())).collect();
        let all: BTreeSet<Nonce> = threads.into_iter().flat_map(|thread| thread.join().expect("ends")).collect();
        assert_eq!(all.len(), 4000);
        let mut block = Block { bytes: [0; 16 * DRAWN], next: 16 * DRAWN };
        for taken in 1..=DRAWN {
            assert_ne!(block.take(), [0; 16]);
            assert!(block.bytes[..16 * taken].iter().all(|byte| *byte == 0));
        }
        assert!(block.bytes.iter().all(|byte| *byte == 0));
        assert_ne!(block.take(), [0; 16], "refilled");
        assert_eq!(block.next, 16);
    }
}
