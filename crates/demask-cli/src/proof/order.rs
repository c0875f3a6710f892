//! The order of the bounds of four objectives on the same network, data and budget (BD3-LM
//! 2503.09573, table 3, at the size of a laptop).
//!
//! Block diffusion trains in the clipped windows that the paper found best for its block sizes; all
//! bounds are measured in the window `(1e-3, 1)`. The first character of every window is given to
//! all models, because a left-to-right model cannot score it.

use anyhow::{Result, anyhow};
use demask::diffusion::Noise;
use demask::eval::data::{Packing, Window, WindowConfig, Wrap, windows};
use demask::eval::metric::mean_and_error;
use demask::eval::metric::nelbo::{NelboConfig, nelbo};
use demask::eval::{EvalError, Progress};
use demask::models::Model;
use demask::train::Recipe;
use demask::train::data::Documents;

use super::workbench::stopped;
use super::workbench::{self, Workbench};
use super::{Cost, Finding, Proof};
use crate::terminal::{interrupt, table::Table};

/// The recipe of the masked run.
pub(super) const RECIPE: &str = include_str!("../../../../recipes/proofs/order.toml");
/// Draws of times and masks for every window.
pub(super) const DRAWS: usize = 16;
/// Windows forwarded at once.
const BATCH: usize = 32;
/// Gaps must exceed this many standard errors of their mean over seeds.
const ERRORS: f64 = 2.0;

/// An objective in the comparison and what it changes in the recipe.
pub(super) struct Contender {
    pub label: &'static str,
    /// The word in the name of the run folder.
    pub name: &'static str,
    pub overrides: &'static [&'static str],
}

/// From the lowest bound to the highest, as claimed.
pub(super) const CONTENDERS: [Contender; 4] = [
    Contender {
        label: "AR",
        name: "ar",
        overrides: &[
            "objective={ kind = \"autoregressive\" }",
            "network.attention={ kind = \"causal\" }",
        ],
    },
    Contender {
        label: "BD3 L'=4",
        name: "bd3-4",
        overrides: &[
            "objective={ kind = \"bd3\", block = 4, time = { min = 0.45, max = 0.95 } }",
            "network.attention={ kind = \"block_causal\", block = 4 }",
        ],
    },
    Contender {
        label: "BD3 L'=16",
        name: "bd3-16",
        overrides: &[
            "objective={ kind = \"bd3\", block = 16, time = { min = 0.3, max = 0.8 } }",
            "network.attention={ kind = \"block_causal\", block = 16 }",
        ],
    },
    Contender {
        label: "MDLM",
        name: "mdlm",
        overrides: &[],
    },
];

impl Contender {
    /// The recipe of this contender for a seed.
    pub fn recipe(&self, seed: u64, more: &[&str]) -> Result<Recipe> {
        let overrides = self.overrides.iter().chain(more);
        let mut overrides: Vec<String> = overrides.map(|o| (*o).to_owned()).collect();
        overrides.push(format!("run.seed={seed}"));
        workbench::recipe(RECIPE, "order", &overrides)
    }
}

/// See the module.
pub struct Order;

impl Proof for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn claim(&self) -> &'static str {
        "same network, data and budget: the validation bound of AR < BD3-LM with blocks of 4 < blocks of 16 < MDLM, \
         every gap above 2 standard errors of its mean over seeds"
    }

    fn paper(&self) -> &'static str {
        "BD3-LM 2503.09573, table 3"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Trains("an hour")
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        // bounds[contender][seed]
        let mut bounds = vec![Vec::new(); CONTENDERS.len()];
        for seed in 1..=seeds {
            for (contender, bounds) in CONTENDERS.iter().zip(&mut bounds) {
                let recipe = contender.recipe(seed, &[])?;
                let name = format!("order/{}-{seed}", contender.name);
                let model = bench.trained(&name, &recipe)?;
                bench.step(format!("{name}: the bound on the validation text"))?;
                bounds.push(bound(&model, &recipe, bench)?);
            }
        }
        Ok(finding(&bounds))
    }
}

/// Nats a character of the validation text of `recipe`.
pub(super) fn bound(model: &Model, recipe: &Recipe, bench: &Workbench) -> Result<f64> {
    let windows = held_out(model, recipe, bench)?;
    let config = NelboConfig {
        draws: DRAWS,
        first_given: Some(true),
        ..NelboConfig::default()
    };
    let mut stop = |_: Progress| interrupt::flow();
    match nelbo(model, &windows, &config, BATCH, Noise::new(0), &mut stop) {
        Ok(found) => Ok(found.nats),
        Err(EvalError::Stopped) => Err(stopped()),
        Err(error) => Err(error.into()),
    }
}

