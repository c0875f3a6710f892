//! Blocks from left to right, each on the canvas only once it is reached (BD3-LM, arXiv 2503.09573;
//! SDAR, arXiv 2510.06303).

use std::ops::Range;

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
    /// Cells that a network holds, if the answer may be longer: the canvas is then a window over the
    /// row; of aligned blocks it gives up whole ones at its beginning. bd3lms slides its context of 1024 the same
    /// way; with its cache it keeps keys and values that have seen the blocks given up, where we
    /// forward the window anew (once a block), so that the text is the same with and without a cache.
    pub context: Option<usize>,
}

impl LengthPlan for Blocks {
    fn layout(&self, start: usize, length: usize) -> Vec<u32> {
        let offset = if self.aligned { start % self.block } else { 0 };
        (offset..offset + length)
            .map(|i| (i / self.block) as u32)
            .collect()
    }

    fn visible(&self, row: &Row, block: u32) -> Range<usize> {
        let end = row.end_of(block);
        let over = self
            .context
            .map_or(0, |context| end.saturating_sub(context));
        // Blocks of the network stay where they were.
        let step = if self.aligned { self.block } else { 1 };
        over.next_multiple_of(step)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell;

    #[test]
    fn aligned_blocks_end_where_the_network_ends_them() {
        let layout = |aligned| {
            let plan = Blocks {
                block: 4,
                aligned,
                context: None,
            };
            plan.layout(6, 7)
        };
        assert_eq!(layout(true), [0, 0, 1, 1, 1, 1, 2]);
        assert_eq!(layout(false), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn the_canvas_grows() {
        let row = Row::new(vec![0; 5], vec![Cell::Open; 5], vec![0, 0, 0, 1, 1], 1);
        let plan = Blocks {
            block: 2,
            aligned: false,
            context: None,
        };
        assert_eq!((plan.visible(&row, 0), plan.visible(&row, 1)), (0..3, 0..5));
    }

    #[test]
    fn the_window_gives_up_whole_blocks() {
        let blocks = [0, 0, 0, 0, 1, 1, 2, 2, 3];
        let row = Row::new(vec![0; 9], vec![Cell::Open; 9], blocks.to_vec(), 2);
        let plan = Blocks {
            block: 2,
            aligned: true,
            context: Some(5),
        };
        let seen = |plan: Blocks| -> Vec<Range<usize>> {
            (0..4).map(|block| plan.visible(&row, block)).collect()
        };
        assert_eq!(seen(plan), [0..4, 2..6, 4..8, 4..9]);
        let free = Blocks {
            aligned: false,
            ..plan
        };
        assert_eq!(seen(free), [0..4, 1..6, 3..8, 4..9]);
    }
}
