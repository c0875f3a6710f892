//! Masked diffusion in continuous time (MDLM 2406.07524, equation 10).
//!
//! `L = E_t sum_{masked l} w(t) (-ln p_theta(x_0^l | x_t))` with `w = sigma'/expm1(sigma)`; for log-linear noise `w = 1/t`.
//! Written cells give nothing, by the SUBS map. The sum of a batch is divided by its loss cells.

use serde::{Deserialize, Serialize};

use super::masking::{Masking, condition};
use super::{Corrupted, Normalise, Objective, Vocabulary};
use crate::schedule::{Convention, ScheduleConfig, TimeSampling};
use crate::{Ids, Noise, Result};

/// Settings of [`Mdlm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MdlmConfig {
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn.
    pub time: TimeSampling,
    /// Whether the network is told the time. MDLM is not: the mask says it all.
    pub time_input: bool,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for MdlmConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::loglinear(Convention::Mdlm),
            time: TimeSampling::default(),
            time_input: false,
            normalise: Normalise::Tokens,
        }
    }
}

/// The continuous-time objective.
#[derive(Clone, Debug)]
pub struct Mdlm {
    masking: Masking,
    time_input: bool,
    normalise: Normalise,
}

impl Mdlm {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &MdlmConfig, vocabulary: Vocabulary) -> Result<Self> {
        let masking = Masking::new(config.schedule.build()?, config.time, vocabulary)?;
        Ok(Self {
            masking,
            time_input: config.time_input,
            normalise: config.normalise,
        })
    }
}

impl Objective for Mdlm {
    fn name(&self) -> &'static str {
        "mdlm"
    }

    fn is_bound(&self) -> bool {
        self.masking.bounds(self.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let mut corrupted = self
            .masking
            .hide(x0, loss_cells, noise, &moments, |moment| moment.weight)?;
        corrupted.sigma = condition(self.time_input, &moments);
        Ok(corrupted.normalised(self.normalise, loss_cells, x0.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LossInput, Wanted};
    use burn::tensor::{Device, Tensor};

    fn objective() -> Mdlm {
        Mdlm::new(&MdlmConfig::default(), Vocabulary::masked(5, 4)).unwrap()
    }

    #[test]
    fn asks_the_masked_loss_cells_with_weight_one_over_t() {
        let x0 = Ids::new(2, 4, vec![0, 1, 2, 3, 3, 2, 1, 0]).unwrap();
        let cells = [false, true, true, true, true, true, true, false];
        let c = objective().corrupt(&x0, &cells, &Noise::new(3)).unwrap();
        assert_eq!(objective().wants(), Wanted::CrossEntropy);
        assert_eq!((c.scored, c.normaliser, c.forbidden), (6, 6.0, Some(4)));
        assert!(c.sigma.is_none() && c.blocks.is_none());
        for (b, l, id) in c.input.iter() {
            let flat = (b * 4 + l) as u32;
            let asked = c.asked.contains(&flat);
            assert_eq!(asked, id == 4, "cell {flat}");
            assert!(!asked || cells[flat as usize]);
            assert!(asked || id == x0.get(b, l));
        }
        for i in 0..c.asked.len() {
            let b = c.asked[i] as usize / 4;
            assert_eq!(c.target[i], x0.data()[c.asked[i] as usize]);
            assert!((c.weight[i] - 1.0 / c.time.at(b, 0)).abs() < 1e-12);
        }
    }

    #[test]
    fn loss_by_hand() {
        let x0 = Ids::filled(1, 2, 1);
        let mut c = objective()
            .corrupt(&x0, &[true; 2], &Noise::new(1))
            .unwrap();
        c.asked = vec![0, 1];
        c.target = vec![1, 1];
        c.weight = vec![2.0, 4.0];
        // Four tokens equally likely, the mask barred: -ln p = ln 4 each.
        let logits = Tensor::<2>::from_data([[0.0, 0.0, 0.0, 0.0, 5.0]; 2], &Device::flex());
        let loss = objective().loss(LossInput::Logits(logits), &c).unwrap();
        let loss: Vec<f32> = loss.into_data().try_to_vec().unwrap();
        assert!((loss[0] - 2.0 * 4f32.ln()).abs() < 1e-6);
        assert!((loss[1] - 4.0 * 4f32.ln()).abs() < 1e-6);
        let entropy = Tensor::<1>::from_data([0.5, 0.25], &Device::flex());
        let loss = objective()
            .loss(LossInput::CrossEntropy(entropy), &c)
            .unwrap();
        assert_eq!(loss.into_data().try_to_vec::<f32>().unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn bad_batches_are_errors() {
        let noise = Noise::new(0);
        let run = |id, cells: &[bool]| objective().corrupt(&Ids::filled(1, 2, id), cells, &noise);
        assert!(run(1, &[true; 3]).is_err());
        assert!(run(5, &[true; 2]).is_err());
        let message = run(4, &[true; 2]).unwrap_err().to_string();
        assert!(
            message.contains("token 4 at row 0, position 0"),
            "{message}"
        );
        assert!(run(4, &[false; 2]).unwrap().asked.is_empty());
    }
}
