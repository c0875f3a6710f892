//! A table whose rows are printed as they come: how wide its columns are is settled before the first one.

use unicode_width::UnicodeWidthStr;

use super::layout::harmless;
use super::table::line;

/// Named columns of settled widths.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    names: Vec<String>,
    widths: Vec<usize>,
    right: Vec<bool>,
}

impl Columns {
    /// With a column of texts of this width.
    pub fn text(self, name: &str, width: usize) -> Self {
        self.with(name, width, false)
    }

    /// With a column of numbers, which stand to the right.
    pub fn number(self, name: &str, width: usize) -> Self {
        self.with(name, width, true)
    }

    fn with(mut self, name: &str, width: usize, right: bool) -> Self {
        self.names.push(name.to_owned());
        self.widths.push(width.max(name.width()));
        self.right.push(right);
        self
    }

    /// The line of names.
    pub fn head(&self) -> String {
        line(&self.names, &self.widths, &self.right, None)
    }

    /// The line of a row; missing cells are empty. One that is too long pushes the others aside. The last column wraps
    /// at `width` columns of the terminal when there is one.
    pub fn row(&self, cells: &[String], width: Option<usize>) -> String {
        // Cells hold what other programs say, which are not trusted with the terminal.
        let mut cells: Vec<String> = cells.iter().map(|cell| harmless(cell)).collect();
        cells.resize(self.names.len(), String::new());
        line(&cells, &self.widths, &self.right, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_under_their_names_and_long_ones_push() {
        let columns = Columns::default()
            .text("shape", 8)
            .number("ms", 6)
            .text("", 0);
        let row = |cells: [&str; 3]| columns.row(&cells.map(str::to_owned), None);
        assert_eq!(columns.head(), "shape         ms\n");
        assert_eq!(row(["8x16", "1.250", "it"]), "8x16       1.250  it\n");
        assert_eq!(row(["much longer", "1.250", ""]), "much longer   1.250\n");
        assert_eq!(columns.row(&["a".to_owned()], None), "a\n");
    }
}
