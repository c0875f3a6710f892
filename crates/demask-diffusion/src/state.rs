//! What flows between the parts: token grids, times, and named sets of tensors.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::{DiffusionError, Result};

/// A grid of token ids on the host, row-major `[batch, length]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ids {
    batch: usize,
    length: usize,
    data: Vec<u32>,
}

impl Ids {
    /// A grid from its row-major data. An error when `data` does not hold `batch * length` ids.
    pub fn new(batch: usize, length: usize, data: Vec<u32>) -> Result<Self> {
        if batch.checked_mul(length) != Some(data.len()) {
            return Err(DiffusionError::Shape {
                what: "ids",
                expected: format!("[{batch}, {length}]"),
                found: format!("{} ids", data.len()),
            });
        }
        Ok(Self {
            batch,
            length,
            data,
        })
    }

    /// A grid of `batch` by `length` copies of one id.
    pub fn filled(batch: usize, length: usize, id: u32) -> Self {
        Self {
            batch,
            length,
            data: vec![id; batch * length],
        }
    }

    /// A grid from rows of equal length.
    pub fn from_rows<R: AsRef<[u32]>>(rows: &[R]) -> Result<Self> {
        let length = rows.first().map_or(0, |row| row.as_ref().len());
        let mut data = Vec::with_capacity(rows.len() * length);
        for row in rows {
            if row.as_ref().len() != length {
                return Err(DiffusionError::shape("ids row", length, row.as_ref().len()));
            }
            data.extend_from_slice(row.as_ref());
        }
        Self::new(rows.len(), length, data)
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Cells of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All ids, row-major.
    pub fn data(&self) -> &[u32] {
        &self.data
    }

    /// All ids, row-major, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u32] {
        &mut self.data
    }

    /// The ids, row-major, without the shape.
    pub fn into_data(self) -> Vec<u32> {
        self.data
    }

    /// Row `b`, `length` ids. Panics when `b >= batch`.
    pub fn row(&self, b: usize) -> &[u32] {
        &self.data[b * self.length..(b + 1) * self.length]
    }

    /// Row `b`, to be changed in place. Panics when `b >= batch`.
    pub fn row_mut(&mut self, b: usize) -> &mut [u32] {
        &mut self.data[b * self.length..(b + 1) * self.length]
    }

    /// The id at row `b`, position `l`. Panics outside the grid.
    pub fn get(&self, b: usize, l: usize) -> u32 {
        self.row(b)[l]
    }

    /// Writes the id at row `b`, position `l`. Panics outside the grid.
    pub fn set(&mut self, b: usize, l: usize, id: u32) {
        self.row_mut(b)[l] = id;
    }

    /// All cells as `(row, position, id)`, row by row.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
        let length = self.length.max(1);
        self.data
            .iter()
            .enumerate()
            .map(move |(i, &id)| (i / length, i % length, id))
    }

    /// All rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[u32]> + '_ {
        (0..self.batch).map(|b| self.row(b))
    }
}

/// A time (or any noise level) that broadcasts to `[batch, length]`.
///
/// Stored as `[batch, 1]` (one time for a whole sequence) or `[batch, L]` (one for every token: blocks, joint and
/// per-token processes).
#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    batch: usize,
    length: usize,
    data: Vec<f64>,
}

impl Time {
    /// One time for each sequence: shape `[batch, 1]`.
    pub fn per_sequence(data: Vec<f64>) -> Self {
        Self {
            batch: data.len(),
            length: 1,
            data,
        }
    }

    /// One time for each token, row-major `[batch, length]`.
    pub fn per_token(batch: usize, length: usize, data: Vec<f64>) -> Result<Self> {
        if batch.checked_mul(length) != Some(data.len()) {
            return Err(DiffusionError::Shape {
                what: "time",
                expected: format!("[{batch}, {length}]"),
                found: format!("{} values", data.len()),
            });
        }
        Ok(Self {
            batch,
            length,
            data,
        })
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// 1, or the number of cells in a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The stored values, `[batch, length()]` row-major.
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// The time of row `b` at position `l`; `l` is ignored when one time holds for the sequence. Panics outside.
    pub fn at(&self, b: usize, l: usize) -> f64 {
        if self.length == 1 {
            self.data[b]
        } else {
            self.data[b * self.length + l]
        }
    }

    /// Whether one value holds for each whole sequence.
    pub fn is_per_sequence(&self) -> bool {
        self.length == 1
    }

    /// Every value mapped by `f`, same shape.
    #[must_use]
    pub fn map(&self, f: impl FnMut(f64) -> f64) -> Self {
        Self {
            data: self.data.iter().copied().map(f).collect(),
            ..*self
        }
    }

    /// An error unless this broadcasts to `[batch, length]`.
    pub fn check(&self, what: &'static str, batch: usize, length: usize) -> Result<()> {
        if self.batch == batch && (self.length == 1 || self.length == length) {
            return Ok(());
        }
        Err(DiffusionError::Shape {
            what,
            expected: format!("[{batch}, 1] or [{batch}, {length}]"),
            found: format!("[{}, {}]", self.batch, self.length),
        })
    }
}

/// The name of one part of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Token ids.
    Ids,
    /// One vector for each token.
    Embeddings,
    /// Latent vectors, not bound to tokens.
    Latents,
    /// An image or its latent.
    Pixels,
}

