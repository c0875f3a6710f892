//! The live canvas of a decoder: step events become scenes.

use std::io::{self, Stdout};
use std::time::Instant;

use demask::models::{Model, Tokenizer};
use demask::text::{Cell as State, Row, StepEvent};

use crate::terminal::layout::{Look, columns};
use crate::terminal::view::{Cell, Scene, View};

/// Follows the texts of a run and draws them on the terminal.
pub struct Watch<'a> {
    view: View<Stdout>,
    canvas: Canvas<'a>,
    begin: Instant,
}

impl<'a> Watch<'a> {
    /// A watch on standard output.
    pub fn new(model: &'a Model) -> Self {
        let canvas = Canvas::new(&model.tokenizer, model.spec.ids.mask.unwrap_or_default());
        Self {
            view: View::on_stdout(),
            canvas,
            begin: Instant::now(),
        }
    }

    /// Takes in an event, and draws when it is time to.
    pub fn event(&mut self, event: &StepEvent) -> io::Result<()> {
        self.canvas.apply(event);
        if self.view.is_due() {
            let mut scene = self.canvas.scene();
            scene.status += &format!(" · {:.1} s", self.begin.elapsed().as_secs_f64());
            self.view.draw(&scene)?;
        }
        Ok(())
    }

    /// Takes the drawing away; the final text is printed in its place.
    pub fn finish(&mut self) -> io::Result<()> {
        self.view.finish()
    }
}

/// Widest stand-in for an open cell.
const WIDEST: usize = 4;

/// The texts of a run as they stand.
struct Canvas<'a> {
    tokenizer: &'a Tokenizer,
    mask: u32,
    /// What stands for an open cell.
    open: String,
    texts: Vec<Text>,
    forwards: usize,
}

/// One text as it stands.
struct Text {
    /// Its number in the run.
    number: usize,
    row: Option<Row>,
    /// The cells written in its last step.
    fresh: Vec<usize>,
    forwards: usize,
}

impl<'a> Canvas<'a> {
    fn new(tokenizer: &'a Tokenizer, mask: u32) -> Self {
        Self {
            tokenizer,
            mask,
            open: stand_in(token_widths(tokenizer)),
            texts: Vec::new(),
            forwards: 0,
        }
    }

    fn apply(&mut self, event: &StepEvent) {
        let number = event.row();
        let known = self.texts.iter().position(|text| text.number == number);
        let at = known.unwrap_or_else(|| {
            self.texts.push(Text {
                number,
                row: None,
                fresh: Vec::new(),
                forwards: 0,
            });
            self.texts.len() - 1
        });
        let text = &mut self.texts[at];
        event.apply(&mut text.row, self.mask);
        match event {
            StepEvent::Step {
                committed,
                forwards,
                ..
            } => {
                text.fresh = committed.iter().map(|write| write.cell).collect();
                self.forwards += forwards.saturating_sub(text.forwards);
                text.forwards = *forwards;
            }
            StepEvent::Start { .. } | StepEvent::Finished { .. } => text.fresh.clear(),
            StepEvent::Block { .. } => {}
        }
    }

    fn scene(&self) -> Scene {
        let (mut written, mut total) = (0, 0);
        let mut rows = Vec::new();
        for text in &self.texts {
            let Some(row) = &text.row else { continue };
            let cells: Vec<Cell> = (0..row.length())
                .map(|cell| self.cell(row, &text.fresh, cell))
                .collect();
            total += row
                .cells()
                .iter()
                .filter(|state| **state != State::Fixed)
                .count();
            written += row
                .cells()
                .iter()
                .filter(|state| **state == State::Written)
                .count();
            rows.push(cells);
        }
        Scene {
            rows,
            status: format!("{written} of {total} written · {} forwards", self.forwards),
        }
    }

    fn cell(&self, row: &Row, fresh: &[usize], cell: usize) -> Cell {
        let id = row.ids()[cell];
        let look = match row.cells()[cell] {
            State::Fixed => Look::Given,
            State::Open => Look::Open,
            State::Written | State::Provisional if fresh.contains(&cell) => Look::Fresh,
            State::Written | State::Provisional => Look::Written,
        };
        if look == Look::Open {
            let text = self.open.clone();
            return Cell { look, text };
        }
        // A begin or end token has no text of its own.
        let text = match self.tokenizer.is_special(id) {
            true if look == Look::Given => String::new(),
            true => "·".to_owned(),
            false => self.tokenizer.decode_cell(id),
        };
        Cell { look, text }
    }
}

/// Columns of each token that has a text.
fn token_widths(tokenizer: &Tokenizer) -> impl Iterator<Item = usize> {
    (0..tokenizer.vocab_size() as u32)
        .filter(|&id| tokenizer.is_assigned(id) && !tokenizer.is_special(id))
        .map(|id| columns(&tokenizer.decode_cell(id)))
}

/// What stands for an open cell: as wide as a token is on average, so that the text hardly moves
/// while it is written. Long tokens are many in a vocabulary and few in a text, hence a limit.
fn stand_in(widths: impl Iterator<Item = usize>) -> String {
    let (count, sum) = widths.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
    let mean = (sum as f64 / f64::from(count.max(1))).round() as usize;
    match mean.clamp(1, WIDEST) {
        1 => "░".to_owned(),
        width => "░".repeat(width - 1) + " ",
    }
}

#[cfg(test)]
mod tests {
    use demask::text::Write;

    use super::*;

    #[test]
    fn an_open_cell_is_as_wide_as_a_token() {
        let text = |widths: &[usize]| stand_in(widths.iter().copied());
        assert_eq!(text(&[1, 1, 1, 2]), "░");
        assert_eq!(text(&[1, 2, 4]), "░ ");
        assert_eq!(text(&[3, 5]), "░░░ ");
        assert_eq!(text(&[9, 12]), "░░░ ");
        assert_eq!(text(&[]), "░");
    }

    #[test]
    fn events_become_a_scene() {
        let folder = tempfile::tempdir().unwrap();
        demask::models::family::random("demask", 1, folder.path()).unwrap();
        let tokenizer = Tokenizer::from_dir(folder.path()).unwrap();
        let id = |text: &str| tokenizer.encode(text).unwrap()[0];
        let mask = 256;
        let mut canvas = Canvas::new(&tokenizer, mask);
        let cells = vec![State::Fixed, State::Open, State::Open];
        let ids = vec![id("a"), mask, mask];
        let (start, blocks) = (1, vec![0; 3]);
        canvas.apply(&StepEvent::Start {
            row: 0,
            prompt: 0,
            sample: 0,
            start,
            ids,
            cells,
            blocks,
        });
        let committed = vec![Write {
            cell: 2,
            token: id("c"),
            confidence: 0.5,
            provisional: false,
        }];
        canvas.apply(&StepEvent::Step {
            row: 0,
            step: 0,
            block: 0,
            forwards: 1,
            rows: 3,
            level: 1.0,
            committed,
            reopened: vec![],
        });
        let scene = canvas.scene();
        assert_eq!(scene.status, "1 of 2 written · 1 forwards");
        let looks: Vec<Look> = scene.rows[0].iter().map(|cell| cell.look).collect();
        assert_eq!(looks, [Look::Given, Look::Open, Look::Fresh]);
        // Each token of this vocabulary is a byte.
        let texts: Vec<&str> = scene.rows[0].iter().map(|cell| &*cell.text).collect();
        assert_eq!(texts, ["a", "░", "c"]);
    }
}
