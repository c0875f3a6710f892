//! Blocks from left to right, each on the canvas only once it is reached (BD3-LM, arXiv 2503.09573;
//! SDAR, arXiv 2510.06303).

use super::LengthPlan;
use crate::canvas::Row;

/// The canvas grows by a block. For a block-causal network this forwards fewer cells and changes no
/// bit, because no cell sees a later block; any other network sees a shorter canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Cells in a block.
    pub block: usize,
    /// Blocks are counted from position 0 of the row, as a block-causal network sees them: the
    /// first block of the answer holds what the prompt left of its own last block.
    pub aligned: bool,
}

impl LengthPlan for Blocks {
    fn layout(&self, start: usize, length: usize) -> Vec<u32> {
        let offset = if self.aligned { start % self.block } else { 0 };
        (offset..offset + length)
            .map(|i| (i / self.block) as u32)
            .collect()
    }

    fn visible(&self, row: &Row, block: u32) -> usize {
        row.end_of(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell;

    #[test]
    fn aligned_blocks_end_where_the_network_ends_them() {
        let layout = |aligned| Blocks { block: 4, aligned }.layout(6, 7);
        assert_eq!(layout(true), [0, 0, 1, 1, 1, 1, 2]);
        assert_eq!(layout(false), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn the_canvas_grows() {
        let row = Row::new(vec![0; 5], vec![Cell::Open; 5], vec![0, 0, 0, 1, 1], 1);
        let plan = Blocks {
            block: 2,
            aligned: false,
        };
        assert_eq!((plan.visible(&row, 0), plan.visible(&row, 1)), (3, 5));
    }
}
