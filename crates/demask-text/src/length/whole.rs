//! The whole answer is one block.

use super::LengthPlan;

/// All cells are open to every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole;

impl LengthPlan for Whole {
    fn layout(&self, _start: usize, length: usize) -> Vec<u32> {
        vec![0; length]
    }
}
