//! Which keys a query sees.

/// For every (batch row, query) the visible keys as sorted, disjoint half-open intervals
/// `[start, end)`, stored as one list with offsets. One list may serve every batch row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRanges {
    batch: Option<usize>,
    q_len: usize,
    k_len: usize,
    /// `ranges[offsets[r]..offsets[r + 1]]` belongs to row r = batch · q_len + query.
    offsets: Vec<usize>,
    ranges: Vec<(u32, u32)>,
    /// Number of visible (query, key) pairs.
    pairs: usize,
}

impl KeyRanges {
    /// Builds from a function that appends the intervals of (batch, query).
    ///
    /// # Panics
    /// When the queries or the keys of a batch row are 2³² or more, or the queries of all do not fit the address space.
    fn build(
        batch: Option<usize>,
        q_len: usize,
        k_len: usize,
        mut push: impl FnMut(usize, usize, &mut Vec<(u32, u32)>),
    ) -> Self {
        // Kernels keep the numbers of both in 32 bits.
        for (n, what) in [(q_len, "queries"), (k_len, "keys")] {
            assert!(
                u32::try_from(n).is_ok(),
                "key ranges: {n} {what} are too many"
            );
        }
        let rows = batch.unwrap_or(1).checked_mul(q_len);
        let rows = rows.filter(|&rows| rows < usize::MAX).unwrap_or_else(|| {
            panic!("key ranges: {batch:?} rows of {q_len} queries are too many")
        });
        let (mut offsets, mut ranges) = (Vec::with_capacity(rows + 1), Vec::new());
        offsets.push(0);
        for row in 0..rows {
            push(row / q_len, row % q_len, &mut ranges);
            offsets.push(ranges.len());
        }
        let pairs = ranges.iter().map(|&(a, b)| (b - a) as usize);
        let pairs = pairs.fold(0, usize::saturating_add);
        Self {
            batch,
            q_len,
            k_len,
            offsets,
            ranges,
            pairs,
        }
    }

    /// Every query sees every key, in every batch row.
    pub fn full(q_len: usize, k_len: usize) -> Self {
        Self::build(None, q_len, k_len, |_, _, out| push(out, 0, k_len))
    }

    /// Query i stands at position `k_len − q_len + i` and sees the keys up to itself.
    ///
    /// # Panics
    /// When there are more queries than keys.
    pub fn causal(q_len: usize, k_len: usize) -> Self {
        assert!(
            q_len <= k_len,
            "key ranges: {q_len} causal queries but only {k_len} keys"
        );
        Self::build(None, q_len, k_len, |_, q, out| {
            push(out, 0, k_len - q_len + q + 1)
        })
    }

    /// Every query of batch row b sees the first `lengths[b]` keys (padding at the end).
    ///
    /// # Panics
    /// When a length is above `k_len`.
    pub fn key_lengths(q_len: usize, k_len: usize, lengths: &[usize]) -> Self {
        assert!(
            lengths.iter().all(|&n| n <= k_len),
            "key ranges: a length in {lengths:?} is above {k_len} keys"
        );
        Self::build(Some(lengths.len()), q_len, k_len, |b, _, out| {
            push(out, 0, lengths[b])
        })
    }

    /// From a predicate on (batch row, query, key).
    pub fn from_fn(
        batch: usize,
        q_len: usize,
        k_len: usize,
        sees: impl Fn(usize, usize, usize) -> bool,
    ) -> Self {
        Self::build(Some(batch), q_len, k_len, |b, q, out| {
            scan(out, k_len, |k| sees(b, q, k))
        })
    }

    /// From a predicate on (query, key) that holds for every batch row.
    pub fn shared_from_fn(q_len: usize, k_len: usize, sees: impl Fn(usize, usize) -> bool) -> Self {
        Self::build(None, q_len, k_len, |_, q, out| {
            scan(out, k_len, |k| sees(q, k))
        })
    }

    /// Number of batch rows, or `None` when one list serves them all.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Number of queries.
    pub fn q_len(&self) -> usize {
        self.q_len
    }

    /// Number of keys.
    pub fn k_len(&self) -> usize {
        self.k_len
    }

    /// The intervals of a query.
    ///
    /// # Panics
    /// When the query does not exist.
    pub fn of(&self, batch: usize, query: usize) -> &[(u32, u32)] {
        let row = if let Some(rows) = self.batch {
            assert!(
                batch < rows && query < self.q_len,
                "key ranges: there is no query {query} of row {batch}"
            );
            batch * self.q_len + query
        } else {
            query
        };
        &self.ranges[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Visible (query, key) pairs of all of `batch` rows, at most `usize::MAX`.
    pub fn pairs(&self, batch: usize) -> usize {
        let times = if self.batch.is_some() { 1 } else { batch };
        self.pairs.saturating_mul(times)
    }
}

fn push(out: &mut Vec<(u32, u32)>, start: usize, end: usize) {
    if start < end {
        out.push((start as u32, end as u32));
    }
}

fn scan(out: &mut Vec<(u32, u32)>, k_len: usize, sees: impl Fn(usize) -> bool) {
    let mut start = None;
    for k in 0..k_len {
        match (sees(k), start) {
            (true, None) => start = Some(k),
            (false, Some(a)) => {
                push(out, a, k);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(a) = start {
        push(out, a, k_len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_give_the_intervals_by_hand() {
        let full = KeyRanges::full(2, 3);
        assert_eq!((full.of(7, 1), full.batch()), (&[(0, 3)][..], None));
        let causal = KeyRanges::causal(2, 5);
        assert_eq!(
            (causal.of(0, 0), causal.of(0, 1)),
            (&[(0, 4)][..], &[(0, 5)][..])
        );
        let padded = KeyRanges::key_lengths(1, 4, &[0, 4, 2]);
        assert!(padded.of(0, 0).is_empty());
        assert_eq!(
            (padded.of(1, 0), padded.of(2, 0)),
            (&[(0, 4)][..], &[(0, 2)][..])
        );
        let odd = KeyRanges::shared_from_fn(1, 6, |_, k| k != 0 && k != 3);
        assert_eq!(odd.of(0, 0), &[(1, 3), (4, 6)]);
        assert_eq!((odd.pairs(3), padded.pairs(3)), (12, 6));
    }

    #[test]
    #[should_panic(expected = "4294967296 queries are too many")]
    fn queries_beyond_32_bits_are_refused() {
        KeyRanges::full(1 << 32, 1);
    }

    #[test]
    #[should_panic(expected = "queries are too many")]
    fn rows_beyond_the_address_space_are_refused() {
        KeyRanges::key_lengths(1 << 31, 0, &[]);
        KeyRanges::from_fn(1 << 33, 1 << 31, 0, |_, _, _| false);
    }

    #[test]
    #[should_panic(expected = "there is no query 2 of row 0")]
    fn a_query_of_another_row_is_refused() {
        KeyRanges::key_lengths(2, 3, &[1, 2]).of(0, 2);
    }

    #[test]
    fn a_causal_predicate_is_causal() {
        assert_eq!(
            KeyRanges::shared_from_fn(9, 9, |q, k| k <= q),
            KeyRanges::causal(9, 9)
        );
    }
}
