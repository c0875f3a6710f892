//! A world small enough to enumerate: the exactness proof.
//!
//! A [`Toy`] is a distribution over all sequences of a few letters, so the perfect denoiser of every objective is a sum
//! over sequences, and the entropy is known. A likelihood bound at the perfect denoiser *is* the entropy (up to the `eps`
//! at the ends of the time interval), whatever the schedule: [`Toy::bound`] measures it with the same `corrupt` and
//! `loss` that training uses.
//!
//! Perfect means something else for each objective ([`Denoiser`]): under uniform noise UDLM's reverse process divides the
//! posterior's numerator and denominator at one soft `x_0`, and is exact when that is the prediction from the *other*
//! cells, `p(x_0^l | x_t without l)`.

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::objective::{Corrupted, LossInput, ObjectiveConfig, Vocabulary};
use crate::sampling::categorical;
use crate::schedule::{Schedule, ScheduleConfig};
use crate::{DiffusionError, Ids, Noise, Result};

/// A distribution over all sequences of `length` letters.
#[derive(Clone, Debug, PartialEq)]
pub struct Toy {
    letters: usize,
    length: usize,
    probabilities: Vec<f64>,
}

/// Which exact prediction an objective is perfect with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denoiser {
    /// `p(x_0^l | written cells)`.
    Masked,
    /// The same from the cell's own noisy block and the clean blocks before it.
    Block,
    /// `p(x_0^l | clean cells before l)`.
    Prefix,
    /// `p(x_0^l | x_t without l)` under uniform noise; at time zero the token itself.
    LeaveOneOut,
    /// Log-scores of the absorbing graph, raw as SEDD's network gives them (`scaled`: see `scale_by_sigma`).
    AbsorbingScore {
        /// Whether `ln expm1(sigma) + ln(D-1)` is to be added back.
        scaled: bool,
    },
    /// Log-scores `ln p_t(x with l := y)/p_t(x)` of the uniform graph.
    UniformScore,
}

impl Denoiser {
    /// The denoiser an objective is perfect with.
    pub fn of(config: &ObjectiveConfig) -> Self {
        match config {
            ObjectiveConfig::Bd3(_) => Self::Block,
            ObjectiveConfig::Autoregressive(_) => Self::Prefix,
            ObjectiveConfig::Udlm(_) => Self::LeaveOneOut,
            ObjectiveConfig::SeddAbsorbing(c) => Self::AbsorbingScore {
                scaled: c.scale_by_sigma,
            },
            ObjectiveConfig::SeddUniform(_) => Self::UniformScore,
            _ => Self::Masked,
        }
    }

    /// Whether noise is uniform, without a mask.
    fn is_uniform(self) -> bool {
        matches!(self, Self::LeaveOneOut | Self::UniformScore)
    }
}

/// A Monte-Carlo mean in nats a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonteCarlo {
    /// The mean.
    pub mean: f64,
    /// Its standard error, from the spread of batch means.
    pub standard_error: f64,
    /// Sequences drawn.
    pub draws: usize,
}

/// What stands for `ln 0` in logits: small enough to vanish, large enough to stay finite in sums.
const NEVER: f64 = -1e4;

impl Toy {
    /// A distribution from the weight of each sequence: sequence `i` is `i` written in base `letters`, first letter
    /// first. Weights are scaled to sum to one.
    pub fn new(letters: usize, length: usize, weights: Vec<f64>) -> Result<Self> {
        let count = u32::try_from(length)
            .ok()
            .and_then(|n| letters.checked_pow(n));
        if letters < 2 || length == 0 || count != Some(weights.len()) {
            let wanted = format!("{letters}^{length} weights, two letters and one cell at least");
            return Err(DiffusionError::shape("toy", wanted, weights.len()));
        }
        let total: f64 = weights.iter().sum();
        if !(total > 0.0 && total.is_finite()) || weights.iter().any(|w| *w < 0.0) {
            let reason = "weights must be finite, none below 0, not all 0";
            return Err(DiffusionError::setting("weights", total, reason));
        }
        let probabilities = weights.iter().map(|w| w / total).collect();
        Ok(Self {
            letters,
            length,
            probabilities,
        })
    }

