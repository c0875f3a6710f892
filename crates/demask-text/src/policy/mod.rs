//! Policies: which open cells are committed in a step, with which tokens, and which written cells
//! are opened again.
//!
//! | policy | file | from |
//! |---|---|---|
//! | `low_confidence` | [`low_confidence`] | LLaDA, arXiv 2502.09992 (MaskGIT, arXiv 2202.04200) |
//! | `random` | [`random`] | LLaDA, arXiv 2502.09992 |
//! | `origin` | [`origin`] | Dream, arXiv 2508.15487 |
//! | `maskgit_plus` | [`maskgit_plus`] | Dream, arXiv 2508.15487 |
//! | `topk_margin` | [`topk_margin`] | Dream, arXiv 2508.15487 (margin: arXiv 2502.06768) |
//! | `entropy` | [`entropy`] | Dream, arXiv 2508.15487 |
//! | `threshold` | [`threshold`] | Fast-dLLM, arXiv 2505.22618 |
//! | `factor` | [`factor`] | Fast-dLLM, arXiv 2505.22618 |
//! | `entropy_bound` | [`entropy_bound`] | EB-Sampler, arXiv 2505.24857 |
//! | `first_hitting` | [`first_hitting`] | arXiv 2409.02908; BD3-LM, arXiv 2503.09573 |
//! | `ancestral` | [`ancestral`] | MDLM, arXiv 2406.07524; UDLM, arXiv 2412.10193 |
//! | `analytic`, `euler` | [`leap`] | SEDD, arXiv 2310.16834 |
//!
//! Most of them are one line: a [`Score`] and a selector of [`select`]. The token itself is drawn
//! by [`Draw`], and the length plan decides which cells a step may touch.

pub mod ancestral;
mod config;
pub mod entropy;
pub mod entropy_bound;
pub mod factor;
pub mod first_hitting;
pub mod leap;
pub mod low_confidence;
pub mod maskgit_plus;
pub mod origin;
pub mod random;
mod registry;
pub mod score;
pub mod select;
pub mod threshold;
pub mod topk_margin;

use std::fmt::Debug;

use demask_kernels::rowwise::{self, Asked, Softmax};

use crate::TextError;
use crate::canvas::Row;
use crate::draw::{Draw, Reading, reading};
use crate::eos::HeldBack;
use crate::event::Write;
use crate::uniforms::{At, Numbers, Uniforms, Use};

pub use config::{PolicyConfig, Target};
pub use registry::{KeyInfo, PolicyInfo, registry};
pub use score::{Proposal, Score};

/// Decides, step by step, what is written into one row. One value writes one row, from its first
/// step to its last, and may remember what it saw.
pub trait Policy: Debug + Send {
    /// Before the forward pass: the cells whose prediction this step needs. If there are none, the
    /// step is over and nothing is forwarded.
    fn ask(&mut self, step: &Step<'_>) -> Ask;

    /// After the forward pass: what is written and what is opened again. `candidates` are the asked
    /// cells with their logits, already guided and constrained.
    ///
    /// # Errors
    /// When the policy cannot work on this row.
    fn choose(&mut self, step: &Step<'_>, candidates: &Candidates<'_>)
    -> Result<Choice, TextError>;
}

/// One step of one row, as a policy sees it.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The row.
    pub row: &'a Row,
    /// The cells that may be written: unsettled, and in the window of the length plan. Rising,
    /// never empty.
    pub open: &'a [usize],
    /// The step within its block.
    pub index: usize,
    /// Planned steps of the block. A policy with a pace of its own may take fewer or more.
    pub steps: usize,
    /// How many cells the pace commits in this step.
    pub quota: usize,
    /// The step within the text, which random numbers are indexed by.
    pub total: usize,
    /// How tokens are drawn.
    pub draw: &'a Draw,
    /// Tokens that are committed last.
    pub held_back: &'a HeldBack,
    /// Which sample of its prompt this row is.
    pub sample: usize,
    /// Where random numbers come from.
    pub source: &'a dyn Uniforms,
}

/// What a policy needs from the forward pass of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ask {
    /// The cells whose prediction is wanted, some of [`Step::open`], rising.
    pub cells: Vec<usize>,
    /// The noise level of the block; by default its open share. A network that sees later blocks
    /// too is given the level of all that it sees.
    pub level: Option<f64>,
    /// What is read of the predictions.
    pub reads: Reads,
}

