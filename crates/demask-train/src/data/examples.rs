//! The examples layout: one document a row, prompt and answer, padded.

use super::{Overlong, Padding, Row};

/// How examples are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExampleLayout {
    pub length: usize,
    pub bos: Option<u32>,
    /// Needed unless `padding` is none.
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub padding: Padding,
    pub overlong: Overlong,
}

/// One document in tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Example {
    pub prompt: Vec<u32>,
    pub text: Vec<u32>,
    /// The number of its class.
    pub label: Option<u32>,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its first token.
    start: usize,
    /// Cells of its prompt.
    prompt: usize,
    label: Option<u32>,
}

/// The rows of one source, without their padding.
#[derive(Debug, Clone)]
pub(super) struct Examples {
    layout: ExampleLayout,
    tokens: Vec<u32>,
    /// Each row in `tokens`.
    rows: Vec<Place>,
    /// Documents that were longer than a row.
    pub overlong: usize,
    /// Documents that leave cells of their row empty though nothing may fill them.
    pub short: usize,
}

impl Examples {
    /// Lays out the documents of a source.
    pub fn new(documents: impl Iterator<Item = Example>, layout: ExampleLayout) -> Self {
        let mut out = Self {
            layout,
            tokens: Vec::new(),
            rows: Vec::new(),
            overlong: 0,
            short: 0,
        };
        let end = layout.eos.filter(|_| layout.padding != Padding::None);
        for document in documents {
            let Example {
                prompt,
                text,
                label,
            } = document;
            let given = prompt.len() + usize::from(layout.bos.is_some());
            let whole = given + text.len() + usize::from(end.is_some());
            if whole > layout.length {
                out.overlong += 1;
                // A prompt that fills the row leaves nothing to learn, cut or not.
                if layout.overlong == Overlong::Drop || given >= layout.length {
                    continue;
                }
            }
            if layout.padding == Padding::None && whole < layout.length {
                out.short += 1;
            }
            let start = out.tokens.len();
            out.rows.push(Place {
                start,
                prompt: given,
                label,
            });
            out.tokens.extend(layout.bos);
            out.tokens.extend(prompt);
            out.tokens.extend(text);
            out.tokens.extend(end);
            out.tokens.truncate(start + layout.length);
        }
        out
    }

    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The classes of the rows that have one, in order.
    pub fn labels(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().filter_map(|row| row.label)
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    pub fn row(&self, index: usize) -> Row {
        let Place {
            start,
            prompt,
            label,
        } = self.rows[index];
        let end = self
            .rows
            .get(index + 1)
            .map_or(self.tokens.len(), |next| next.start);
        let mut ids = self.tokens[start..end].to_vec();
        let layout = &self.layout;
        let (fill, length) = match layout.padding {
            Padding::Pad => (layout.pad, ids.len()),
            // Filled up where the batch is known.
            Padding::Batch => (None, ids.len()),
            Padding::Eos | Padding::None => (layout.eos, layout.length),
        };
        if let Some(fill) = fill {
            ids.resize(layout.length, fill);
        }
        Row {
            ids,
            prompt,
            length,
            label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: ExampleLayout = ExampleLayout {
        length: 6,
        bos: Some(1),
        eos: Some(2),
        pad: Some(3),
        padding: Padding::Eos,
        overlong: Overlong::Drop,
    };

    fn lay(layout: ExampleLayout, documents: &[(&[u32], &[u32])]) -> Examples {
        Examples::new(
            documents.iter().map(|(p, t)| Example {
                prompt: p.to_vec(),
                text: t.to_vec(),
                label: Some(t[0]),
            }),
            layout,
        )
    }

    #[test]
    fn texts_that_fill_their_rows_need_no_end() {
        let whole = ExampleLayout {
            length: 3,
            bos: None,
            eos: None,
            pad: None,
            padding: Padding::None,
            ..LAYOUT
        };
        let rows = lay(
            whole,
            &[(&[7], &[8, 9]), (&[7], &[8]), (&[], &[7, 8, 9, 7])],
        );
        assert_eq!(rows.row(0).ids, [7, 8, 9]);
        assert_eq!((rows.rows(), rows.short, rows.overlong), (2, 1, 1));
    }

    #[test]
    fn end_tokens_fill_the_row_and_belong_to_the_answer() {
        let rows = lay(LAYOUT, &[(&[7], &[8]), (&[7], &[8, 9])]);
        assert_eq!(
            rows.row(0),
            Row {
                ids: vec![1, 7, 8, 2, 2, 2],
                prompt: 2,
                length: 6,
                label: Some(8),
            }
        );
        assert_eq!(
            rows.row(1),
            Row {
                ids: vec![1, 7, 8, 9, 2, 2],
                prompt: 2,
                length: 6,
                label: Some(8),
            }
        );
    }

    #[test]
    fn padding_tokens_end_the_row() {
        let rows = lay(
            ExampleLayout {
                padding: Padding::Pad,
                ..LAYOUT
            },
            &[(&[7], &[8])],
        );
        assert_eq!(
            rows.row(0),
            Row {
                ids: vec![1, 7, 8, 2, 3, 3],
                prompt: 2,
                length: 4,
                label: Some(8),
            }
        );
    }

    #[test]
    fn long_documents_are_dropped_or_cut() {
        let long: (&[u32], &[u32]) = (&[7, 7], &[8, 8, 8, 8]);
        let dropped = lay(LAYOUT, &[long, (&[7], &[9])]);
        assert_eq!((dropped.rows(), dropped.overlong), (1, 1));
        assert_eq!(dropped.row(0).label, Some(9));
        let cut = lay(
            ExampleLayout {
                overlong: Overlong::Cut,
                ..LAYOUT
            },
            &[long],
        );
        assert_eq!(
            cut.row(0),
            Row {
                ids: vec![1, 7, 7, 8, 8, 8],
                prompt: 3,
                length: 6,
                label: Some(8),
            }
        );
    }
}