    /// Three cells of four letters, with dependence between all cells: the toy of the exactness proof. The weight of
    /// `abc` is `1 + (7a + 3b + 5c + abc) mod 11`, raised to 1.5, eight times as much where `b = a` or `c = 3 - a`.
    pub fn example() -> Self {
        let weights: Vec<f64> = (0..64u32)
            .map(|i| {
                let (a, b, c) = (i / 16, i / 4 % 4, i % 4);
                let base = f64::from(1 + (7 * a + 3 * b + 5 * c + a * b * c) % 11).powf(1.5);
                if b == a || c == 3 - a {
                    8.0 * base
                } else {
                    base
                }
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let probabilities = weights.iter().map(|w| w / total).collect();
        Self {
            letters: 4,
            length: 3,
            probabilities,
        }
    }

    /// Letters of the alphabet; the mask's id is this number.
    pub fn letters(&self) -> usize {
        self.letters
    }

    /// Cells of a sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The probability of each sequence.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// The letter of sequence `i` at position `l`.
    pub fn letter(&self, i: usize, l: usize) -> u32 {
        let power = self.letters.pow((self.length - 1 - l) as u32);
        (i / power % self.letters) as u32
    }

    /// The entropy in nats a sequence.
    pub fn entropy(&self) -> f64 {
        -self
            .probabilities
            .iter()
            .filter(|p| **p > 0.0)
            .map(|p| p * p.ln())
            .sum::<f64>()
    }

    /// `n` sequences drawn from the distribution; sequence `i` from `noise.child(i)`.
    pub fn sample(&self, n: usize, noise: &Noise) -> Ids {
        let mut ids = Ids::filled(n, self.length, 0);
        for b in 0..n {
            let i = categorical(&self.probabilities, noise.child(b as u64).uniform());
            for l in 0..self.length {
                ids.set(b, l, self.letter(i, l));
            }
        }
        ids
    }

    /// `p(x^cell = v)` for each letter, sequences weighted by `likelihood(sequence)`.
    fn marginal(&self, cell: usize, likelihood: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut row = vec![0.0; self.letters];
        for (i, p) in self.probabilities.iter().enumerate() {
            row[self.letter(i, cell) as usize] += p * likelihood(i);
        }
        let total: f64 = row.iter().sum();
        row.iter_mut().for_each(|p| *p /= total);
        row
    }

    /// `p(x_0^cell | seen)`, `[letters]`, where `seen` is `None` for an open cell.
    pub fn given(&self, cell: usize, seen: &[Option<u32>]) -> Vec<f64> {
        self.marginal(cell, |i| {
            let fits = seen
                .iter()
                .enumerate()
                .all(|(l, s)| s.is_none_or(|s| s == self.letter(i, l)));
            f64::from(u8::from(fits))
        })
    }

    /// `p(x_0^cell | x_t)` under uniform noise at level `alpha`, `[letters]`, from all cells but those in `without`.
    pub fn given_uniform(
        &self,
        cell: usize,
        noisy: &[u32],
        alpha: f64,
        without: Option<usize>,
    ) -> Vec<f64> {
        self.marginal(cell, |i| self.uniform_likelihood(i, noisy, alpha, without))
    }

    fn uniform_likelihood(
        &self,
        i: usize,
        noisy: &[u32],
        alpha: f64,
        without: Option<usize>,
    ) -> f64 {
        let kept = (1.0 - alpha) / self.letters as f64;
        (0..self.length)
            .filter(|&l| Some(l) != without)
            .map(|l| {
                if self.letter(i, l) == noisy[l] {
                    alpha + kept
                } else {
                    kept
                }
            })
            .product()
    }

    /// `p_t(noisy)` under uniform noise at level `alpha`.
    pub fn uniform_density(&self, noisy: &[u32], alpha: f64) -> f64 {
        let each = self.probabilities.iter().enumerate();
        each.map(|(i, p)| p * self.uniform_likelihood(i, noisy, alpha, None))
            .sum()
    }

    /// The mutual information of `x_0` and `x_t` in nats at noise level `p`, over all sequences and all noisy ones.
    ///
    /// At the perfect denoiser the bound's integral over the noise levels `[p_a, p_b]` is exactly
    /// `information(p_a) - information(p_b)` (the divergence between forward and reverse paths that begin at `p_a`), so
    /// a bound that begins late can be held against its exact value; over all levels it is the entropy.
    pub fn information(&self, p: f64, uniform: bool) -> f64 {
        let symbols = self.letters + usize::from(!uniform);
        let mask = self.letters as u32;
        let chance = |own: u32, noisy: u32| match (uniform, own == noisy) {
            (true, same) => p / self.letters as f64 + if same { 1.0 - p } else { 0.0 },
            (false, true) => 1.0 - p,
            (false, false) if noisy == mask => p,
            (false, false) => 0.0,
        };
        let mut information = 0.0;
        for code in 0..symbols.pow(self.length as u32) {
            let noisy: Vec<u32> = (0..self.length)
                .map(|l| (code / symbols.pow(l as u32) % symbols) as u32)
                .collect();
            let likelihood: Vec<f64> = (0..self.probabilities.len())
                .map(|i| {
                    (0..self.length)
                        .map(|l| chance(self.letter(i, l), noisy[l]))
                        .product()
                })
                .collect();
            let joint = self.probabilities.iter().zip(&likelihood);
            let density: f64 = joint.clone().map(|(p, q)| p * q).sum();
            let terms = joint.filter(|(p, q)| **p > 0.0 && **q > 0.0);
            information += terms.map(|(p, q)| p * q * (q / density).ln()).sum::<f64>();
        }
        information
    }

    /// The expected sum over masked cells of `-ln p(x_0^l | written cells)`, each cell masked with chance `p`: exact,
    /// over all sequences and all masks. The MDLM bound is `int g(p)/p dp`.
    pub fn masked_cross_entropy(&self, p: f64) -> f64 {
        let mut sum = 0.0;
        for (i, weight) in self
            .probabilities
            .iter()
            .enumerate()
            .filter(|(_, p)| **p > 0.0)
        {
            for hidden in 0..1usize << self.length {
                let open = |l: usize| hidden >> l & 1 == 1;
                let seen: Vec<Option<u32>> = (0..self.length)
                    .map(|l| (!open(l)).then(|| self.letter(i, l)))
                    .collect();
                let count = hidden.count_ones() as i32;
                let chance = p.powi(count) * (1.0 - p).powi(self.length as i32 - count);
                for l in (0..self.length).filter(|&l| open(l)) {
                    let own = self.given(l, &seen)[self.letter(i, l) as usize];
                    sum -= weight * chance * own.ln();
                }
            }
        }
        sum
    }

    /// The exact bound of masked diffusion in `steps` steps: `sum_k g(k/T)/k`. Falls to the entropy as `T` grows.
    pub fn finite_bound(&self, steps: usize) -> f64 {
        (1..=steps)
            .map(|k| self.masked_cross_entropy(k as f64 / steps as f64) / k as f64)
            .sum()
    }

    /// The vocabulary on which `config` is built in this world: the letters, and a mask unless noise is uniform.
    pub fn vocabulary(&self, config: &ObjectiveConfig) -> Vocabulary {
        if Denoiser::of(config).is_uniform() {
            Vocabulary::plain(self.letters)
        } else {
            Vocabulary::masked(self.letters + 1, self.letters as u32)
        }
    }

    /// The perfect logits of one asked row of a corrupted batch, as wide as [`Toy::vocabulary`].
    pub fn logits(
        &self,
        denoiser: Denoiser,
        schedule: &dyn Schedule,
        corrupted: &Corrupted,
        row: usize,
    ) -> Vec<f64> {
        let n = corrupted.input.length();
        let (b, cell) = (
            corrupted.asked[row] as usize / n,
            corrupted.asked[row] as usize % n,
        );
        let input = corrupted.input.row(b);
        let mask = self.letters as u32;
        let t = corrupted.row_time[row];
        let written = |l: usize| (input[l] != mask).then(|| input[l]);
        let log = |row: Vec<f64>| -> Vec<f64> { row.iter().map(|p| p.ln().max(NEVER)).collect() };
        let mut logits = match denoiser {
            Denoiser::Masked | Denoiser::AbsorbingScore { .. } => {
                log(self.given(cell, &(0..self.length).map(written).collect::<Vec<_>>()))
            }
            Denoiser::Prefix => {
                let seen = |l: usize| (l < cell).then(|| input[l]);
                log(self.given(cell, &(0..self.length).map(seen).collect::<Vec<_>>()))
            }
            Denoiser::Block => {
                let one = vec![0; self.length];
                let block = corrupted.blocks.as_ref().unwrap_or(&one);
                let seen = |l: usize| match block[l].cmp(&block[cell]) {
                    std::cmp::Ordering::Less => Some(input[self.length + l]),
                    std::cmp::Ordering::Equal => written(l),
                    std::cmp::Ordering::Greater => None,
                };
                log(self.given(cell, &(0..self.length).map(seen).collect::<Vec<_>>()))
            }
            Denoiser::LeaveOneOut => {
                let without = (t > 0.0).then_some(cell);
                log(self.given_uniform(cell, input, schedule.alpha(t), without))
            }
            Denoiser::UniformScore => {
                let density = |y: u32| {
                    let mut other = input.to_vec();
                    other[cell] = y;
                    self.uniform_density(&other, schedule.alpha(t)).ln()
                };
                let here = density(input[cell]);
                (0..mask).map(|y| density(y) - here).collect()
            }
        };
        if let Denoiser::AbsorbingScore { scaled } = denoiser {
            // ln s_y = ln p - ln e1, and the network's raw output lies ln e1 + ln(D-1) above it.
            let e1 = schedule.sigma(t).exp_m1().ln();
            let raised = if scaled {
                (self.letters as f64).ln()
            } else {
                -e1
            };
            logits.iter_mut().for_each(|x| *x += raised);
        }
        if !denoiser.is_uniform() {
            logits.push(NEVER);
        }
        logits
    }

    /// The loss of an objective at its perfect denoiser, in nats a sequence, from `batches` batches of `batch` sequences.
    pub fn bound(
        &self,
        config: &ObjectiveConfig,
        batches: usize,
        batch: usize,
        noise: &Noise,
    ) -> Result<MonteCarlo> {
        let vocabulary = self.vocabulary(config);
        let objective = config.build(vocabulary)?;
        let denoiser = Denoiser::of(config);
        let schedule = schedule_of(config).build()?;
        let device = Device::flex();
        let mut means = Vec::with_capacity(batches);
        for index in 0..batches as u64 {
            let x0 = self.sample(batch, &noise.child(0).child(index));
            let cells = vec![true; batch * self.length];
            let c = objective.corrupt(&x0, &cells, &noise.child(1).child(index))?;
            let rows = c.asked.len();
            if rows == 0 {
                means.push(0.0);
                continue;
            }
            let logits: Vec<f64> = (0..rows)
                .flat_map(|row| self.logits(denoiser, &*schedule, &c, row))
                .collect();
            let data = TensorData::new(logits, [rows, vocabulary.size]);
            let logits = Tensor::<2>::from_data(data, (&device, DType::F64));
            let loss = objective.loss(LossInput::Logits(logits), &c)?;
            means.push(loss.sum().into_scalar::<f64>() / batch as f64);
        }
        let count = means.len().max(1) as f64;
        let mean = means.iter().sum::<f64>() / count;
        let spread = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Ok(MonteCarlo {
            mean,
            standard_error: (spread / count).sqrt(),
            draws: batches * batch,
        })
    }
}

/// The schedule of an objective whose denoiser is told the noise level; log-linear where none is needed.
fn schedule_of(config: &ObjectiveConfig) -> ScheduleConfig {
    match config {
        ObjectiveConfig::Udlm(c) => c.schedule.clone(),
        ObjectiveConfig::SeddAbsorbing(c) => c.schedule.clone(),
        ObjectiveConfig::SeddUniform(c) => c.schedule.clone(),
        _ => ScheduleConfig::default(),
    }
}

/// The schedules of the exactness proof: every kind that runs over all noise levels, with ends of 1e-6 in place of the
/// usual 1e-3, so that what the ends leave out is far below the standard error.
pub fn schedules() -> Vec<ScheduleConfig> {
    use crate::schedule::{Convention, CosineConvention};
    let eps = 1e-6;
    vec![
        ScheduleConfig::Loglinear {
            convention: Convention::Mdlm,
            eps,
        },
        ScheduleConfig::Loglinear {
            convention: Convention::Bd3lms,
            eps,
        },
        ScheduleConfig::Loglinear {
            convention: Convention::Llada,
            eps,
        },
        ScheduleConfig::Geometric {
            sigma_min: 1e-5,
            sigma_max: 20.0,
        },
        ScheduleConfig::Cosine {
            convention: CosineConvention::Mdlm,
            eps,
        },
        ScheduleConfig::Cosine {
            convention: CosineConvention::Bd3lms,
            eps,
        },
        ScheduleConfig::CosineSquared { eps },
        ScheduleConfig::Linear {
            sigma_min: 0.0,
            sigma_max: 12.0,
        },
        ScheduleConfig::Power { exponent: 2.0, eps },
        ScheduleConfig::Power { exponent: 0.5, eps },
        ScheduleConfig::Logarithmic {},
    ]
}

#[cfg(test)]
mod tests;