/// What a policy reads of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// Its logits.
    #[default]
    Logits,
    /// A drawn token and how sure it is ([`Candidates::read`]). Where nothing else needs the logits, they are
    /// then never stored: a row of them is as long as the vocabulary.
    Scores {
        /// Whether more than the plain softmax is read ([`Draw::read`]).
        chances: bool,
    },
}

/// The predictions of the asked cells.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    cells: &'a [usize],
    of: Of<'a>,
}

/// What is known of each cell.
#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    Logits {
        own: &'a [f32],
        vocab: usize,
        unguided: Option<(&'a [f32], f64)>,
    },
    Readings(&'a [Reading]),
}

/// What a policy decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// The tokens to write.
    pub write: Vec<Write>,
    /// The written cells to open again.
    pub reopen: Vec<usize>,
}

impl Step<'_> {
    /// The first `n` uniforms of this step for `cell`.
    pub fn uniforms(&self, purpose: Use, cell: usize, n: usize) -> Vec<f64> {
        if n == 0 {
            return Vec::new();
        }
        let at = At {
            sample: self.sample,
            step: self.total,
            cell,
            purpose,
        };
        self.source.at(at, n)
    }

    /// One uniform of this step for `cell`.
    pub fn uniform(&self, purpose: Use, cell: usize) -> f64 {
        self.uniforms(purpose, cell, 1)[0]
    }

    /// A token for `cell`, drawn from `logits`.
    ///
    /// # Errors
    /// Where they leave none.
    pub fn token(&self, cell: usize, logits: &[f32]) -> Result<u32, TextError> {
        let numbers = self.numbers(cell, logits.len());
        let read = self
            .draw
            .read(logits, logits.len(), numbers.as_slice(), false);
        read[0].check((cell, self.total)).map(|()| read[0].token)
    }

    /// What a token of `cell` is drawn with; nothing at temperature 0.
    pub(crate) fn numbers(&self, cell: usize, vocab: usize) -> Option<Numbers> {
        let n = self.draw.uniforms(vocab);
        let at = At {
            sample: self.sample,
            step: self.total,
            cell,
            purpose: Use::Token,
        };
        (n > 0).then(|| self.source.numbers(at, n))
    }
}

impl Ask {
    /// All cells of the step, at the usual noise level.
    pub fn all(step: &Step<'_>) -> Self {
        Self {
            cells: step.open.to_vec(),
            ..Self::default()
        }
    }

    /// The same for a policy that reads nothing but the proposals of `score`.
    pub fn scored(self, score: Score) -> Self {
        Self {
            reads: score.reads(),
            ..self
        }
    }

    /// All cells of the step if its pace commits any of them.
    fn if_due(step: &Step<'_>) -> Self {
        if step.quota > 0 {
            Self::all(step)
        } else {
            Self::default()
        }
    }
}

impl<'a> Candidates<'a> {
    /// The cells and their logits, `[cells, vocab]` row-major.
    ///
    /// # Panics
    /// When the two do not fit.
    pub fn new(cells: &'a [usize], logits: &'a [f32], vocab: usize) -> Self {
        assert_eq!(cells.len() * vocab, logits.len(), "logits of each cell");
        let of = Of::Logits {
            own: logits,
            vocab,
            unguided: None,
        };
        Self { cells, of }
    }

    /// The cells and their readings, for a policy whose [`Ask::reads`] is [`Reads::Scores`].
    ///
    /// # Panics
    /// When there is not one for each.
    pub fn scored(cells: &'a [usize], readings: &'a [Reading]) -> Self {
        assert_eq!(cells.len(), readings.len(), "a reading of each cell");
        let of = Of::Readings(readings);
        Self { cells, of }
    }

    /// The same with the logits of a second prediction of each cell.
    ///
    /// # Panics
    /// When they do not fit, or the cells have none.
    pub fn with_unguided(self, logits: &'a [f32], gamma: f64) -> Self {
        let (own, vocab) = self.all_logits();
        assert_eq!(own.len(), logits.len(), "logits of each cell");
        let of = Of::Logits {
            own,
            vocab,
            unguided: Some((logits, gamma)),
        };
        Self { of, ..self }
    }

    /// The logits of the second prediction of the `index`-th cell and the exponent of the first one,
    /// where a guide asks for the posteriors of the two to be mixed:
    /// `q ∝ q_first^gamma q_second^(1 - gamma)`.
    pub fn unguided(&self, index: usize) -> Option<(&'a [f32], f64)> {
        match self.of {
            Of::Logits {
                vocab,
                unguided: Some((logits, gamma)),
                ..
            } => Some((&logits[index * vocab..][..vocab], gamma)),
            _ => None,
        }
    }

