//! Data: from files to the rows of a batch.
//!
//! One way through: files → documents ([`Source`], by a reader) → tokens → rows (by a layout) →
//! the batch of a step (by [`Order`]). Everything is read and tokenised once and held in memory as
//! `u32`; which row a step sees is a function of the seed and the step alone, so that resuming
//! needs no more than the number of the step.
//!
//! | reader | one document is | file |
//! |---|---|---|
//! | `text` | the file, or a piece between separators | `text.rs` |
//! | `jsonl` | a line, through a template | `jsonl.rs` |
//!
//! | layout | one row is | file |
//! |---|---|---|
//! | `packed` | `length` tokens from the stream of all documents | `packed.rs` |
//! | `examples` | one document, prompt and answer, padded to `length` | `examples.rs` |

mod config;
mod corpus;
mod examples;
mod jsonl;
mod labels;
mod open;
mod order;
mod packed;
mod template;
mod text;

pub use config::{
    DataConfig, Filter, Layout, Overlong, Padding, Reader, Separator, Source, Split, Use,
};
pub use corpus::{Corpus, DataNote, Documents, Row};
pub(crate) use open::find;
pub use order::Order;
pub use template::Template;

use crate::TrainError;

/// One piece of text before it is tokenised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What is given and never learned; empty for plain text.
    pub prompt: String,
    /// What is learned.
    pub text: String,
    /// The name of its class, where the reader has a label.
    pub label: Option<String>,
}

/// Calls a visitor with every document of an unpacked file, in order.
trait Documented {
    /// Visits the documents of `text`, the content of the file at `path`.
    fn documents(
        &self,
        path: &std::path::Path,
        text: &str,
        visit: &mut dyn FnMut(Document),
    ) -> Result<(), TrainError>;
}
