//! The one error of this crate.

use thiserror::Error;

/// What can go wrong in the mathematics: shapes that do not fit, settings outside their range, tokens outside the
/// vocabulary, or a value of the wrong kind.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum DiffusionError {
    /// Two shapes that must agree do not.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The value whose shape is wrong.
        what: &'static str,
        /// The shape that was needed.
        expected: String,
        /// The shape that came.
        found: String,
    },
    /// A setting lies outside its range.
    #[error("setting `{name}` = {value}: {reason}")]
    Setting {
        /// Name of the setting as it stands in the configuration.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would be accepted.
        reason: &'static str,
    },
    /// A token id that cannot stand where it was found.
    #[error("token {id} {place}: {reason}")]
    Token {
        /// The id.
        id: u32,
        /// Where it was found.
        place: String,
        /// Why it cannot stand there.
        reason: &'static str,
    },
    /// A part of a state that is needed is not there, or is of another kind.
    #[error("the state has no {part} part; it holds: {present}")]
    MissingPart {
        /// The part that was asked for.
        part: &'static str,
        /// The parts that are there.
        present: String,
    },
    /// An objective was given another kind of prediction than it asked for.
    #[error(
        "objective `{objective}` needs {needed}; ask `Objective::wants` before the forward pass"
    )]
    WrongInput {
        /// Name of the objective.
        objective: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// Masks could not be redrawn into the allowed share of masked cells.
    #[error(
        "no mask with a share inside [{low}, {high}] was found for a block of {cells} free cells in {tries} draws; \
         widen the window or turn `resample` off"
    )]
    Resample {
        /// Lower bound of the masked share.
        low: f64,
        /// Upper bound of the masked share.
        high: f64,
        /// Free cells of the block.
        cells: usize,
        /// Draws made.
        tries: usize,
    },
}

/// Result with [`DiffusionError`].
pub type Result<T, E = DiffusionError> = std::result::Result<T, E>;

impl DiffusionError {
    pub(crate) fn shape(
        what: &'static str,
        expected: impl std::fmt::Debug,
        found: impl std::fmt::Debug,
    ) -> Self {
        Self::Shape {
            what,
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        }
    }

    pub(crate) fn setting(
        name: &'static str,
        value: impl std::fmt::Debug,
        reason: &'static str,
    ) -> Self {
        Self::Setting {
            name,
            value: format!("{value:?}"),
            reason,
        }
    }
}
