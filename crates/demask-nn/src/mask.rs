//! Who sees whom: the attention mask as a descriptor, never as a matrix of the full size.

use std::sync::{Arc, OnceLock};

use demask_kernels::attention::KeyRanges;

use crate::NnError;

/// Which keys each query of a request may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionMask {
    /// The rule by position or block.
    pub kind: MaskKind,
    /// Length of each batch row: keys at and past it are padding and nobody sees them. `None`: all
    /// rows are full. Padding stands at the end, so that a row's result is the same alone and in a
    /// batch.
    pub key_lengths: Option<Vec<usize>>,
}

/// The rule of an [`AttentionMask`]. Keys are the cached cells (if any) followed by the rows of the
/// request; queries are the rows of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskKind {
    /// Every query sees every key.
    Full,
    /// A query sees itself and the keys before it.
    Causal,
    /// A causal mask on its way to a full one (DiffuLLaMA, arXiv 2410.17891): a query sees itself,
    /// the keys before it and, of those after it, each by the toss of a coin. The coin of a pair
    /// depends on the seed and its two positions only, and is the same for all rows of a batch.
    Opening {
        /// Share of the pairs that are open, in parts of 2³².
        open: u32,
        /// Where the coins come from.
        seed: u64,
    },
    /// A query sees the keys whose block is not after its own.
    BlockCausal {
        /// Block of each key, cached ones included. In a request whose sequences have caches of
        /// different lengths, of the longest.
        blocks: Vec<u32>,
    },
    /// The three-part mask of block diffusion (BD3-LM, arXiv 2503.09573, §3.1) over the rows
    /// `[x_t ; x_0]`: a noisy query sees its own noisy block and the clean blocks before it; a
    /// clean query sees its own clean block and those before it.
    Bd3 {
        /// Block of each of the `L` cells; the request has `2 L` rows.
        blocks: Vec<u32>,
    },
}

impl AttentionMask {
    /// Everybody sees everybody.
    pub fn full() -> Self {
        Self {
            kind: MaskKind::Full,
            key_lengths: None,
        }
    }

    /// Each cell sees itself and what stands before it.
    pub fn causal() -> Self {
        Self {
            kind: MaskKind::Causal,
            key_lengths: None,
        }
    }

    /// The three-part mask of block diffusion over `2 L` rows, with the block of each of `L` cells.
    pub fn bd3(blocks: Vec<u32>) -> Self {
        Self {
            kind: MaskKind::Bd3 { blocks },
            key_lengths: None,
        }
    }

    /// The same rule with rows that end early.
    pub fn with_key_lengths(self, key_lengths: Vec<usize>) -> Self {
        Self {
            key_lengths: Some(key_lengths),
            ..self
        }
    }

    /// Checks the descriptor against a request of `batch` rows, `queries` new cells and `cached`
    /// earlier ones.
    fn check(&self, batch: usize, queries: usize, cached: usize) -> Result<(), NnError> {
        let keys = cached + queries;
        let expected = match &self.kind {
            MaskKind::Full | MaskKind::Causal | MaskKind::Opening { .. } => None,
            MaskKind::BlockCausal { blocks } => Some((blocks.len(), keys)),
            MaskKind::Bd3 { blocks } => {
                if cached > 0 {
                    return Err(NnError::Input(
                        "the three-part block mask is for training and takes no cache".into(),
                    ));
                }
                Some((2 * blocks.len(), keys))
            }
        };
        if let Some((found, wanted)) = expected
            && found != wanted
        {
            return Err(NnError::Input(format!(
                "the mask describes {found} cells, the request has {wanted}"
            )));
        }
        if let Some(lengths) = &self.key_lengths {
            if lengths.len() != batch {
                return Err(NnError::Input(format!(
                    "{} key lengths for a batch of {batch}",
                    lengths.len()
                )));
            }
            if let Some(long) = lengths.iter().find(|&&l| l > keys) {
                return Err(NnError::Input(format!(
                    "a key length of {long} with {keys} keys"
                )));
            }
        }
        Ok(())
    }

