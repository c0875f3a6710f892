//! The steps of score entropy models (SEDD, arXiv 2310.16834, section 4.3): `analytic` multiplies the
//! staggered score with the transition over the step, `euler` follows the reverse rates. One last
//! step, the denoiser, goes from the last time to clean text.
//!
//! The grid is `t = linspace(1, eps, S + 1)` on the log-linear schedule, so that noise levels are
//! evenly spaced; a network is told its level, and so does not mind which schedule it was trained
//! with. A network that predicts clean tokens behind masks has its prediction turned into the
//! scores it implies (equation 27).
//!
//! Our reading: temperature and filters shape *which* token a cell jumps to, never *whether* it
//! jumps; at the last step they shape the whole draw.

use std::sync::Arc;

use demask_diffusion::process::Uniform;
use demask_diffusion::sampling::softmax;
use demask_diffusion::schedule::{Convention, Schedule, ScheduleConfig};
use demask_diffusion::solver::{Analytic, Euler, absorbing_log_scores, analytic::Graph, grid_time};
use demask_models::Predicts;

use super::{Ask, Candidates, Choice, Policy, Step};
use crate::TextError;
use crate::event::Write;
use crate::uniforms::Use;

/// Which of the two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Staggered score times transition.
    Analytic,
    /// Reverse rates, cut off below zero.
    Euler,
}

/// A step that reads log-scores.
#[derive(Debug, Clone)]
pub struct Leap {
    rule: Rule,
    eps: f64,
    graph: Graph,
    predicts: Predicts,
    /// The values of uniform noise; without it, every column is one.
    noise: Option<Uniform>,
    schedule: Arc<dyn Schedule>,
    analytic: Analytic,
    euler: Euler,
}

impl Leap {
    /// A step on `graph` for a network whose outputs are `predicts`; under uniform noise, over the
    /// values of `noise`.
    ///
    /// # Errors
    /// Never in practice: the schedule is a constant.
    pub fn new(
        rule: Rule,
        eps: f64,
        graph: Graph,
        predicts: Predicts,
        noise: Option<Uniform>,
    ) -> Result<Self, TextError> {
        let schedule = ScheduleConfig::loglinear(Convention::Mdlm).build()?;
        Ok(Self {
            rule,
            eps,
            graph,
            predicts,
            noise,
            analytic: Analytic::new(graph),
            euler: Euler::new(graph),
            schedule,
        })
    }

    /// The log-scores of a cell at total noise `sigma`.
    fn log_scores(&self, logits: &[f32], sigma: f64) -> Vec<f64> {
        let mut row: Vec<f64> = logits.iter().map(|z| f64::from(*z)).collect();
        match (self.predicts, self.graph) {
            (Predicts::LogScores { scale_by_sigma }, Graph::Absorbing { .. }) => {
                if scale_by_sigma {
                    let offset = sigma.exp_m1().ln() + (row.len() as f64 - 1.0).ln();
                    row.iter_mut().for_each(|z| *z -= offset);
                }
            }
            (Predicts::LogScores { .. }, Graph::Uniform) => {
                if let Some(mask) = self.no_value() {
                    row.remove(mask);
                }
            }
            (Predicts::Clean, Graph::Absorbing { mask }) => {
                row = softmax(&row, 1.0);
                absorbing_log_scores(&mut row, mask, sigma);
            }
            // `PolicyConfig::build` refuses it.
            (Predicts::Clean, Graph::Uniform) => {}
        }
        row
    }

    /// Weights of the tokens of a cell after the step, not scaled.
    fn weights(&self, step: &Step<'_>, present: u32, logits: &[f32]) -> Vec<f64> {
        let [t, s] = [step.index, step.index + 1].map(|i| grid_time(i, step.steps, self.eps));
        let [now, then] = [t, s].map(|time| self.schedule.sigma(time));
        let mut row = self.log_scores(logits, now);
        let present = self.noise.map_or(present, |noise| noise.place(present));
        match self.rule {
            _ if is_last(step) => self.analytic.weights(&mut row, present, now),
            Rule::Analytic => self.analytic.weights(&mut row, present, now - then),
            Rule::Euler => {
                let rate = (t - s) * self.schedule.sigma_rate(t);
                self.euler.weights(&mut row, present, rate);
            }
        }
        if let Some(mask) = self.no_value() {
            row.insert(mask, 0.0);
        }
        row
    }

    /// The column that uniform noise leaves out.
    fn no_value(&self) -> Option<usize> {
        self.noise?.mask().map(|mask| mask as usize)
    }

