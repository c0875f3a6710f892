//! Sudoku of any box: grids, puzzles with exactly one solution, and the check of an answer.
//!
//! A grid is its digits row by row, `1..=side`; 0 is an empty cell. Every cell constrains its row,
//! its column and its box, so a cell that is certain now makes others certain later: the standard
//! example of a task in which the order of writing decides (2502.06768).

use demask_diffusion::Noise;

/// The shape of a Sudoku: boxes of `height` by `width` cells, sides of `height * width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of a box.
    pub height: usize,
    /// Columns of a box.
    pub width: usize,
}

/// A puzzle and its only solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Puzzle {
    /// The clues; 0 where a digit is asked for.
    pub clues: Vec<u8>,
    /// The whole grid.
    pub solution: Vec<u8>,
}

impl Shape {
    /// Digits, and cells of a side. At most 30, so that the digits of a unit fit a word.
    pub fn side(self) -> usize {
        self.height * self.width
    }

    /// Cells of a grid.
    pub fn cells(self) -> usize {
        self.side() * self.side()
    }

    /// Row, column and box of a cell, as numbers in `0..3 * side`.
    fn units(self, cell: usize) -> [usize; 3] {
        let side = self.side();
        let (row, column) = (cell / side, cell % side);
        // As many boxes lie side by side as a box has rows.
        let boxed = (row / self.height) * self.height + column / self.width;
        [row, side + column, 2 * side + boxed]
    }

    /// A whole grid, drawn at random (not evenly over all grids: rows are filled one after another).
    pub fn grid(self, noise: &Noise) -> Vec<u8> {
        let mut board = Board::empty(self);
        let mut uniforms = noise.uniform_stream();
        let filled = board.fill(0, &mut |digits| shuffle(digits, &mut uniforms));
        debug_assert!(filled, "every shape has a grid");
        board.digits
    }

    /// A puzzle with exactly `clues` clues and one solution: clues are taken from a whole grid in
    /// random order as long as the solution stays the only one. `None` when this grid does not come
    /// down to so few.
    pub fn puzzle(self, grid: &[u8], clues: usize, noise: &Noise) -> Option<Puzzle> {
        let mut order: Vec<usize> = (0..self.cells()).collect();
        shuffle(&mut order, &mut noise.uniform_stream());
        let mut left = grid.to_vec();
        let mut count = left.len();
        for cell in order {
            if count == clues {
                break;
            }
            left[cell] = 0;
            if self.solutions(&left, 2) == 1 {
                count -= 1;
            } else {
                left[cell] = grid[cell];
            }
        }
        (count == clues).then(|| Puzzle {
            clues: left,
            solution: grid.to_vec(),
        })
    }

    /// How many solutions `clues` have, counted up to `most`. 0 when they contradict each other or
    /// are not a grid of this shape.
    pub fn solutions(self, clues: &[u8], most: usize) -> usize {
        match Board::new(self, clues) {
            Some(mut board) => board.count(most),
            None => 0,
        }
    }

    /// Whether `grid` is whole and breaks no rule.
    pub fn is_solved(self, grid: &[u8]) -> bool {
        grid.iter().all(|digit| *digit > 0) && Board::new(self, grid).is_some()
    }
}

/// A grid under way, with the digits that each unit has used.
struct Board {
    shape: Shape,
    digits: Vec<u8>,
    used: Vec<u32>,
}

impl Board {
    fn empty(shape: Shape) -> Self {
        Self {
            shape,
            digits: vec![0; shape.cells()],
            used: vec![0; 3 * shape.side()],
        }
    }

    /// `None` when a rule is broken.
    fn new(shape: Shape, digits: &[u8]) -> Option<Self> {
        if digits.len() != shape.cells() {
            return None;
        }
        let mut board = Self::empty(shape);
        for (cell, &digit) in digits.iter().enumerate().filter(|(_, digit)| **digit > 0) {
            if usize::from(digit) > shape.side() || board.taken(cell) & bit(digit) != 0 {
                return None;
            }
            board.set(cell, digit);
        }
        Some(board)
    }

    fn taken(&self, cell: usize) -> u32 {
        let units = self.shape.units(cell);
        units.iter().fold(0, |all, &unit| all | self.used[unit])
    }