    /// Whether query `q` (counted among the new rows, `cached` keys stand before them) of batch row
    /// `b` may see key `k`.
    pub fn sees(&self, cached: usize, b: usize, q: usize, k: usize) -> bool {
        if self
            .key_lengths
            .as_ref()
            .is_some_and(|lengths| k >= lengths[b])
        {
            return false;
        }
        match &self.kind {
            MaskKind::Full => true,
            MaskKind::Causal => k <= cached + q,
            MaskKind::Opening { open, seed } => {
                k <= cached + q || coin(*seed, cached + q, k) < *open
            }
            MaskKind::BlockCausal { blocks } => blocks[k] <= blocks[cached + q],
            MaskKind::Bd3 { blocks } => {
                let half = blocks.len();
                let (noisy_q, noisy_k) = (q < half, k < half);
                let (block_q, block_k) = (blocks[q % half], blocks[k % half]);
                match (noisy_q, noisy_k) {
                    (true, true) => block_q == block_k,
                    (true, false) => block_q > block_k,
                    (false, true) => false,
                    (false, false) => block_q >= block_k,
                }
            }
        }
    }

    /// The mask of one request of `batch` rows, `queries` new cells and `cached` earlier ones.
    ///
    /// # Errors
    /// [`NnError::Input`] when the descriptor does not fit the request.
    pub fn for_request(
        &self,
        batch: usize,
        queries: usize,
        cached: usize,
    ) -> Result<RequestMask<'_>, NnError> {
        self.check(batch, queries, cached)?;
        Ok(RequestMask {
            mask: self,
            batch,
            queries,
            cached,
            ranges: OnceLock::new(),
        })
    }

    /// The mask of one of several sequences with caches of their own, each as long as it likes:
    /// `queries` new cells after `cached` earlier ones. Blocks are those of the longest sequence.
    pub(crate) fn for_sequence(
        &self,
        queries: usize,
        cached: usize,
    ) -> Result<RequestMask<'_>, NnError> {
        if !matches!(&self.kind, MaskKind::BlockCausal { blocks } if blocks.len() > cached + queries)
        {
            self.check(1, queries, cached)?;
        }
        Ok(RequestMask {
            mask: self,
            batch: 1,
            queries,
            cached,
            ranges: OnceLock::new(),
        })
    }

    /// Whether every query sees every key.
    fn is_full(&self) -> bool {
        self.kind == MaskKind::Full && self.key_lengths.is_none()
    }
}

/// A uniform number for a pair of positions (the finaliser of SplitMix64, once for each position).
fn coin(seed: u64, query: usize, key: usize) -> u32 {
    let mix = |z: u64| {
        let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(seed ^ query as u64) ^ key as u64) >> 32) as u32
}

/// An [`AttentionMask`] on a request of known size; all layers of a pass share it.
#[derive(Debug)]
pub struct RequestMask<'a> {
    mask: &'a AttentionMask,
    batch: usize,
    queries: usize,
    cached: usize,
    ranges: OnceLock<Arc<KeyRanges>>,
}

