//! Where random numbers come from: an argument, indexed by what they are for.

use demask_diffusion::Noise;
use demask_kernels::rowwise;

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

    /// The same, not necessarily written down.
    fn numbers(&self, at: At, n: usize) -> Numbers {
        Numbers::Table(self.at(at, n))
    }
}

/// The random numbers of an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Those of a node of [`Noise`] with this key: a vocabulary of them need not be stored.
    Key([u32; 8]),
    /// The numbers themselves.
    Table(Vec<f64>),
}

impl Numbers {
    /// As the kernels read them.
    pub(crate) fn noise(&self) -> rowwise::Noise<'_> {
        match self {
            Self::Key(key) => rowwise::Noise::Keystream(*key),
            Self::Table(numbers) => rowwise::Noise::Table(numbers),
        }
    }
}

/// The node of an address.
fn node(root: &Noise, at: At) -> Noise {
    let node = root.child(at.sample as u64).child(at.step as u64);
    node.child(at.purpose as u64).child(at.cell as u64)
}

/// Sample `i` reads from child `i`.
impl Uniforms for Noise {
    fn at(&self, at: At, n: usize) -> Vec<f64> {
        node(self, at).uniforms(n)
    }

    fn numbers(&self, at: At, _: usize) -> Numbers {
        Numbers::Key(node(self, at).key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_numbers_of_its_node() {
        let at = At {
            sample: 3,
            step: 17,
            cell: 5,
            purpose: Use::Token,
        };
        let source = Noise::new(7);
        let numbers = source.numbers(at, 100);
        for (i, u) in source.at(at, 100).into_iter().enumerate() {
            assert_eq!(numbers.noise().uniform(i), u);
        }
    }
}