    /// Draws a token for each cell and reads how sure it is ([`Draw::read`]).
    ///
    /// # Errors
    /// Predictions that are not numbers or leave no token.
    pub fn read(&self, step: &Step<'_>, chances: bool) -> Result<Vec<Reading>, TextError> {
        let read = match self.of {
            Of::Readings(readings) => readings.to_vec(),
            Of::Logits { own, vocab, .. } => {
                let numbers = self
                    .cells
                    .iter()
                    .filter_map(|&cell| step.numbers(cell, vocab));
                let numbers: Vec<Numbers> = numbers.collect();
                step.draw.read(own, vocab, &numbers, chances)
            }
        };
        for (reading, &cell) in read.iter().zip(self.cells) {
            reading.check((cell, step.total))?;
        }
        Ok(read)
    }

    /// The plain softmax of each cell.
    ///
    /// # Errors
    /// Predictions, of the guide too, that are not numbers or leave no token.
    pub fn softmaxes(&self, step: &Step<'_>) -> Result<Vec<Softmax>, TextError> {
        let check = |softmaxes: Vec<Softmax>| -> Result<Vec<Softmax>, TextError> {
            for (softmax, &cell) in softmaxes.iter().zip(self.cells) {
                reading::check(softmax, (cell, step.total))?;
            }
            Ok(softmaxes)
        };
        let (own, vocab, unguided) = match self.of {
            Of::Readings(readings) => return check(readings.iter().map(|r| r.plain).collect()),
            Of::Logits {
                own,
                vocab,
                unguided,
            } => (own, vocab, unguided),
        };
        let of = |logits: &[f32]| {
            let scores = rowwise::score(logits, vocab, &Asked::default(), &[]);
            check(scores.into_iter().map(|score| score.plain).collect())
        };
        if let Some((unguided, _)) = unguided {
            of(unguided)?;
        }
        of(own)
    }

    /// The cells, rising.
    pub fn cells(&self) -> &'a [usize] {
        self.cells
    }

    /// The logits of the `index`-th cell.
    ///
    /// # Panics
    /// For a policy whose [`Ask::reads`] is [`Reads::Scores`] there may be none.
    pub fn logits(&self, index: usize) -> &'a [f32] {
        let (logits, vocab) = self.all_logits();
        &logits[index * vocab..][..vocab]
    }

    /// Each cell with its logits, rising.
    ///
    /// # Panics
    /// As for [`logits`](Self::logits).
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a [f32])> + use<'a> {
        let (logits, vocab) = self.all_logits();
        self.cells
            .iter()
            .copied()
            .zip(logits.chunks_exact(vocab.max(1)))
    }

    fn all_logits(&self) -> (&'a [f32], usize) {
        match self.of {
            Of::Logits { own, vocab, .. } => (own, vocab),
            Of::Readings(_) => panic!("a policy that asked for scores reads logits"),
        }
    }
}

impl Choice {
    /// Writes the proposals at these indices.
    fn write(proposals: &[Proposal], chosen: &[usize]) -> Self {
        let write = chosen.iter().map(|&i| proposals[i].write()).collect();
        Self {
            write,
            reopen: Vec::new(),
        }
    }
}

impl Proposal {
    fn write(&self) -> Write {
        let Self {
            cell,
            token,
            probability,
            ..
        } = *self;
        Write {
            cell,
            token,
            confidence: probability,
            provisional: false,
        }
    }
}

/// The scores of proposals, in their order.
fn scores(proposals: &[Proposal]) -> Vec<f64> {
    proposals.iter().map(|p| p.score).collect()
}

/// A step of Dream's confidence rules: score, then top-k or, with `alg_temp`, a noisy top-k.
fn dream(
    score: Score,
    alg_temp: Option<f64>,
    step: &Step<'_>,
    candidates: &Candidates<'_>,
) -> Result<Choice, TextError> {
    let proposals = score.propose(step, candidates)?;
    let scores = scores(&proposals);
    let chosen = match alg_temp.filter(|t| *t > 0.0) {
        None => select::top(&scores, step.quota),
        Some(temperature) => {
            let u: Vec<f64> = proposals
                .iter()
                .map(|p| step.uniform(Use::Select, p.cell))
                .collect();
            select::noisy(&scores, step.quota, temperature, &u)
        }
    };
    Ok(Choice::write(&proposals, &chosen))
}

#[cfg(test)]
mod tests;