    /// The token of a cell after the step; `None` when it stays as it is.
    fn token(
        &self,
        step: &Step<'_>,
        cell: usize,
        logits: &[f32],
    ) -> Result<Option<u32>, TextError> {
        let present = step.row.ids()[cell];
        let mut weights = self.weights(step, present, logits);
        // Rounding and the noise floor must not bring forbidden tokens back.
        let forbidden = |token: usize| logits[token] == f32::NEG_INFINITY;
        let stay = std::mem::take(&mut weights[present as usize]);
        for (token, weight) in weights.iter_mut().enumerate() {
            if forbidden(token) {
                *weight = 0.0;
            }
        }
        if is_last(step) {
            if !forbidden(present as usize) {
                weights[present as usize] = stay;
            }
        } else {
            let leave: f64 = weights.iter().sum();
            let chance = leave / (leave + stay);
            if !chance.is_finite() || step.uniform(Use::Reveal, cell) >= chance {
                return Ok(None);
            }
        }
        let mut rows: Vec<f32> = weights.iter().map(|w| w.ln() as f32).collect();
        if rows.iter().all(|z| *z == f32::NEG_INFINITY) {
            // The scores leave nothing that may be written; the plain prediction does.
            rows = logits[..rows.len()].to_vec();
        }
        step.token(cell, &rows).map(Some)
    }
}

/// The step after the grid: the denoiser.
fn is_last(step: &Step<'_>) -> bool {
    step.index >= step.steps
}

