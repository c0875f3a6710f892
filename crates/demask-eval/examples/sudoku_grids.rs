//! Prints whole 6 by 6 Sudoku grids, all different, one JSON object a line: `{"grid": "516324\n…"}`.
//! A line break stands after every row of a grid, so that a text of the model is a picture of it.
//!
//! ```text
//! cargo run --release --example sudoku_grids -- 100000 1 | gzip -9n > data/sudoku/6x6_grids.jsonl.gz
//! ```

use std::collections::HashSet;
use std::io::Write;

use demask_diffusion::Noise;
use demask_eval::task::sudoku::Shape;

const SHAPE: Shape = Shape {
    height: 2,
    width: 3,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(count), Some(seed)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sudoku_grids COUNT SEED".into());
    };
    let (count, noise) = (count.parse()?, Noise::new(seed.parse()?));
    let mut seen = HashSet::new();
    let mut drawn = (0..).map(|i| SHAPE.grid(&noise.child(i)));
    let mut out = std::io::stdout().lock();
    while seen.len() < count {
        let grid = drawn.next().expect("the numbers of draws do not end");
        let rows: Vec<String> = grid
            .chunks(SHAPE.side())
            .map(|row| row.iter().map(u8::to_string).collect())
            .collect();
        if seen.insert(grid) {
            // The digits and `\n` stand for themselves in JSON.
            writeln!(out, "{{\"grid\":\"{}\"}}", rows.join("\\n"))?;
        }
    }
    Ok(())
}
