//! Tables as text and as JSON, from one value.

use serde::Serialize;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::layout::harmless;

/// A table: named columns, rows of cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        // Cells hold texts of checkpoints and data files, which are not trusted with the terminal.
        let mut row: Vec<String> = cells
            .into_iter()
            .map(|cell| harmless(&cell.into()))
            .collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Columns padded with spaces, numbers to the right. The last column wraps at `width` columns
    /// of the terminal when there is one.
    pub fn text(&self, width: Option<usize>) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|c| {
                let cells = self.rows.iter().map(|row| row[c].width());
                cells.chain([self.columns[c].width()]).max().unwrap_or(0)
            })
            .collect();
        let right: Vec<bool> = (0..self.columns.len())
            .map(|c| !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[c])))
            .collect();
        let mut text = String::new();
        let head = Some(&self.columns).filter(|names| names.iter().any(|name| !name.is_empty()));
        for row in head.into_iter().chain(&self.rows) {
            text += &line(row, &widths, &right, width);
        }
        text
    }

    /// GitHub-flavoured Markdown.
    pub fn markdown(&self) -> String {
        let escape = |cell: &String| cell.replace('|', "\\|").replace('\n', " ");
        let join = |row: &[String]| {
            format!(
                "| {} |\n",
                row.iter().map(escape).collect::<Vec<_>>().join(" | ")
            )
        };
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        join(&self.columns) + &rule + &self.rows.iter().map(|row| join(row)).collect::<String>()
    }

    /// One object a row; cells that read as numbers are numbers.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row).map(|(name, cell)| {
                let value = cell.parse::<i64>().map(Value::from).or_else(|_| {
                    cell.parse::<f64>()
                        .ok()
                        .filter(|x| x.is_finite())
                        .map(Value::from)
                        .ok_or(())
                });
                (
                    name.clone(),
                    value.unwrap_or_else(|()| Value::from(cell.clone())),
                )
            });
            Value::Object(cells.collect::<Map<_, _>>())
        });
        Value::Array(rows.collect())
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || cell.parse::<f64>().is_ok()
}

/// A row, padded to these widths. A cell that is too long pushes those after it aside.
pub(super) fn line(
    row: &[String],
    widths: &[usize],
    right: &[bool],
    limit: Option<usize>,
) -> String {
    let mut text = String::new();
    for (c, cell) in row.iter().enumerate() {
        let pad = " ".repeat(widths[c].saturating_sub(cell.width()));
        let last = c + 1 == row.len();
        let indent: usize = widths[..c].iter().map(|w| w + 2).sum();
        match (right[c], last) {
            (true, _) => text += &format!("{pad}{cell}"),
            (false, true) => text += &fold(cell, indent, limit),
            (false, false) => text += &format!("{cell}{pad}"),
        }
        if !last {
            text += "  ";
        }
    }
    format!("{}\n", text.trim_end())
}

/// Breaks a long last cell at spaces, under its own column.
fn fold(cell: &str, indent: usize, limit: Option<usize>) -> String {
    let Some(room) = limit
        .and_then(|l| l.checked_sub(indent))
        .filter(|room| *room >= 24)
    else {
        return cell.to_owned();
    };
    let mut text = String::new();
    let mut used = 0;
    for word in cell.split(' ') {
        if used > 0 && used + 1 + word.width() > room {
            text += &format!("\n{}", " ".repeat(indent));
            used = 0;
        } else if used > 0 {
            text.push(' ');
            used += 1;
        }
        text += word;
        used += word.width();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["name", "n", "what"]);
        table.row(["a", "10", "first | one"]);
        table.row(["bcd", "9", "second"]);
        table
    }

    #[test]
    fn numbers_stand_to_the_right() {
        assert_eq!(
            table().text(None),
            "name   n  what\na     10  first | one\nbcd    9  second\n"
        );
    }

    #[test]
    fn the_last_column_folds_under_itself() {
        let mut table = Table::new(["x", "y"]);
        table.row(["k", "aaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd"]);
        assert_eq!(
            table.text(Some(28)),
            "x  y\nk  aaaaaaaaaa bbbbbbbbbb\n   cccccccccc dddddddddd\n"
        );
    }

    #[test]
    fn json_keeps_numbers_and_markdown_escapes_bars() {
        assert_eq!(
            table().json()[0].to_string(),
            r#"{"name":"a","n":10,"what":"first | one"}"#
        );
        assert!(table().markdown().contains("first \\| one"));
    }
}
