//! The reverse process itself, on the grid `t = linspace(1, eps, S + 1)` with noise level `p = t`:
//! `ddpm` of MDLM (arXiv 2406.07524) for masks, the posterior of UDLM (arXiv 2412.10193, equation 15)
//! for uniform noise.
//!
//! The posterior of a masked cell factors into whether it is revealed and which token it becomes. The
//! first part does not look at the prediction, so only revealed cells are asked for and a step
//! without any is not forwarded. These are the samples of MDLM's `ddpm_cache`, which keeps the last
//! prediction until a token changes, with at most as many forward passes; and they stay exact for a
//! network with a time input, where that cache is not.
//!
//! Under uniform noise guidance by a label mixes the posteriors of two predictions (D-CFG, the same
//! paper); at the last step, which has no posterior, the predictions.

use demask_diffusion::process::{Absorbing, Discrete, Uniform};
use demask_diffusion::sampling::{argmax, categorical, classifier_free, softmax};
use demask_diffusion::solver::{Guided, grid_time};

use super::{Ask, Candidates, Choice, Policy, Score, Step};
use crate::TextError;
use crate::event::Write;
use crate::uniforms::Use;

/// Draws from the posterior of each step; one last step takes the most likely token of what is left.
#[derive(Debug, Clone, Copy)]
pub struct Ancestral {
    /// The last time of the grid.
    pub eps: f64,
    /// The uniform process, for a model that was trained on it; `None` for masks.
    pub uniform: Option<Uniform>,
}

impl Ancestral {
    /// The step after the grid: the denoiser alone.
    fn is_last(step: &Step<'_>) -> bool {
        step.index >= step.steps
    }
}

/// What the posterior takes the clean token to be: at temperature 0 the most likely one.
fn prediction(step: &Step<'_>, logits: &[f32]) -> Vec<f64> {
    if step.draw.temperature == 0.0 {
        return softmax(logits, 0.0);
    }
    step.draw.distribution(logits)
}

impl Policy for Ancestral {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        let [t, s] = [step.index, step.index + 1].map(|i| grid_time(i, step.steps, self.eps));
        let cells = if self.uniform.is_some() || Self::is_last(step) {
            step.open.to_vec()
        } else {
            let chance = Absorbing::reveal_chance(s, t);
            let hit = |&cell: &usize| step.uniform(Use::Reveal, cell) < chance;
            step.open.iter().copied().filter(hit).collect()
        };
        let ask = Ask {
            cells,
            level: Some(t),
            ..Ask::default()
        };
        match self.uniform.is_some() || Self::is_last(step) {
            true => ask,
            false => ask.scored(Score::Drawn),
        }
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        if Self::is_last(step) {
            let softmaxes = c.softmaxes(step)?;
            let write = c.iter().enumerate().map(|(i, (cell, logits))| {
                let mut guided = logits.to_vec();
                if let Some((unguided, gamma)) = c.unguided(i) {
                    classifier_free(&mut guided, unguided, gamma - 1.0);
                }
                let token = argmax(&guided) as u32;
                let confidence = softmaxes[i].probability(logits[token as usize]);
                Write {
                    cell,
                    token,
                    confidence,
                    provisional: false,
                }
            });
            return Ok(Choice {
                write: write.collect(),
                reopen: vec![],
            });
        }
        let Some(uniform) = self.uniform else {
            let proposals = Score::Drawn.propose(step, c)?;
            let all: Vec<usize> = (0..proposals.len()).collect();
            return Ok(Choice::write(&proposals, &all));
        };
        let [t, s] = [step.index, step.index + 1].map(|i| grid_time(i, step.steps, self.eps));
        let softmaxes = c.softmaxes(step)?;
        let mut write = Vec::new();
        for (i, (cell, logits)) in c.iter().enumerate() {
            let present = step.row.ids()[cell];
            let p_x0 = prediction(step, logits);
            let mut posterior = vec![0.0; uniform.vocab()];
            match c.unguided(i) {
                None => uniform.posterior(&p_x0, present, s, t, &mut posterior),
                Some((unguided, gamma)) => {
                    let guided = Guided {
                        cond: &p_x0,
                        uncond: &prediction(step, unguided),
                        gamma,
                    };
                    guided.uniform(&uniform, present, s, t, &mut posterior);
                }
            }
            for (p, &z) in posterior.iter_mut().zip(logits) {
                // The noise floor must not bring forbidden tokens back.
                if z == f32::NEG_INFINITY {
                    *p = 0.0;
                }
            }
            if !posterior.iter().any(|p| *p > 0.0) {
                return Err(TextError::impossible(cell, step.total));
            }
            let token = categorical(&posterior, step.uniform(Use::Token, cell)) as u32;
            if token != present {
                let confidence = softmaxes[i].probability(logits[token as usize]);
                write.push(Write {
                    cell,
                    token,
                    confidence,
                    provisional: true,
                });
            }
        }
        Ok(Choice {
            write,
            reopen: vec![],
        })
    }
}
