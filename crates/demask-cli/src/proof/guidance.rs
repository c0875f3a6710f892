//! Guidance by a label: more of the texts are of the class they are asked for (D-CFG, UDLM 2412.10193,
//! section 3.1), behind masks and under uniform noise.
//!
//! Two small models learn short requests to a voice assistant (SNIPS) with their intents. Each writes
//! requests of every intent: without its label (`gamma` 0), with it (1), and guided by it. A judge that
//! knows intents by the words of real requests counts how many are of theirs.

use anyhow::Result;
use demask::eval::metric::mean_and_error;
use demask::eval::task::classes::WordJudge;
use demask::models::Model;
use demask::text::{DecodeConfig, Decoder, GuideConfig, PolicyConfig, Prompt, StepEvent};
use demask::train::Recipe;
use demask::train::data::Documents;

use super::workbench::stopped;
use super::workbench::{self, Workbench};
use super::{Cost, Finding, Proof};
use crate::terminal::{interrupt, table::Table};

/// The process and the recipe of each model.
const MODELS: [(&str, &str); 2] = [
    (
        "mdlm",
        include_str!("../../../../recipes/proofs/guidance-mdlm.toml"),
    ),
    (
        "udlm",
        include_str!("../../../../recipes/proofs/guidance-udlm.toml"),
    ),
];
/// Exponents of the prediction with the label; that of the one without is what is left to 1.
const GAMMAS: [f64; 4] = [0.0, 1.0, 2.0, 3.0];
/// The guided ones that are compared with the label alone.
const GUIDED: f64 = 3.0;
/// Requests of each intent.
const TEXTS: usize = 60;
/// Steps of the reverse process.
const STEPS: usize = 64;
/// A gain must exceed this many standard errors of its mean over seeds.
const ERRORS: f64 = 2.0;

/// See the module.
pub struct Guidance;

impl Proof for Guidance {
    fn name(&self) -> &'static str {
        "guidance"
    }

    fn claim(&self) -> &'static str {
        "behind masks and under uniform noise, more requests are of the intent asked for with its label than \
         without, and more with gamma 3 than with the label alone, each gain above 2 standard errors of its \
         mean over seeds"
    }

    fn paper(&self) -> &'static str {
        "UDLM 2412.10193, D-CFG"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Trains("half an hour")
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut counted = Counted::default();
        for (name, text) in MODELS {
            for seed in 1..=seeds {
                let recipe = recipe(name, text, seed)?;
                let documents = Documents::read(&recipe.data, &bench.roots(), recipe.run.seed)?;
                let judge = WordJudge::new(documents.train_labelled());
                let held_out: Vec<_> = documents.valid_labelled().collect();
                counted.judge = share(judge.right(held_out.iter().copied()), held_out.len());
                let model = bench.trained(&format!("guidance/{name}-{seed}"), &recipe)?;
                for gamma in GAMMAS {
                    bench.step(format!("{name}, seed {seed}: gamma {gamma}"))?;
                    let texts = requests(&model, gamma, seed)?;
                    let pairs = texts.iter().map(|(text, class)| (&**text, &**class));
                    let percent = share(judge.right(pairs), texts.len());
                    counted.push(name, gamma, percent);
                }
            }
        }
        Ok(counted.finding(seeds))
    }
}

fn recipe(name: &str, text: &str, seed: u64) -> Result<Recipe> {
    let seed = format!("run.seed={seed}");
    workbench::recipe(text, &format!("guidance-{name}"), &[seed])
}

/// Percent.
fn share(right: usize, of: usize) -> f64 {
    100.0 * right as f64 / of.max(1) as f64
}

/// Requests of every intent, each with the intent it was asked for.
fn requests(model: &Model, gamma: f64, seed: u64) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for (number, label) in model.spec.labels.iter().enumerate() {
        let config = DecodeConfig {
            steps: STEPS,
            policy: PolicyConfig::parse("ancestral")?,
            temperature: 1.0,
            label: (gamma != 0.0).then(|| label.clone()),
            guides: vec![GuideConfig::ClassifierFree { scale: gamma - 1.0 }],
            // Without a label, too, the requests of each intent are others.
            seed: 100 * seed + number as u64,
            samples: TEXTS,
            ..DecodeConfig::for_model(&model.spec)?
        };
        // Without the label there is nothing left to leave out.
        let guides = config.guides.clone();
        let config = DecodeConfig {
            guides: if gamma == 0.0 { Vec::new() } else { guides },
            ..config
        };
        let prompt = Prompt::new(model.spec.begin().into_iter().collect());
        let mut stop = |_: &StepEvent| interrupt::flow();
        let decoder = Decoder::new(model, config)?.with_batch(TEXTS);
        let written = decoder.run(&[prompt], &mut stop)?;
        if interrupt::pressed() {
            return Err(stopped());
        }
        texts.extend(written.into_iter().map(|w| (w.text, label.clone())));
    }
    Ok(texts)
}

