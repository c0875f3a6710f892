//! The keystream of ChaCha8 (Bernstein, 2008; 64-bit counter, nonce 0), random bits by address.
//!
//! Block n is a function of the key and n alone: any number of them can be computed at once, in any order.
//! A token takes 64 bits, so a block serves 8 tokens.

use crate::simd::{LANES, Simd};

/// Tokens of a block.
const TOKENS: usize = 8;
/// Tokens of [`high_words`]: two blocks in each lane.
pub(super) const WIDTH: usize = 2 * LANES * TOKENS;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Columns, then diagonals.
const QUARTERS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// The 64 bits of a token.
pub(super) fn bits(key: &[u32; 8], token: usize) -> u64 {
    let start = start(key, (token / TOKENS) as u32);
    let mut x = start;
    for _ in 0..4 {
        for [a, b, c, d] in QUARTERS {
            for (turn, turn_again) in [(16, 12), (8, 7)] {
                x[a] = x[a].wrapping_add(x[b]);
                x[d] = (x[d] ^ x[a]).rotate_left(turn);
                x[c] = x[c].wrapping_add(x[d]);
                x[b] = (x[b] ^ x[c]).rotate_left(turn_again);
            }
        }
    }
    let word = |i: usize| u64::from(x[i].wrapping_add(start[i]));
    let at = 2 * (token % TOKENS);
    word(at) | word(at + 1) << 32
}

/// What block `block` begins with.
fn start(key: &[u32; 8], block: u32) -> [u32; 16] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&CONSTANTS);
    start[4..12].copy_from_slice(key);
    start[12] = block;
    start
}

/// The upper 32 bits of [`WIDTH`] tokens from `first` (a multiple of it) on, each with its bits inverted:
/// vector i has tokens 16·i.. of them.
#[inline(always)]
pub(super) fn high_words<S: Simd>(s: S, key: &[u32; 8], first: usize) -> [S::V; 2 * TOKENS] {
    let words = start(key, 0);
    let mut begin = [s.words([0; LANES]); 16];
    for (vector, word) in begin.iter_mut().zip(words) {
        *vector = s.words([word; LANES]);
    }
    let (block, ones) = ((first / TOKENS) as u32, s.words([!0; LANES]));
    let mut out = [s.splat(0.0); 2 * TOKENS];
    for half in 0..2 {
        // Even blocks, then odd ones: so the transposed rows are neighbouring tokens.
        let mut counter = [0; LANES];
        for (lane, counter) in counter.iter_mut().enumerate() {
            *counter = block + (2 * lane + half) as u32;
        }
        let mut x = begin;
        x[12] = s.words(counter);
        for _ in 0..4 {
            round::<S, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>(s, &mut x);
            round::<S, 5, 6, 7, 4, 10, 11, 8, 9, 15, 12, 13, 14>(s, &mut x);
        }
        for i in 0..TOKENS {
            let word = s.add_words(x[2 * i + 1], begin[2 * i + 1]);
            out[half * TOKENS + i] = s.words_to_f32(s.xor_words(word, ones));
        }
    }
    s.transpose(out)
}

/// Four quarter rounds side by side, on words 0 to 3 and the ones named. The indices are constants, so
/// that the state stays in registers.
#[inline(always)]
fn round<
    S: Simd,
    const B0: usize,
    const B1: usize,
    const B2: usize,
    const B3: usize,
    const C0: usize,
    const C1: usize,
    const C2: usize,
    const C3: usize,
    const D0: usize,
    const D1: usize,
    const D2: usize,
    const D3: usize,
>(
    s: S,
    x: &mut [S::U; 16],
) {
    macro_rules! step {
        ($turn:literal: $($to:expr, $add:expr, $mix:expr;)*) => {
            $(x[$to] = s.add_words(x[$to], x[$add]);)*
            $(x[$mix] = s.rotate_words::<$turn>(s.xor_words(x[$mix], x[$to]));)*
        };
    }
    step!(16: 0, B0, D0; 1, B1, D1; 2, B2, D2; 3, B3, D3;);
    step!(12: C0, D0, B0; C1, D1, B1; C2, D2, B2; C3, D3, B3;);
    step!(8: 0, B0, D0; 1, B1, D1; 2, B2, D2; 3, B3, D3;);
    step!(7: C0, D0, B0; C1, D1, B1; C2, D2, B2; C3, D3, B3;);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, dispatch, with_every_isa};

    struct High<'a>(&'a [u32; 8], usize);
    impl Kernel for High<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![0.0; WIDTH];
            for (i, v) in high_words(s, self.0, self.1).into_iter().enumerate() {
                crate::rowwise::put(s, &mut out, LANES * i, v);
            }
            out
        }
    }

    #[test]
    fn the_published_keystream() {
        // draft-strombergson-chacha-test-vectors, TC1, 8 rounds, 256-bit key of zeros.
        let first = [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6];
        let second = [0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1];
        assert_eq!(bits(&[0; 8], 0), u64::from_le_bytes(first));
        assert_eq!(bits(&[0; 8], 1), u64::from_le_bytes(second));
    }

    #[test]
    fn lanes_are_the_upper_halves() {
        let key = [1, 2, 3, 4, 5, 6, 7, 0x89ab_cdef];
        with_every_isa(|isa| {
            for first in [0, 7 * WIDTH] {
                for (i, high) in dispatch(isa, High(&key, first)).into_iter().enumerate() {
                    let want = f64::from(!((bits(&key, first + i) >> 32) as u32));
                    let error = (f64::from(high) - want).abs();
                    assert!(error <= want * 1.2e-7, "{i} on {}", isa.name());
                }
            }
        });
    }
}