impl RequestMask<'_> {
    /// Whether every query sees every key.
    pub(crate) fn is_full(&self) -> bool {
        self.mask.is_full()
    }

    /// Whether query `q` of batch row `b` may see key `k`.
    pub(crate) fn sees(&self, b: usize, q: usize, k: usize) -> bool {
        self.mask.sees(self.cached, b, q, k)
    }

    /// The key intervals of every query, for the CPU kernel; worked out once.
    pub(crate) fn ranges(&self) -> Arc<KeyRanges> {
        let build = || {
            let (queries, keys) = (self.queries, self.cached + self.queries);
            match (&self.mask.kind, &self.mask.key_lengths) {
                (MaskKind::Full, None) => KeyRanges::full(queries, keys),
                (MaskKind::Full, Some(lengths)) => KeyRanges::key_lengths(queries, keys, lengths),
                (MaskKind::Causal, None) => KeyRanges::causal(queries, keys),
                (_, None) => KeyRanges::shared_from_fn(queries, keys, |q, k| self.sees(0, q, k)),
                (_, Some(_)) => {
                    KeyRanges::from_fn(self.batch, queries, keys, |b, q, k| self.sees(b, q, k))
                }
            }
        };
        Arc::clone(self.ranges.get_or_init(|| Arc::new(build())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws the mask as text, one query a line.
    fn draw(mask: &AttentionMask, queries: usize, keys: usize) -> Vec<String> {
        let cached = keys - queries;
        (0..queries)
            .map(|q| {
                (0..keys)
                    .map(|k| if mask.sees(cached, 0, q, k) { 'x' } else { '.' })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn causal_continues_after_the_cache() {
        assert_eq!(draw(&AttentionMask::causal(), 2, 4), ["xxx.", "xxxx"]);
    }

    #[test]
    fn the_three_part_mask_of_two_blocks_of_two() {
        let mask = AttentionMask::bd3(vec![0, 0, 1, 1]);
        assert_eq!(
            draw(&mask, 8, 8),
            [
                "xx......", "xx......", "..xxxx..",
                "..xxxx..", // noisy: own block, clean before
                "....xx..", "....xx..", "....xxxx", "....xxxx", // clean: block-causal
            ]
        );
    }

    #[test]
    fn block_ids_need_not_be_contiguous() {
        let mask = AttentionMask::bd3(vec![1, 0, 1]);
        assert_eq!(
            draw(&mask, 6, 6),
            ["x.x.x.", ".x....", "x.x.x.", "...xxx", "....x.", "...xxx"]
        );
    }

    #[test]
    fn an_opening_mask_is_causal_and_a_share_of_the_rest() {
        let mask = |open: f64, seed| AttentionMask {
            kind: MaskKind::Opening {
                open: (open * 4_294_967_296.0) as u32,
                seed,
            },
            key_lengths: None,
        };
        let n = 200;
        let causal = draw(&AttentionMask::causal(), n, n);
        assert_eq!(draw(&mask(0.0, 1), n, n), causal);
        let quarter = draw(&mask(0.25, 1), n, n);
        let (mut open, mut rest) = (0, 0);
        for (q, (row, before)) in quarter.iter().zip(&causal).enumerate() {
            assert_eq!(row[..=q], before[..=q]);
            open += row[q + 1..].matches('x').count();
            rest += n - q - 1;
        }
        // 19900 coins: the standard error of the share is 0.003.
        let share = open as f64 / rest as f64;
        assert!((share - 0.25).abs() < 0.012, "{share}");
        assert_ne!(draw(&mask(0.25, 2), n, n), quarter);
        // A wider opening keeps what was open, and a cache moves nothing.
        let half = draw(&mask(0.5, 1), n, n);
        for (wide, narrow) in half.iter().zip(&quarter) {
            assert!(wide.bytes().zip(narrow.bytes()).all(|(w, n)| w >= n));
        }
        assert_eq!(draw(&mask(0.25, 1), 50, n), quarter[150..]);
    }

    #[test]
    fn padding_is_seen_by_nobody() {
        let mask = AttentionMask::full().with_key_lengths(vec![2]);
        assert_eq!(draw(&mask, 3, 3), ["xx.", "xx.", "xx."]);
    }

    #[test]
    fn a_descriptor_that_does_not_fit_is_refused() {
        let mask = AttentionMask::bd3(vec![0, 0]);
        assert!(mask.check(1, 4, 0).is_ok());
        assert!(mask.check(1, 6, 0).is_err());
        assert!(mask.check(1, 2, 2).is_err());
        let padded = AttentionMask::full().with_key_lengths(vec![3, 9]);
        assert!(padded.check(2, 4, 0).is_err());
        assert!(padded.check(1, 9, 0).is_err());
    }
}