/// Percent of the class asked for, by model, gamma and seed.
#[derive(Default)]
struct Counted {
    rows: Vec<(&'static str, f64, Vec<f64>)>,
    /// Percent of real requests that the judge gets right.
    judge: f64,
}

impl Counted {
    fn push(&mut self, model: &'static str, gamma: f64, percent: f64) {
        let found = self
            .rows
            .iter_mut()
            .find(|row| row.0 == model && row.1 == gamma);
        match found {
            Some((_, _, values)) => values.push(percent),
            None => self.rows.push((model, gamma, vec![percent])),
        }
    }

    fn values(&self, model: &str, gamma: f64) -> &[f64] {
        let found = self
            .rows
            .iter()
            .find(|row| row.0 == model && row.1 == gamma);
        found.map_or(&[], |row| &row.2)
    }

    /// Whether `more` gives more than `less`, clearly.
    fn gains(&self, model: &str, less: f64, more: f64) -> bool {
        let pairs = self
            .values(model, less)
            .iter()
            .zip(self.values(model, more));
        let gains: Vec<f64> = pairs.map(|(less, more)| more - less).collect();
        let (mean, error) = mean_and_error(&gains);
        error.is_some_and(|error| mean > ERRORS * error && mean > 0.0)
    }

    fn finding(&self, seeds: u64) -> Finding {
        let columns = (1..=seeds).map(|seed| format!("seed {seed}"));
        let mut table = Table::new(
            ["% of the intent", "gamma"]
                .map(str::to_owned)
                .into_iter()
                .chain(columns)
                .chain(["mean", "±"].map(str::to_owned)),
        );
        for (model, gamma, values) in &self.rows {
            let (mean, error) = mean_and_error(values);
            let mut cells = vec![(*model).to_owned(), gamma.to_string()];
            cells.extend(values.iter().map(|v| format!("{v:.1}")));
            cells.push(format!("{mean:.1}"));
            cells.push(error.map_or_else(String::new, |e| format!("{e:.1}")));
            table.row(cells);
        }
        let clear = |(model, _): &(&str, &str)| {
            self.gains(model, 0.0, 1.0) && self.gains(model, 1.0, GUIDED)
        };
        Finding {
            table,
            holds: MODELS.iter().all(clear),
            settings: format!(
                "SNIPS, 7 intents, recipes/proofs/guidance-*.toml; {TEXTS} requests an intent, `ancestral` in \
                 {STEPS} steps, temperature 1; the judge knows words (naive Bayes) and is right on {:.1} % of real \
                 held-out requests; ± is the standard error of the mean over {seeds} seed(s)",
                self.judge
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_are_valid() {
        for (name, text) in MODELS {
            assert_eq!(recipe(name, text, 7).unwrap().run.seed, 7);
        }
    }

    #[test]
    fn both_gains_are_wanted_of_both_models() {
        let holds = |alone: [f64; 3], guided: [f64; 3]| {
            let mut counted = Counted::default();
            for (model, _) in MODELS {
                for seed in 0..3 {
                    counted.push(model, 0.0, 14.0 + seed as f64);
                    let values = if model == "mdlm" {
                        [70.0, 71.0, 72.0]
                    } else {
                        alone
                    };
                    counted.push(model, 1.0, values[seed]);
                    counted.push(model, GUIDED, guided[seed]);
                }
            }
            counted.finding(3).holds
        };
        assert!(holds([60.0, 61.0, 62.0], [80.0, 81.0, 83.0]));
        assert!(
            !holds([14.0, 13.0, 17.0], [80.0, 81.0, 83.0]),
            "no better than without"
        );
        assert!(
            !holds([60.0, 61.0, 62.0], [70.0, 75.0, 71.0]),
            "within its errors"
        );
    }
}
