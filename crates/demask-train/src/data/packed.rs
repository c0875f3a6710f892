//! The packed layout: one stream of tokens, cut into rows.

use super::Row;

/// The stream of one source.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    tokens: Vec<u32>,
    /// Tokens of the stream in a row.
    length: usize,
    /// What stands before and after them in each row.
    around: Option<[u32; 2]>,
}

impl Packed {
    /// Joins documents, each with the begin and end tokens that are given. A row of `length` tokens
    /// begins and ends with those `around` it.
    pub fn new(
        documents: impl Iterator<Item = Vec<u32>>,
        bos: Option<u32>,
        eos: Option<u32>,
        length: usize,
        around: Option<[u32; 2]>,
    ) -> Self {
        let mut tokens = Vec::new();
        for document in documents {
            tokens.extend(bos);
            tokens.extend(document);
            tokens.extend(eos);
        }
        Self {
            tokens,
            length: if around.is_some() { length - 2 } else { length },
            around,
        }
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

    /// Row `index`, cut `shift` tokens further on, counted round within a row.
    pub fn row(&self, index: usize, shift: usize) -> Row {
        let shift = if self.tokens.len() / self.length >= 2 {
            shift % self.length
        } else {
            0
        };
        self.cut(index * self.length + shift)
    }

    /// Rows without a shift: all that fit.
    pub fn still_rows(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// Row `index` of [`still_rows`](Self::still_rows).
    pub fn still_row(&self, index: usize) -> Row {
        self.cut(index * self.length)
    }

    fn cut(&self, start: usize) -> Row {
        let mut ids = self.tokens[start..start + self.length].to_vec();
        if let Some([begin, end]) = self.around {
            ids.insert(0, begin);
            ids.push(end);
        }
        Row {
            prompt: 0,
            length: ids.len(),
            ids,
            label: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stand_between_their_tokens() {
        let packed = Packed::new([vec![5, 6], vec![7]].into_iter(), Some(1), Some(2), 3, None);
        assert_eq!(packed.tokens(), [1, 5, 6, 2, 1, 7, 2]);
        assert_eq!(packed.still_rows(), 2);
        assert_eq!(packed.still_row(1).ids, [2, 1, 7]);
    }

    #[test]
    fn every_row_can_be_begun_and_ended() {
        let documents = [vec![5, 6], vec![7, 8, 9]].into_iter();
        let packed = Packed::new(documents, None, Some(2), 5, Some([1, 2]));
        assert_eq!(packed.tokens(), [5, 6, 2, 7, 8, 9, 2]);
        let row = packed.still_row(1);
        assert_eq!(
            (packed.still_rows(), row.ids, row.length),
            (2, vec![1, 7, 8, 9, 2], 5)
        );
        assert_eq!(packed.row(0, 1).ids, [1, 6, 2, 7, 2]);
        // Rows of one token: no shift leaves the stream.
        let packed = Packed::new([(3..9).collect()].into_iter(), None, None, 3, Some([1, 2]));
        for shift in 0..3 {
            assert_eq!(packed.row(packed.rows() - 1, shift).ids, [1, 7, 2]);
        }
    }

    #[test]
    fn a_shift_moves_every_row_and_never_leaves_the_stream() {
        let packed = Packed::new([(0..11).collect()].into_iter(), None, None, 4, None);
        assert_eq!(packed.rows(), 1);
        assert_eq!(packed.row(0, 3).ids, [3, 4, 5, 6]);
        let packed = Packed::new([(0..7).collect()].into_iter(), None, None, 4, None);
        assert_eq!((packed.rows(), packed.row(0, 3).ids), (1, vec![0, 1, 2, 3]));
    }
}
