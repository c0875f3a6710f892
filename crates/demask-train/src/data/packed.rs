//! The packed layout: one stream of tokens, cut into rows.

use super::Row;

/// The stream of one source.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    tokens: Vec<u32>,
    length: usize,
}

impl Packed {
    /// Joins documents, each with the begin and end tokens that are given.
    pub fn new(
        documents: impl Iterator<Item = Vec<u32>>,
        bos: Option<u32>,
        eos: Option<u32>,
        length: usize,
    ) -> Self {
        let mut tokens = Vec::new();
        for document in documents {
            tokens.extend(bos);
            tokens.extend(document);
            tokens.extend(eos);
        }
        Self { tokens, length }
    }

    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Rows of one pass. With two rows or more, one is given up so that every pass can cut at
    /// another place.
    pub fn rows(&self) -> usize {
        let whole = self.tokens.len() / self.length;
        if whole >= 2 { whole - 1 } else { whole }
    }

    /// Row `index`, cut `shift` tokens further on; `shift` below the length of a row.
    pub fn row(&self, index: usize, shift: usize) -> Row {
        let shift = if self.tokens.len() / self.length >= 2 {
            shift
        } else {
            0
        };
        let start = index * self.length + shift;
        let ids = self.tokens[start..start + self.length].to_vec();
        Row {
            ids,
            prompt: 0,
            length: self.length,
            label: None,
        }
    }

    /// Rows without a shift: all that fit.
    pub fn still_rows(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// Row `index` of [`still_rows`](Self::still_rows).
    pub fn still_row(&self, index: usize) -> Row {
        let start = index * self.length;
        let ids = self.tokens[start..start + self.length].to_vec();
        Row {
            ids,
            prompt: 0,
            length: self.length,
            label: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stand_between_their_tokens() {
        let packed = Packed::new([vec![5, 6], vec![7]].into_iter(), Some(1), Some(2), 3);
        assert_eq!(packed.tokens(), [1, 5, 6, 2, 1, 7, 2]);
        assert_eq!(packed.still_rows(), 2);
        assert_eq!(packed.still_row(1).ids, [2, 1, 7]);
    }

    #[test]
    fn a_shift_moves_every_row_and_never_leaves_the_stream() {
        let packed = Packed::new([(0..11).collect()].into_iter(), None, None, 4);
        assert_eq!(packed.rows(), 1);
        assert_eq!(packed.row(0, 3).ids, [3, 4, 5, 6]);
        let packed = Packed::new([(0..7).collect()].into_iter(), None, None, 4);
        assert_eq!((packed.rows(), packed.row(0, 3).ids), (1, vec![0, 1, 2, 3]));
    }
}
