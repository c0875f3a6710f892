//! Logits or scores: whether a step stores `[cells, vocabulary]`.
//!
//! Whatever reads logits of a cell twice, or more of them than a draw does, needs them stored: guides mix those of
//! several predictions, top-p, top-k and a categorical draw look at a row again, LLaDA's own way of holding end tokens
//! back takes a softmax of some of them, and some policies take steps in the mathematics of the noise
//! ([`Reads`]). For everything else the head scores its rows as it multiplies them. The text is the same to the bit.

use demask_kernels::rowwise::{Asked, Scored};

use crate::TextError;
use crate::canvas::Row;
use crate::denoiser::{CellScoring, Scoring};
use crate::draw::Reading;
use crate::policy::Reads;
use crate::session::{Session, Work};
use crate::shared::Shared;

impl Shared<'_> {
    /// What is asked of the cells of a forward pass for these texts, if their scores are enough.
    fn asked_of(&self, works: &[Work]) -> Option<Asked> {
        let vocab = self.denoiser.vocab_size();
        let stored = !self.guides.is_empty()
            || !self.held_back.left_out.is_empty()
            || !self.draw.is_scored(vocab);
        if stored {
            return None;
        }
        let mut any = false;
        for work in works.iter().filter(|work| !work.ask.cells.is_empty()) {
            match work.ask.reads {
                Reads::Logits => return None,
                Reads::Scores { chances } => any |= chances,
            }
        }
        Some(self.draw.asked(any))
    }

    /// The scores that a forward pass for these texts is asked for, if they are enough.
    pub fn scoring(
        &self,
        works: &[Work],
        rows: &[Row],
        sessions: &mut [Session],
    ) -> Option<Scoring> {
        let asked = self.asked_of(works)?;
        let texts = works.iter().zip(rows).zip(sessions);
        let cells = texts.flat_map(|((work, row), session)| session.scoring(self, row, work));
        Some(Scoring {
            asked,
            cells: cells.collect(),
        })
    }
}

impl Session {
    /// What each asked cell of the text is scored with.
    fn scoring(&mut self, shared: &Shared<'_>, row: &Row, work: &Work) -> Vec<CellScoring> {
        let vocab = shared.denoiser.vocab_size();
        let cell = |&cell: &usize| CellScoring {
            numbers: self.step(shared, row, work).numbers(cell, vocab),
            forbidden: self.text.forbidden(&shared.forbid, row, cell),
        };
        work.ask.cells.iter().map(cell).collect()
    }

    /// The readings of the asked cells of the text.
    ///
    /// # Errors
    /// A cell that nothing is left for.
    pub fn readings(&self, work: &Work, scored: &[Scored]) -> Result<Vec<Reading>, TextError> {
        for (&cell, scored) in work.ask.cells.iter().zip(scored) {
            self.text.check(cell, scored)?;
        }
        Ok(scored.iter().map(|row| Reading::of(&row.score)).collect())
    }
}