impl Part {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Ids => "ids",
            Part::Embeddings => "embeddings",
            Part::Latents => "latents",
            Part::Pixels => "pixels",
        }
    }
}

/// One part of a [`State`].
#[derive(Clone, Debug)]
pub enum Value {
    /// Token ids `[batch, length]` on the host.
    Ids(Ids),
    /// Vectors `[batch, length, width]`.
    Vectors(Tensor<3>),
    /// Images `[batch, channels, height, width]`.
    Images(Tensor<4>),
}

/// What a process acts on: a named set of values. A discrete process uses [`Part::Ids`]; a joint one uses several.
#[derive(Clone, Debug, Default)]
pub struct State {
    parts: BTreeMap<Part, Value>,
}

fn present(parts: &BTreeMap<Part, Value>) -> String {
    if parts.is_empty() {
        return "nothing".to_owned();
    }
    parts
        .keys()
        .map(|part| part.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl State {
    /// The same state with `part` set to `value`.
    #[must_use]
    pub fn with(mut self, part: Part, value: Value) -> Self {
        self.parts.insert(part, value);
        self
    }

    /// The value of `part`.
    pub fn get(&self, part: Part) -> Option<&Value> {
        self.parts.get(&part)
    }

    /// The parts in the order of [`Part`].
    pub fn iter(&self) -> impl Iterator<Item = (Part, &Value)> + '_ {
        self.parts.iter().map(|(&part, value)| (part, value))
    }

    /// The token ids, or an error that says what is there instead.
    pub fn ids(&self) -> Result<&Ids> {
        match self.parts.get(&Part::Ids) {
            Some(Value::Ids(ids)) => Ok(ids),
            _ => Err(DiffusionError::MissingPart {
                part: Part::Ids.name(),
                present: present(&self.parts),
            }),
        }
    }
}

impl From<Ids> for State {
    fn from(ids: Ids) -> Self {
        Self::default().with(Part::Ids, Value::Ids(ids))
    }
}

impl TryFrom<State> for Ids {
    type Error = DiffusionError;

    fn try_from(mut state: State) -> Result<Self> {
        match state.parts.remove(&Part::Ids) {
            Some(Value::Ids(ids)) => Ok(ids),
            _ => Err(DiffusionError::MissingPart {
                part: Part::Ids.name(),
                present: present(&state.parts),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_row_major() {
        let mut ids = Ids::new(2, 3, vec![0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(ids.row(1), [3, 4, 5]);
        assert_eq!(ids.get(0, 2), 2);
        ids.set(1, 0, 9);
        assert_eq!(ids.iter().nth(3), Some((1, 0, 9)));
        assert_eq!(ids.rows().count(), 2);
        assert_eq!(
            Ids::from_rows(&[vec![1, 2], vec![3, 4]]).unwrap().data(),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let message = Ids::new(2, 3, vec![0; 5]).unwrap_err().to_string();
        assert_eq!(message, "ids: expected [2, 3], found 5 ids");
        assert!(Ids::new(usize::MAX, 2, vec![]).is_err());
        assert!(Ids::from_rows(&[vec![1], vec![1, 2]]).is_err());
        assert!(Time::per_token(2, 2, vec![0.0; 3]).is_err());
        assert!(
            Time::per_sequence(vec![0.5; 2])
                .check("time", 3, 4)
                .is_err()
        );
    }

    #[test]
    fn time_broadcasts() {
        let sequence = Time::per_sequence(vec![0.25, 0.75]);
        assert_eq!((sequence.at(1, 0), sequence.at(1, 7)), (0.75, 0.75));
        let token = Time::per_token(1, 2, vec![0.1, 0.2]).unwrap();
        assert_eq!(token.at(0, 1), 0.2);
        assert_eq!(sequence.map(|t| 1.0 - t).data(), [0.75, 0.25]);
    }

    #[test]
    fn states_convert() {
        let ids = Ids::filled(1, 2, 5);
        let state = State::from(ids.clone());
        assert_eq!(state.ids().unwrap(), &ids);
        assert_eq!(Ids::try_from(state).unwrap(), ids);
        let message = State::default().ids().unwrap_err().to_string();
        assert_eq!(message, "the state has no ids part; it holds: nothing");
    }
}
