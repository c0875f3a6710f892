//! Rows side by side.

use demask_diffusion::Ids;

use crate::TrainError;
use crate::data::Row;

/// A clean batch: what an objective corrupts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    /// `[rows, length]`.
    pub x0: Ids,
    /// Which cells are learned: not prompts, not padding. `[rows * length]`.
    pub loss_cells: Vec<bool>,
    /// Cells before the padding in each row, when any row is padded.
    pub lengths: Option<Vec<usize>>,
    /// Cells that are not padding.
    pub tokens: u64,
}

impl Batch {
    pub fn new(rows: &[Row]) -> Result<Self, TrainError> {
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let x0 = Ids::from_rows(&ids)?;
        let cells = rows
            .iter()
            .flat_map(|row| (0..row.ids.len()).map(|i| i >= row.prompt && i < row.length));
        let padded = rows.iter().any(|row| row.length < row.ids.len());
        Ok(Self {
            x0,
            loss_cells: cells.collect(),
            lengths: padded.then(|| rows.iter().map(|row| row.length).collect()),
            tokens: rows.iter().map(|row| row.length as u64).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_padding_are_not_learned() {
        let rows = [
            Row {
                ids: vec![1, 7, 8, 2],
                prompt: 2,
                length: 4,
            },
            Row {
                ids: vec![1, 8, 2, 3],
                prompt: 1,
                length: 3,
            },
        ];
        let batch = Batch::new(&rows).unwrap();
        assert_eq!(
            batch.loss_cells,
            [false, false, true, true, false, true, true, false]
        );
        assert_eq!(batch.lengths, Some(vec![4, 3]));
        assert_eq!(batch.tokens, 7);
        assert_eq!(Batch::new(&rows[..1]).unwrap().lengths, None);
    }
}