impl Policy for Leap {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        let time = grid_time(step.index, step.steps, self.eps);
        let sigma = self.schedule.sigma(time);
        Ask {
            cells: step.open.to_vec(),
            level: Some(-(-sigma).exp_m1()),
            ..Ask::default()
        }
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let provisional = self.graph == Graph::Uniform && !is_last(step);
        let softmaxes = c.softmaxes(step)?;
        let mut write = Vec::new();
        for ((cell, logits), softmax) in c.iter().zip(softmaxes) {
            let Some(token) = self.token(step, cell, logits)? else {
                continue;
            };
            if provisional && token == step.row.ids()[cell] {
                continue;
            }
            write.push(Write {
                cell,
                token,
                confidence: softmax.probability(logits[token as usize]),
                provisional,
            });
        }
        Ok(Choice {
            write,
            reopen: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::{Cell, Row};
    use crate::draw::{Draw, DrawKind};
    use crate::eos::HeldBack;
    use crate::uniforms::{At, Uniforms};
    use demask_diffusion::sampling::Crossing;

    const MASK: u32 = 3;

    /// The same number for everything.
    #[derive(Debug)]
    struct Same(f64);

    impl Uniforms for Same {
        fn at(&self, _: At, n: usize) -> Vec<f64> {
            vec![self.0; n]
        }
    }

    fn leap(rule: Rule, graph: Graph, predicts: Predicts) -> Leap {
        let uniform = graph == Graph::Uniform;
        let noise = uniform.then(|| Uniform::new(4).unwrap());
        Leap::new(rule, 1e-5, graph, predicts, noise).unwrap()
    }

    fn token(leap: &Leap, present: u32, logits: &[f32], at: (usize, usize), u: f64) -> Option<u32> {
        let row = Row::new(vec![present], vec![Cell::Open], vec![0], 0);
        let draw = Draw {
            temperature: 1.0,
            top_p: None,
            crossing: Crossing::Keep,
            top_k: None,
            kind: DrawKind::Categorical,
        };
        let (held_back, source) = (HeldBack::default(), Same(u));
        let step = Step {
            row: &row,
            open: &[0],
            index: at.0,
            steps: at.1,
            quota: 1,
            total: at.0,
            draw: &draw,
            held_back: &held_back,
            sample: 0,
            source: &source,
        };
        leap.token(&step, 0, logits).unwrap()
    }

    /// A prediction of clean tokens that is 1/2, 1/4, 1/4.
    fn clean() -> [f32; 4] {
        [0.5f32, 0.25, 0.25, 0.0].map(f32::ln)
    }

    #[test]
    fn the_analytic_step_of_a_clean_prediction_is_ancestral() {
        // From t = 1 to 1/2 a masked cell is revealed with chance (p_t - p_s)/p_t = 1/2.
        let graph = Graph::Absorbing { mask: MASK };
        let leap = leap(Rule::Analytic, graph, Predicts::Clean);
        assert_eq!(token(&leap, MASK, &clean(), (0, 2), 0.51), None);
        // The categorical draw at u = 0.49 is the first token, which has half of the mass.
        assert_eq!(token(&leap, MASK, &clean(), (0, 2), 0.49), Some(0));
    }

    #[test]
    fn scaled_scores_of_a_masked_cell_are_the_clean_prediction() {
        let graph = Graph::Absorbing { mask: MASK };
        let scaled = leap(
            Rule::Analytic,
            graph,
            Predicts::LogScores {
                scale_by_sigma: true,
            },
        );
        // With scale_by_sigma the raw outputs are ln p + ln(V - 1), whatever sigma is.
        let raw = clean().map(|z| z + 3f32.ln());
        for sigma in [0.1, 2.0] {
            let wanted = leap(Rule::Analytic, graph, Predicts::Clean).log_scores(&clean(), sigma);
            let found = scaled.log_scores(&raw, sigma);
            for (f, w) in found.iter().zip(&wanted).take(3) {
                assert!((f - w).abs() < 1e-6, "{f} {w}");
            }
        }
    }

    #[test]
    fn the_euler_step_leaves_with_the_sum_of_its_rates() {
        // t = 1 to 1/2 of the log-linear schedule: rate 0.5 * 0.999/0.001 = 499.5, scores
        // p/expm1(sigma) = p/999, so half leaves. t = 1/2 to 1e-5: rate 0.49999 * 0.999/0.5005, scores
        // p/expm1(sigma) with expm1 = 0.4995/0.5005, so the cell leaves with chance 0.99998.
        let graph = Graph::Absorbing { mask: MASK };
        let leap = leap(Rule::Euler, graph, Predicts::Clean);
        assert_eq!(token(&leap, MASK, &clean(), (0, 2), 0.49), Some(0));
        assert_eq!(token(&leap, MASK, &clean(), (0, 2), 0.51), None);
        assert_eq!(token(&leap, MASK, &clean(), (1, 2), 0.9999), Some(2));
        assert_eq!(token(&leap, MASK, &clean(), (1, 2), 0.999_99), None);
    }

    #[test]
    fn the_last_step_leaves_no_mask() {
        let graph = Graph::Absorbing { mask: MASK };
        for rule in [Rule::Analytic, Rule::Euler] {
            let leap = leap(rule, graph, Predicts::Clean);
            assert_eq!(token(&leap, MASK, &clean(), (2, 2), 0.999_999), Some(2));
        }
    }

    #[test]
    fn equal_scores_under_uniform_noise_are_an_even_draw_at_the_end_of_the_grid() {
        // All ratios 1: the cell is as likely each token. From t = 1 (e^-sigma = 1/1000) the analytic
        // step to 1/2 moves with chance near 3/4 of what noise moved in between.
        let leap = leap(
            Rule::Analytic,
            Graph::Uniform,
            Predicts::LogScores {
                scale_by_sigma: false,
            },
        );
        // dsigma = ln(0.5005/0.001) = 6.2156; e^-d = 0.001998. Equal scores are a fixed point of the
        // staggered score, so the chance to leave is 3/4 (1 - e^-d) = 0.7485.
        assert_eq!(token(&leap, 1, &[0.0; 4], (0, 2), 0.7486), None);
        assert!(token(&leap, 1, &[0.0; 4], (0, 2), 0.7484).is_some());
    }

    #[test]
    fn the_mask_takes_no_part_in_uniform_noise() {
        let predicts = Predicts::LogScores {
            scale_by_sigma: false,
        };
        let with = |noise| Leap::new(Rule::Analytic, 1e-5, Graph::Uniform, predicts, Some(noise));
        let plain = with(Uniform::new(3).unwrap()).unwrap();
        let first = with(Uniform::without(4, Some(0)).unwrap()).unwrap();
        let scores = [0.4, 0.0, -0.9];
        // Its logit is forbidden as it is by the decoder.
        let behind = [f32::NEG_INFINITY, 0.4, 0.0, -0.9];
        for u in [0.01, 0.2, 0.4, 0.6, 0.8, 0.99] {
            for at in [(0, 2), (1, 2), (2, 2)] {
                let wanted = token(&plain, 1, &scores, at, u).map(|id| id + 1);
                assert_eq!(token(&first, 2, &behind, at, u), wanted, "{at:?} {u}");
            }
        }
    }

    #[test]
    fn forbidden_tokens_stay_out() {
        let leap = leap(
            Rule::Analytic,
            Graph::Uniform,
            Predicts::LogScores {
                scale_by_sigma: false,
            },
        );
        let logits = [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for u in [0.0, 0.2, 0.4] {
            assert!(matches!(
                token(&leap, 1, &logits, (0, 2), u),
                None | Some(2)
            ));
            // At the end the present token must go, too.
            assert_eq!(token(&leap, 1, &logits, (2, 2), u), Some(2));
        }
    }
}