/// The validation text of `recipe` in whole windows of its length.
fn held_out(model: &Model, recipe: &Recipe, bench: &Workbench) -> Result<Vec<Window>> {
    let documents = Documents::read(&recipe.data, &bench.roots(), recipe.run.seed)?;
    let texts: Vec<String> = documents.valid_texts().map(str::to_owned).collect();
    let config = WindowConfig {
        length: Some(recipe.data.length),
        packing: Packing::Stream,
        wrap: Wrap::None,
        limit: None,
    };
    let mut windows = windows(model, &texts, &config)?;
    windows.retain(|window| window.ids.len() == recipe.data.length);
    if windows.is_empty() {
        return Err(anyhow!("the validation text is shorter than one row"));
    }
    Ok(windows)
}

/// The table of bounds and gaps.
fn finding(bounds: &[Vec<f64>]) -> Finding {
    let seeds = bounds.first().map_or(0, Vec::len);
    let columns = (1..=seeds).map(|seed| format!("seed {seed}"));
    let mut table = Table::new(
        ["nats/character".to_owned()]
            .into_iter()
            .chain(columns)
            .chain(["mean", "±", "gap/±"].map(str::to_owned)),
    );
    let mut row = |label: String, values: &[f64], is_gap: bool| -> bool {
        let (mean, error) = mean_and_error(values);
        // One seed has no standard error, and so shows the direction but not the claim.
        let error = error.unwrap_or(f64::NAN);
        let mut cells = vec![label];
        cells.extend(values.iter().map(|v| format!("{v:.4}")));
        cells.push(format!("{mean:.4}"));
        cells.push(format!("{error:.4}"));
        if is_gap {
            cells.push(format!("{:.1}", mean / error));
        }
        table.row(cells);
        mean > ERRORS * error
    };
    for (contender, values) in CONTENDERS.iter().zip(bounds) {
        row(contender.label.to_owned(), values, false);
    }
    let mut holds = seeds > 1;
    for (pair, values) in CONTENDERS.windows(2).zip(bounds.windows(2)) {
        let gaps: Vec<f64> = values[0]
            .iter()
            .zip(&values[1])
            .map(|(a, b)| b - a)
            .collect();
        holds &= row(
            format!("{} − {}", pair[1].label, pair[0].label),
            &gaps,
            true,
        );
    }
    Finding {
        table,
        holds,
        settings: format!(
            "Tiny Shakespeare by character, recipes/proofs/order.toml; {DRAWS} draws a window, \
             first character given; ± is the standard error of the mean over {seeds} seed(s)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workbench::tests::tiny;
    use super::*;

    #[test]
    fn every_contender_is_a_valid_recipe() {
        for contender in &CONTENDERS {
            let recipe = contender.recipe(7, &[]).unwrap();
            assert_eq!(recipe.run.seed, 7, "{}", contender.name);
        }
    }

    #[test]
    fn a_clear_order_holds_and_a_blurred_one_does_not() {
        let clear = vec![
            vec![1.50, 1.51, 1.49],
            vec![1.60, 1.62, 1.59],
            vec![1.70, 1.71, 1.69],
            vec![1.80, 1.82, 1.79],
        ];
        assert!(finding(&clear).holds);
        let mut blurred = clear.clone();
        blurred[2] = vec![1.60, 1.70, 1.55];
        assert!(!finding(&blurred).holds);
        let single: Vec<Vec<f64>> = clear.iter().map(|v| v[..1].to_vec()).collect();
        assert!(!finding(&single).holds);
    }

    #[test]
    fn every_contender_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        for contender in &CONTENDERS {
            let (mut bench, mut recipe) = tiny(folder.path());
            for change in contender.overrides {
                recipe.set(change).unwrap();
            }
            let model = bench.trained(contender.name, &recipe).unwrap();
            let nats = bound(&model, &recipe, &bench).unwrap();
            // Five steps teach next to nothing: about an even guess over some thirty characters.
            assert!((1.5..5.0).contains(&nats), "{}: {nats}", contender.name);
        }
    }
}
