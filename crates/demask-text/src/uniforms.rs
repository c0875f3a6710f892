//! Where random numbers come from: an argument, indexed by what they are for.

use demask_diffusion::Noise;

/// What a random number is for. Numbers for different uses are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Drawing a token: one number a token of the vocabulary (Gumbel) or one in all (categorical).
    Token,
    /// A random score of a cell.
    Score,
    /// Choosing cells with noise.
    Select,
    /// Whether or when a cell is revealed.
    Reveal,
    /// The token that a cell holds at full noise.
    Prior,
}

/// The address of a random number: it never depends on the batch or on what was drawn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct At {
    /// Sample of the prompt.
    pub sample: usize,
    /// Step of the row.
    pub step: usize,
    /// Cell of the row.
    pub cell: usize,
    /// What it is for.
    pub purpose: Use,
}

/// A source of uniform numbers in the open interval (0, 1).
///
/// [`Noise`] is the usual one; a table of recorded numbers lets two implementations be compared.
pub trait Uniforms {
    /// The first `n` numbers of this address.
    fn at(&self, at: At, n: usize) -> Vec<f64>;
}

/// Sample `i` reads from child `i`.
impl Uniforms for Noise {
    fn at(&self, at: At, n: usize) -> Vec<f64> {
        let node = self.child(at.sample as u64).child(at.step as u64);
        node.child(at.purpose as u64)
            .child(at.cell as u64)
            .uniforms(n)
    }
}
