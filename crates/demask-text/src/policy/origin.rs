//! Each open cell is committed independently with the chance that the linear noise schedule gives
//! it (Dream, arXiv 2508.15487, `alg = "origin"`; the ancestral step of an absorbing process on
//! Dream's time grid).

use demask_diffusion::process::Absorbing;
use demask_diffusion::solver::grid_time;

use super::{Ask, Candidates, Choice, Policy, Score, Step};
use crate::TextError;
use crate::uniforms::Use;

/// Commits a cell with chance `1 - t_{i+1}/t_i`, `t = linspace(1, eps, S + 1)`; the last step
/// commits the rest.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The last time of the grid.
    pub eps: f64,
}

impl Policy for Origin {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        let [t, s] = [step.index, step.index + 1].map(|i| grid_time(i, step.steps, self.eps));
        let chance = if step.index + 1 >= step.steps {
            1.0
        } else {
            Absorbing::reveal_chance(s, t)
        };
        let hit = |&cell: &usize| chance >= 1.0 || step.uniform(Use::Reveal, cell) < chance;
        Ask {
            cells: step.open.iter().copied().filter(hit).collect(),
            ..Ask::default()
        }
        .scored(Score::Drawn)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let proposals = Score::Drawn.propose(step, c)?;
        let all: Vec<usize> = (0..proposals.len()).collect();
        Ok(Choice::write(&proposals, &all))
    }
}
