//! The canvas: the token grid that is being written.

use serde::{Deserialize, Serialize};

/// What may still happen to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Given: prompt or template text. Never changed.
    Fixed,
    /// Holds the mask and waits for a token.
    Open,
    /// Holds a token that was committed.
    Written,
    /// Holds a token that may still change (uniform noise).
    Provisional,
}

impl Cell {
    /// Whether the cell still waits for its final token.
    pub fn is_unsettled(self) -> bool {
        matches!(self, Self::Open | Self::Provisional)
    }
}

/// One row of the canvas: a prompt and the answer that is written after it (or, for a template,
/// around the text that is given).
///
/// Positions are the indices of the cells. Rows have their own lengths: nothing in a row depends on
/// the other rows of its canvas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    ids: Vec<u32>,
    cells: Vec<Cell>,
    blocks: Vec<u32>,
    start: usize,
}

impl Row {
    /// A row from its ids, the state and the block of each cell, and the first cell of the answer.
    ///
    /// # Panics
    /// When the three vectors differ in length or `start` lies past their end.
    pub fn new(ids: Vec<u32>, cells: Vec<Cell>, blocks: Vec<u32>, start: usize) -> Self {
        assert!(ids.len() == cells.len() && ids.len() == blocks.len() && start <= ids.len());
        Self {
            ids,
            cells,
            blocks,
            start,
        }
    }

    /// Number of cells, prompt included.
    pub fn length(&self) -> usize {
        self.ids.len()
    }

    /// The token in each cell.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The state of each cell.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The block of each cell. Blocks are written in rising order; the prompt belongs to block 0.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// The first cell of the answer.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The tokens of the answer.
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.start..]
    }

    /// The unsettled cells up to and including `block`, in rising order: the window of a step.
    pub fn window(&self, block: u32) -> Vec<usize> {
        (0..self.length())
            .filter(|&i| self.cells[i].is_unsettled() && self.blocks[i] <= block)
            .collect()
    }

    /// The first unsettled cell of `range`, or its end.
    pub fn first_unsettled(&self, range: std::ops::Range<usize>) -> usize {
        let unsettled = |&i: &usize| self.cells[i].is_unsettled();
        range.clone().find(unsettled).unwrap_or(range.end)
    }

    /// Number of cells of `block` that are not given.
    pub fn block_size(&self, block: u32) -> usize {
        let cells = self.cells.iter().zip(&self.blocks);
        cells
            .filter(|&(&cell, &b)| b == block && cell != Cell::Fixed)
            .count()
    }

    /// One past the last cell of `block` or of a block before it.
    pub fn end_of(&self, block: u32) -> usize {
        self.blocks
            .iter()
            .rposition(|&b| b <= block)
            .map_or(0, |i| i + 1)
    }

    /// The last block.
    pub fn last_block(&self) -> u32 {
        self.blocks.iter().copied().max().unwrap_or(0)
    }

    /// Puts `token` into `cell` and settles it, or leaves it provisional.
    pub(crate) fn write(&mut self, cell: usize, token: u32, provisional: bool) {
        self.ids[cell] = token;
        self.cells[cell] = if provisional {
            Cell::Provisional
        } else {
            Cell::Written
        };
    }

    /// Opens a written cell again.
    pub(crate) fn reopen(&mut self, cell: usize, mask: u32) {
        self.ids[cell] = mask;
        self.cells[cell] = Cell::Open;
    }
}

/// The canvas `[batch, length]`: rows of different lengths side by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Canvas {
    rows: Vec<Row>,
}

/// A rectangular piece of a canvas, as a network takes it: padding stands at the end of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// `[batch, length]` row-major.
    pub ids: Vec<u32>,
    /// Number of rows.
    pub batch: usize,
    /// Cells of a row, padding included.
    pub length: usize,
    /// Cells of each row without padding.
    pub key_lengths: Vec<usize>,
}

impl Canvas {
    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One row, to be written.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut Row {
        &mut self.rows[row]
    }

    /// Adds a row below.
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Takes a row out; those below move up.
    pub(crate) fn remove(&mut self, row: usize) -> Row {
        self.rows.remove(row)
    }
}

impl Grid {
    /// A grid of rows of any lengths, padded at the end with `pad`.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = &'a [u32]>, pad: u32) -> Self {
        let rows: Vec<&[u32]> = rows.into_iter().collect();
        let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * length);
        for row in &rows {
            ids.extend_from_slice(row);
            ids.extend(std::iter::repeat_n(pad, length - row.len()));
        }
        let key_lengths = rows.iter().map(|row| row.len()).collect();
        Self {
            ids,
            batch: rows.len(),
            length,
            key_lengths,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        use Cell::{Fixed, Open, Written};
        Row::new(
            vec![5, 6, 9, 1, 9, 9],
            vec![Fixed, Fixed, Open, Written, Open, Open],
            vec![0, 0, 0, 0, 1, 1],
            2,
        )
    }

    #[test]
    fn a_window_ends_with_its_block() {
        let row = row();
        assert_eq!(row.window(0), [2]);
        assert_eq!(row.window(1), [2, 4, 5]);
        assert_eq!((row.end_of(0), row.end_of(1), row.last_block()), (4, 6, 1));
        assert_eq!((row.block_size(0), row.block_size(1)), (2, 2));
    }

    #[test]
    fn writing_and_reopening() {
        let mut row = row();
        row.write(2, 7, false);
        assert_eq!(
            (row.answer(), row.window(0).len()),
            ([7, 1, 9, 9].as_slice(), 0)
        );
        row.reopen(3, 9);
        assert_eq!(row.window(0), [3]);
    }

    #[test]
    fn padding_stands_at_the_end() {
        let grid = Grid::from_rows([row().ids(), &[4]], 0);
        assert_eq!(grid.ids, [5, 6, 9, 1, 9, 9, 4, 0, 0, 0, 0, 0]);
        assert_eq!(
            (grid.batch, grid.length, grid.key_lengths),
            (2, 6, vec![6, 1])
        );
    }
}
