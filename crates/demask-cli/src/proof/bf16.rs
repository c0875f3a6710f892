//! Training in bf16 loses nothing: the same network, data, noise and budget with the products of every step in f32 and
//! in bf16, held against what another seed changes.
//!
//! Parameters, gradients, moments and the residual stream are f32 in both, rows inside a branch are as its products; both bounds are measured in f32.

use anyhow::Result;
use demask::eval::metric::mean_and_error;
use demask::train::Recipe;

use super::order::{self, DRAWS};
use super::workbench::{self, Workbench};
use super::{Cost, Finding, Proof};
use crate::terminal::table::Table;

/// Half of the steps of the order of the objectives: about twenty minutes for twelve trainings.
const STEPS: &str = "run.steps=750";

/// The formats that are compared, the reference first.
const FORMATS: [&str; 2] = ["f32", "bf16"];

/// See the module.
pub struct Bf16;

impl Proof for Bf16 {
    fn name(&self) -> &'static str {
        "bf16"
    }

    fn claim(&self) -> &'static str {
        "trained with products in bf16 and weights in f32, the validation bound is that of f32: what it may lose with \
         95 % confidence, in pairs of the same seed, is less than the standard deviation of f32 between seeds"
    }

    fn paper(&self) -> &'static str {
        "Kalamkar et al. 1905.12322"
    }

    fn seeds(&self) -> u64 {
        6
    }

    fn cost(&self) -> Cost {
        Cost::Trains("20 minutes")
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut bounds = [Vec::new(), Vec::new()];
        for seed in 1..=seeds {
            for (format, bounds) in FORMATS.iter().zip(&mut bounds) {
                let recipe = recipe(seed, format)?;
                let name = format!("bf16/{format}-{seed}");
                let model = bench.trained(&name, &recipe)?;
                bench.step(format!("{name}: the bound on the validation text"))?;
                bounds.push(order::bound(&model, &recipe, bench)?);
            }
        }
        Ok(finding(&bounds))
    }
}

/// The masked run of the order of the objectives, shorter, with products in `format`.
fn recipe(seed: u64, format: &str) -> Result<Recipe> {
    let overrides = [
        "run.name=bf16".to_owned(),
        STEPS.to_owned(),
        format!("run.seed={seed}"),
        format!("run.dtype={format}"),
    ];
    workbench::recipe(order::RECIPE, "order", &overrides)
}

/// 97.5 % quantiles of Student's t with 1 to 9 degrees of freedom; the last one is cautious for more.
const STUDENT: [f64; 9] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
];

/// The bounds side by side, the differences, and the spread of seeds that they are held against.
fn finding(bounds: &[Vec<f64>; 2]) -> Finding {
    let seeds = bounds[0].len();
    let columns = (1..=seeds).map(|seed| format!("seed {seed}"));
    let mut table = Table::new(
        ["nats/character".to_owned()]
            .into_iter()
            .chain(columns)
            .chain(["mean", "spread"].map(str::to_owned)),
    );
    let mut row = |label: &str, values: &[f64]| -> (f64, Option<f64>) {
        let (mean, error) = mean_and_error(values);
        // From the error of the mean to the standard deviation of one seed.
        let spread = error.map(|error| error * (values.len() as f64).sqrt());
        let mut cells = vec![label.to_owned()];
        cells.extend(values.iter().map(|v| format!("{v:.4}")));
        cells.push(format!("{mean:.4}"));
        cells.push(spread.map_or("–".to_owned(), |spread| format!("{spread:.4}")));
        table.row(cells);
        (mean, spread)
    };
    let (_, spread) = row(FORMATS[0], &bounds[0]);
    row(FORMATS[1], &bounds[1]);
    let pairs = bounds[0].iter().zip(&bounds[1]);
    let differences: Vec<f64> = pairs.map(|(f32, bf16)| bf16 - f32).collect();
    let (difference, deviation) = row("bf16 − f32", &differences);
    let margin = deviation.map(|deviation| {
        let student = STUDENT[(seeds - 2).min(STUDENT.len() - 1)];
        student * deviation / (seeds as f64).sqrt()
    });
    let interval = margin.map_or(String::new(), |margin| {
        let (low, high) = (difference - margin, difference + margin);
        format!("; with 95 % confidence the difference lies in {low:.4}..{high:.4}")
    });
    Finding {
        table,
        // One seed shows no spread, and so no claim.
        holds: spread
            .zip(margin)
            .is_some_and(|(spread, margin)| difference + margin < spread),
        settings: format!(
            "Tiny Shakespeare by character, recipes/proofs/order.toml with {STEPS}; {DRAWS} draws a window, first \
             character given; spread is the standard deviation between {seeds} seed(s){interval}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use demask::train::recipe::TrainDtype;

    use super::super::workbench::tests::tiny;
    use super::*;

    #[test]
    fn both_recipes_differ_in_the_format_alone() {
        let [f32, mut bf16] = FORMATS.map(|format| recipe(7, format).unwrap());
        assert_eq!((f32.run.seed, f32.run.steps), (7, 750));
        assert_eq!(bf16.run.dtype, TrainDtype::Bf16);
        bf16.run.dtype = TrainDtype::F32;
        assert_eq!(f32, bf16);
    }

    #[test]
    fn a_loss_that_may_exceed_the_spread_does_not_hold() {
        // Standard deviation of 1.50, 1.52, 1.48: 0.02.
        let f32 = vec![1.50, 1.52, 1.48];
        let near = finding(&[f32.clone(), vec![1.51, 1.53, 1.49]]);
        assert!(near.holds);
        assert!(!finding(&[f32.clone(), vec![1.53, 1.55, 1.51]]).holds);
        // Differences −0.01, 0, 0.01: a mean of 0 ± 4.303 · 0.01 / √3 = 0.0248.
        let unsure = finding(&[f32.clone(), vec![1.49, 1.52, 1.49]]);
        assert!(!unsure.holds);
        let said = "with 95 % confidence the difference lies in -0.0248..0.0248";
        assert!(unsure.settings.contains(said), "{}", unsure.settings);
        assert!(!finding(&[f32[..1].to_vec(), vec![1.50]]).holds);
    }

    #[test]
    fn a_training_in_bf16_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let (mut bench, mut recipe) = tiny(folder.path());
        recipe.set("run.dtype=bf16").unwrap();
        let model = bench.trained("bf16", &recipe).unwrap();
        let nats = order::bound(&model, &recipe, &bench).unwrap();
        assert!((1.5..5.0).contains(&nats), "{nats}");
    }
}
