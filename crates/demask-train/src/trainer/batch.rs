//! Rows side by side.

use demask_diffusion::{Ids, Noise};

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
    /// The class of each row, in labelled data; `None` inside for a row shown without its label.
    pub labels: Option<Vec<Option<u32>>>,
    /// Cells that are not padding.
    pub tokens: u64,
}

impl Batch {
    /// Rows side by side. One that is shorter than the longest is filled up with its last token, which
    /// ends its text, and that is learned ([`Padding::Batch`](crate::data::Padding::Batch)).
    pub fn new(rows: &[Row]) -> Result<Self, TrainError> {
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let filled = |row: &Row| {
            let mut ids = row.ids.clone();
            ids.resize(longest, ids.last().copied().unwrap_or_default());
            ids
        };
        let ids: Vec<Vec<u32>> = rows.iter().map(filled).collect();
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let x0 = Ids::from_rows(&ids)?;
        let length = |row: &Row| match row.ids.len() < longest {
            true => longest,
            false => row.length,
        };
        let cells = rows
            .iter()
            .flat_map(|row| (0..longest).map(move |i| i >= row.prompt && i < length(row)));
        let padded = rows.iter().any(|row| length(row) < longest);
        Ok(Self {
            x0,
            loss_cells: cells.collect(),
            lengths: padded.then(|| rows.iter().map(length).collect()),
            labels: rows
                .iter()
                .any(|row| row.label.is_some())
                .then(|| rows.iter().map(|row| row.label).collect()),
            tokens: rows.iter().map(|row| length(row) as u64).sum(),
        })
    }

    /// Takes the label from each row with chance `share` (classifier-free guidance, arXiv
    /// 2207.12598): row `i` reads the `i`-th number of `noise`.
    pub fn drop_labels(&mut self, share: f64, noise: &Noise) {
        if let Some(labels) = &mut self.labels {
            for (label, u) in labels.iter_mut().zip(noise.uniform_stream()) {
                if u < share {
                    *label = None;
                }
            }
        }
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
                label: None,
            },
            Row {
                ids: vec![1, 8, 2, 3],
                prompt: 1,
                length: 3,
                label: None,
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

    #[test]
    fn short_rows_end_where_the_longest_does() {
        let row = |ids: &[u32], prompt| Row {
            ids: ids.to_vec(),
            prompt,
            length: ids.len(),
            label: None,
        };
        let rows = [row(&[1, 7, 2], 1), row(&[1, 7, 8, 8, 2], 2)];
        let batch = Batch::new(&rows).unwrap();
        assert_eq!(batch.x0.data(), [1, 7, 2, 2, 2, 1, 7, 8, 8, 2]);
        let learned = [
            false, true, true, true, true, false, false, true, true, true,
        ];
        assert_eq!(batch.loss_cells, learned);
        assert_eq!((batch.lengths, batch.tokens), (None, 10));
    }

    #[test]
    fn a_share_of_the_labels_is_dropped_the_same_way_every_time() {
        let row = |label| Row {
            ids: vec![1],
            prompt: 0,
            length: 1,
            label,
        };
        let rows: Vec<Row> = (0..2000).map(|i| row(Some(i % 3))).collect();
        let whole = Batch::new(&rows).unwrap();
        let dropped = |share: f64| {
            let mut batch = whole.clone();
            batch.drop_labels(share, &Noise::new(5));
            batch.labels.unwrap()
        };
        assert_eq!(Some(dropped(0.0)), whole.labels);
        let tenth = dropped(0.1);
        assert_eq!(tenth, dropped(0.1));
        // 200 of 2000, give or take three standard deviations of 13.4.
        let none = tenth.iter().filter(|label| label.is_none()).count();
        assert!((160..=240).contains(&none), "{none}");
        let kept = tenth.iter().zip(&rows).filter(|(l, _)| l.is_some());
        assert!(kept.clone().all(|(label, row)| *label == row.label));
        assert_eq!(Batch::new(&[row(None)]).unwrap().labels, None);
    }
}
