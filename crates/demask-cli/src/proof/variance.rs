//! What antithetic times and clipped windows do to the variance of the training loss (MDLM
//! 2406.07524, section 3.5; BD3-LM 2503.09573, section 5).
//!
//! Two trained models are asked for the loss of fresh training batches, once under each way of
//! drawing times, with the same batches for both ways. The models must be good: what antithetic times
//! remove is the loss's dependence on the noise level, and a model that has learned little loses
//! about as much at every level.

use anyhow::Result;
use demask::diffusion::objective::bd3::Bd3Config;
use demask::diffusion::objective::mdlm::MdlmConfig;
use demask::diffusion::schedule::{Draw, TimeSampling};
use demask::diffusion::{Noise, Objective, ObjectiveConfig, Vocabulary};
use demask::eval::metric::mean_and_error;
use demask::models::Model;
use demask::train::Recipe;
use demask::train::data::{Corpus, Documents};
use demask::train::trainer::batch_loss;

use super::order::{CONTENDERS, Contender};
use super::workbench::Workbench;
use super::{Cost, Finding, Proof};
use crate::terminal::table::Table;

/// Batches measured.
const BATCHES: u64 = 200;
/// Most that antithetic times may leave of the standard deviation.
const ANTITHETIC: f64 = 0.7;
/// Most that the clipped window may leave of the variance.
const CLIPPED: f64 = 0.5;
const BLOCK: usize = 4;
const WINDOW: (f64, f64) = (0.45, 0.95);

/// See the module.
pub struct Variance;

impl Proof for Variance {
    fn name(&self) -> &'static str {
        "variance"
    }

    fn claim(&self) -> &'static str {
        "antithetic times leave at most 0.7 of the standard deviation of the batch loss of MDLM; in BD3-LM with blocks \
         of 4 the window (0.45, 0.95) leaves at most half of the variance"
    }

    fn paper(&self) -> &'static str {
        "MDLM 2406.07524; BD3-LM 2503.09573"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Trains("25 minutes, a third of them shared with `order`")
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut table = Table::new(["seed", "model", "times", "mean", "sd", "sd squared"]);
        let mut holds = true;
        let [masked, blocks] = cases();
        for seed in 1..=seeds {
            let ratio = masked.measure(seed, bench, &mut table)?;
            holds &= ratio <= ANTITHETIC;
            let ratio = blocks.measure(seed, bench, &mut table)?;
            holds &= ratio.powi(2) <= CLIPPED;
        }
        Ok(Finding {
            table,
            holds,
            settings: format!(
                "Tiny Shakespeare by character, recipes/proofs/order.toml; {BATCHES} batches of 32 rows of 128"
            ),
        })
    }
}

/// A model and two ways of drawing its times.
struct Case {
    contender: &'static Contender,
    label: &'static str,
    /// The proof whose run folder the training stands in.
    proof: &'static str,
    /// What the training differs in from that of the contender.
    training: &'static [&'static str],
    /// Without and with the thing that is claimed to help.
    ways: [(&'static str, ObjectiveConfig); 2],
}

fn cases() -> [Case; 2] {
    let mdlm = |draw| {
        ObjectiveConfig::Mdlm(MdlmConfig {
            time: TimeSampling {
                draw,
                ..TimeSampling::default()
            },
            ..MdlmConfig::default()
        })
    };
    let bd3 = |time| {
        ObjectiveConfig::Bd3(Bd3Config {
            block: BLOCK,
            time,
            ..Bd3Config::default()
        })
    };
    let [_, bd3_4, _, masked] = &CONTENDERS;
    [
        Case {
            contender: masked,
            label: "MDLM",
            // The model of `demask proof order` itself.
            proof: "order",
            training: &[],
            ways: [
                ("independent", mdlm(Draw::Independent)),
                ("antithetic", mdlm(Draw::Antithetic)),
            ],
        },
        Case {
            contender: bd3_4,
            label: "BD3 L'=4",
            // The model itself must not have been trained in the window under test.
            proof: "variance",
            training: &["objective={ kind = \"bd3\", block = 4 }"],
            ways: [
                ("(0.001, 1)", bd3(TimeSampling::default())),
                (
                    "(0.45, 0.95)",
                    bd3(TimeSampling::window(WINDOW.0, WINDOW.1)),
                ),
            ],
        },
    ]
}

impl Case {
    /// Adds two rows to `table` and returns the ratio of their standard deviations.
    fn measure(&self, seed: u64, bench: &mut Workbench, table: &mut Table) -> Result<f64> {
        let recipe = self.contender.recipe(seed, self.training)?;
        let name = format!("{}/{}-{seed}", self.proof, self.contender.name);
        let model = bench.trained(&name, &recipe)?;
        let corpus = corpus(&model, &recipe, bench)?;
        let mut deviations = [0.0; 2];
        for ((way, config), deviation) in self.ways.iter().zip(&mut deviations) {
            bench.step(format!("{name}: batch losses with times {way}"))?;
            let objective = config.build(Vocabulary {
                size: model.spec.network.vocab_size,
                mask: model.spec.ids.mask,
            })?;
            let losses = losses(&model, &*objective, &corpus, seed, bench)?;
            let mean;
            (mean, *deviation) = mean_and_deviation(&losses);
            table.row([
                seed.to_string(),
                self.label.to_owned(),
                (*way).to_owned(),
                format!("{mean:.4}"),
                format!("{deviation:.4}"),
                format!("{:.5}", deviation.powi(2)),
            ]);
        }
        let ratio = deviations[1] / deviations[0];
        table.row([
            seed.to_string(),
            self.label.to_owned(),
            format!("{} / {}", self.ways[1].0, self.ways[0].0),
            String::new(),
            format!("{ratio:.3}"),
            format!("{:.3}", ratio.powi(2)),
        ]);
        Ok(ratio)
    }
}

fn corpus(model: &Model, recipe: &Recipe, bench: &Workbench) -> Result<Corpus> {
    let documents = Documents::read(&recipe.data, &bench.roots(), recipe.run.seed)?;
    Ok(Corpus::new(
        &recipe.data,
        &documents,
        &model.tokenizer,
        &model.spec.ids,
        recipe.run.seed,
    )?)
}

fn losses(
    model: &Model,
    objective: &dyn Objective,
    corpus: &Corpus,
    seed: u64,
    bench: &mut Workbench,
) -> Result<Vec<f64>> {
    let noise = Noise::new(seed);
    (0..BATCHES)
        .map(|number| {
            bench.listen()?;
            let rows: Vec<_> = (0..32).map(|i| corpus.train_row(number * 32 + i)).collect();
            Ok(batch_loss(
                &model.network,
                objective,
                &rows,
                &noise.child(number),
            )?)
        })
        .collect()
}

/// Mean and standard deviation of single values.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let (mean, error) = mean_and_error(values);
    let of_mean = (values.len() as f64).sqrt();
    (mean, error.map_or(f64::NAN, |error| error * of_mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_by_hand() {
        let (mean, deviation) = mean_and_deviation(&[1.0, 3.0]);
        assert_eq!(mean, 2.0);
        assert!((deviation - 2f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn the_recipes_are_valid() {
        for case in cases() {
            assert!(
                case.contender.recipe(1, case.training).is_ok(),
                "{}",
                case.label
            );
        }
    }
}
