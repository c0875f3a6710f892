//! The next event of the reverse process: one cell a step, at the time it would happen (first-hitting
//! sampler, arXiv 2409.02908; BD3-LM, arXiv 2503.09573).

use demask_diffusion::solver::first_hitting::{cell, next_level};

use super::{Ask, Candidates, Choice, Policy, Score, Step};
use crate::TextError;
use crate::uniforms::Use;

/// With `m` cells open, time jumps to `t u^(1/m)` and one of them, each as likely, is committed. The
/// time matters only to a network with a time input. Takes one step a cell, whatever the pace.
#[derive(Debug, Clone, Copy)]
pub struct FirstHitting {
    level: f64,
}

impl Default for FirstHitting {
    fn default() -> Self {
        Self { level: 1.0 }
    }
}

impl Policy for FirstHitting {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        if step.index == 0 {
            self.level = 1.0;
        }
        let open = step.open.len();
        // Addressed by the first open cell, so that a row draws the same alone and in any batch.
        let u = step.uniforms(Use::Reveal, step.open[0], 2);
        self.level = next_level(self.level, open, u[0]);
        let cell = step.open[cell(open, u[1])];
        Ask {
            cells: vec![cell],
            level: Some(self.level),
            ..Ask::default()
        }
        .scored(Score::Drawn)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        Ok(Choice::write(&Score::Drawn.propose(step, c)?, &[0]))
    }
}