    fn set(&mut self, cell: usize, digit: u8) {
        for unit in self.shape.units(cell) {
            self.used[unit] |= bit(digit);
        }
        self.digits[cell] = digit;
    }

    fn clear(&mut self, cell: usize) {
        let digit = std::mem::take(&mut self.digits[cell]);
        for unit in self.shape.units(cell) {
            self.used[unit] &= !bit(digit);
        }
    }

    fn allowed(&self, cell: usize) -> Vec<u8> {
        let taken = self.taken(cell);
        (1..=self.shape.side() as u8)
            .filter(|&digit| taken & bit(digit) == 0)
            .collect()
    }

    /// Fills the cells from `cell` on, trying digits in the order that `order` gives them.
    fn fill(&mut self, cell: usize, order: &mut dyn FnMut(&mut [u8])) -> bool {
        if cell == self.digits.len() {
            return true;
        }
        let mut digits = self.allowed(cell);
        order(&mut digits);
        digits.into_iter().any(|digit| {
            self.set(cell, digit);
            let done = self.fill(cell + 1, order);
            if !done {
                self.clear(cell);
            }
            done
        })
    }

    /// Counts solutions, the cell with the fewest digits first.
    fn count(&mut self, most: usize) -> usize {
        let open = (0..self.digits.len()).filter(|&cell| self.digits[cell] == 0);
        let Some(cell) = open.max_by_key(|&cell| self.taken(cell).count_ones()) else {
            return 1;
        };
        let mut found = 0;
        for digit in self.allowed(cell) {
            self.set(cell, digit);
            found += self.count(most - found);
            self.clear(cell);
            if found >= most {
                break;
            }
        }
        found
    }
}

fn bit(digit: u8) -> u32 {
    1 << digit
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], uniforms: &mut impl Iterator<Item = f64>) {
    for last in (1..items.len()).rev() {
        let u = uniforms.next().unwrap_or_default();
        items.swap(last, ((u * (last + 1) as f64) as usize).min(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Shape = Shape {
        height: 2,
        width: 2,
    };
    const SIX: Shape = Shape {
        height: 2,
        width: 3,
    };

    #[test]
    fn there_are_288_grids_of_four_by_four() {
        assert_eq!(FOUR.solutions(&[0; 16], 1000), 288);
    }

    #[test]
    fn units_by_hand() {
        // Cell 20 of a 6 by 6 grid: row 3, column 2, in the left box of the middle band.
        assert_eq!(SIX.units(20), [3, 8, 14]);
        assert_eq!(SIX.units(35), [5, 11, 17]);
    }

    #[test]
    fn grids_are_solved_and_differ() {
        let grids: Vec<_> = (0..20).map(|i| SIX.grid(&Noise::new(i))).collect();
        assert!(grids.iter().all(|grid| SIX.is_solved(grid)));
        assert!(grids.windows(2).all(|pair| pair[0] != pair[1]));
        let mut wrong = grids[0].clone();
        wrong.swap(0, 1);
        assert!(!SIX.is_solved(&wrong));
        wrong[0] = 0;
        assert!(!SIX.is_solved(&wrong) && !SIX.is_solved(&grids[0][1..]));
    }

    #[test]
    fn puzzles_have_one_solution() {
        let mut made = 0;
        for i in 0..20 {
            let noise = Noise::new(i);
            let grid = SIX.grid(&noise.child(0));
            let Some(puzzle) = SIX.puzzle(&grid, 12, &noise.child(1)) else {
                continue;
            };
            made += 1;
            assert_eq!(puzzle.clues.iter().filter(|d| **d > 0).count(), 12);
            assert_eq!(SIX.solutions(&puzzle.clues, 5), 1);
            assert!(
                puzzle
                    .clues
                    .iter()
                    .zip(&grid)
                    .all(|(c, d)| *c == 0 || c == d)
            );
        }
        assert!(made > 10, "{made}");
    }

    #[test]
    fn a_contradiction_has_no_solution() {
        let mut clues = [0; 16];
        (clues[0], clues[1]) = (3, 3);
        assert_eq!(FOUR.solutions(&clues, 2), 0);
        assert_eq!(FOUR.solutions(&[9; 16], 2), 0);
    }
}
