//! What the shipped Sudoku model can do: every number its card gives is one of these.

use anyhow::{Result, anyhow};
use demask::diffusion::Noise;
use demask::eval::task::sudoku::Puzzle;
use demask::nn::Dtype;

use super::confidence::{SHAPE, fill};
use super::{Cost, Finding, Proof, Workbench};
use crate::checkpoints;
use crate::terminal::table::Table;

/// Puzzles of a row.
const PUZZLES: usize = 100;
/// Clues of a puzzle and how many of a hundred must come out right.
const ROWS: [(usize, usize); 2] = [(14, 97), (12, 93)];
/// Not the seed of the grids that the model was trained on.
const SEED: u64 = 77;

/// See the module.
pub struct Sudoku;

impl Proof for Sudoku {
    fn name(&self) -> &'static str {
        "sudoku"
    }

    fn claim(&self) -> &'static str {
        "the shipped model fills at least 97 of 100 puzzles of 6 by 6 with 14 clues, and 93 with 12"
    }

    fn paper(&self) -> &'static str {
        "checkpoints/sudoku"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Seconds
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let model = checkpoints::open("sudoku", Dtype::F32)?;
        let line_break = model.tokenizer.token_to_id("\n");
        let line_break = line_break.ok_or_else(|| anyhow!("the tokenizer has no line break"))?;
        let mut table = Table::new(["clues", "seed", "puzzles", "right"]);
        let mut holds = true;
        for (clues, wanted) in ROWS {
            for seed in 0..seeds {
                bench.step(format!("{PUZZLES} puzzles of {clues} clues, seed {seed}"))?;
                let puzzles = puzzles(&Noise::new(SEED).child(seed), clues);
                let steps = SHAPE.cells() - clues;
                let answers = fill(&model, &puzzles, "low_confidence", steps, Some(line_break))?;
                let right = answers
                    .iter()
                    .zip(&puzzles)
                    .filter(|(answer, puzzle)| **answer == puzzle.solution)
                    .count();
                holds &= right >= wanted;
                table.row([clues, seed as usize, PUZZLES, right].map(|n| n.to_string()));
            }
        }
        Ok(Finding {
            table,
            holds,
            settings: "puzzles with one solution, low_confidence, one cell a step, greedy".into(),
        })
    }
}

fn puzzles(noise: &Noise, clues: usize) -> Vec<Puzzle> {
    let drawn = (0u64..).filter_map(|i| {
        let grid = SHAPE.grid(&noise.child(i).child(0));
        SHAPE.puzzle(&grid, clues, &noise.child(i).child(1))
    });
    drawn.take(PUZZLES).collect()
}
