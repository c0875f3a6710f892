//! Blocks from left to right, later ones visible as masks (LLaDA, arXiv 2502.09992, §2.4).

use super::LengthPlan;

/// The answer is cut from its first cell on; the last block may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiAutoregressive {
    /// Cells in a block.
    pub block: usize,
}

impl LengthPlan for SemiAutoregressive {
    fn layout(&self, _start: usize, length: usize) -> Vec<u32> {
        (0..length).map(|i| (i / self.block) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_from_the_answer_on() {
        assert_eq!(
            SemiAutoregressive { block: 2 }.layout(3, 5),
            [0, 0, 1, 1, 2]
        );
    }
}
