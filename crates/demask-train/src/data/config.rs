//! `[data]` of a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Template;
use crate::TrainError;

/// `[data]`: what is learned from, and how it becomes rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Cells of a row, at least 2.
    pub length: usize,
    /// How documents become rows.
    #[serde(default)]
    pub layout: Layout,
    /// Which part of a `shared` source is kept for validation.
    #[serde(default)]
    pub split: Split,
    /// Share of the text of every `shared` source that is kept for validation, in [0, 1).
    #[serde(default = "default_valid_share")]
    pub valid_share: f64,
    /// Share of the training rows that are shown without their label, in [0, 1), so that the network
    /// also learns to write without one (classifier-free guidance); 0.1 when left out. Only where the
    /// readers have a `label`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_dropout: Option<f64>,
    /// The files.
    pub source: Vec<Source>,
}

/// `[[data.source]]`: one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file, from the current folder or the one above the recipe's; one that ends in `.gz` is unpacked while it is read.
    pub path: PathBuf,
    /// What the file is for.
    #[serde(default, rename = "use")]
    pub used: Use,
    /// How often a row of this file is seen, next to a row of weight 1; above 0.
    #[serde(default = "one")]
    pub weight: f64,
    /// Licence of the data, for the model card.
    #[serde(default)]
    pub licence: String,
    /// How documents are read from it.
    pub reader: Reader,
}

/// What a file is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Training, less `valid_share` of it for validation.
    #[default]
    Shared,
    /// Training only.
    Train,
    /// Validation only.
    Valid,
}

/// How documents are read from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reader {
    /// Plain UTF-8 text.
    Text {
        /// What stands between two documents.
        #[serde(default)]
        separator: Separator,
    },
    /// One JSON object a line.
    Jsonl {
        /// Template of what is given, e.g. `"{mr} =>"`; empty for plain text.
        #[serde(default)]
        prompt: Template,
        /// Template of what is learned, e.g. `"{text}"`.
        text: Template,
        /// Template of the class of a line, e.g. `"{intent}"`; every source needs one, or none. The
        /// network is then conditioned on the class. Its classes are those of the training data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<Template>,
        /// Only lines that pass are read; all when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<Filter>,
    },
}

/// What stands between two documents of a text file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Separator {
    /// Nothing: the file is one document.
    #[default]
    None,
    /// This text; it belongs to no document.
    Text {
        /// The separator.
        text: String,
    },
    /// A line break with text on both sides. Paragraphs inside a document stand a blank line apart.
    LoneNewline,
}

/// Keeps the lines whose `field` is one of `any`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Dotted path of the field.
    pub field: String,
    /// The values that pass.
    pub any: Vec<String>,
}

/// Which part of a `shared` source is kept for validation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The end of the file; the document at the border is cut in two.
    #[default]
    Tail,
    /// Whole documents, chosen by a hash of the seed and their number.
    Documents,
}

/// How documents become rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layout {
    /// All documents in one stream, cut into rows. Every pass over the data cuts at another place.
    Packed {
        /// Puts a begin token before each document.
        #[serde(default)]
        bos: bool,
        /// Puts an end token after each document.
        #[serde(default)]
        eos: bool,
        /// Puts a begin token before each row and an end token after it, wherever the row was cut
        /// (MDLM on OpenWebText, together with `eos`).
        #[serde(default)]
        wrap: bool,
    },
    /// One document a row: `[begin] prompt | text end`, then padding. The prompt and the begin
    /// token are never masked and never learned.
    Examples {
        /// Puts a begin token before the prompt.
        #[serde(default)]
        bos: bool,
        /// What ends a text and fills its row.
        #[serde(default)]
        padding: Padding,
        /// What is done with a document that is longer than a row.
        #[serde(default)]
        overlong: Overlong,
    },
}

/// What ends a text and fills its row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// An end token, and then more of them, which are masked and learned like others (LLaDA fine-tuning): the model learns
    /// how long an answer is.
    #[default]
    Eos,
    /// The same up to the longest text of each batch, not of all rows (LLaDA's guidelines): less of a
    /// batch is ends of text.
    Batch,
    /// An end token, then padding tokens that nobody sees and nothing is learned of.
    Pad,
    /// Nothing, not even an end token: every text fills its row (grids, boards, fixed records). A
    /// shorter one is refused.
    None,
}

/// What is done with a document that is longer than a row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Overlong {
    /// It is left out, and the trainer says how many were.
    #[default]
    Drop,
    /// It is cut off at the end of the row.
    Cut,
}

impl Default for Layout {
    fn default() -> Self {
        Self::Packed {
            bos: false,
            eos: false,
            wrap: false,
        }
    }
}

/// The share of rows without their label that is published (UDLM, arXiv 2412.10193).
const LABEL_DROPOUT: f64 = 0.1;

fn default_valid_share() -> f64 {
    0.1
}

fn one() -> f64 {
    1.0
}

impl DataConfig {
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        let fail = |message: String| Err(TrainError::recipe(message));
        if self.length < 2 {
            return fail(format!("data.length = {}: must be at least 2", self.length));
        }
        if !(0.0..1.0).contains(&self.valid_share) {
            return fail(format!(
                "data.valid_share = {}: must be in [0, 1)",
                self.valid_share
            ));
        }
        if self.source.iter().all(|s| s.used == Use::Valid) {
            return fail("data.source: no file is for training; add a [[data.source]]".into());
        }
        if matches!(self.layout, Layout::Packed { wrap: true, .. }) && self.length < 3 {
            let length = self.length;
            return fail(format!(
                "data.length = {length}: data.layout.wrap leaves no room for text; must be at least 3"
            ));
        }
        self.validate_labels()?;
        for (i, source) in self.source.iter().enumerate() {
            if !(source.weight.is_finite() && source.weight > 0.0) {
                return fail(format!(
                    "data.source.{i}.weight = {}: must be a finite number above 0",
                    source.weight
                ));
            }
            match &source.reader {
                Reader::Text {
                    separator: Separator::Text { text },
                } if text.is_empty() => {
                    return fail(format!("data.source.{i}.reader.separator.text is empty"));
                }
                Reader::Jsonl { text, .. } if text.is_empty() => {
                    return fail(format!("data.source.{i}.reader.text is empty"));
                }
                Reader::Jsonl { prompt, .. }
                    if !prompt.is_empty() && matches!(self.layout, Layout::Packed { .. }) =>
                {
                    return fail(format!(
                        "data.source.{i}.reader.prompt needs data.layout = {{ kind = \"examples\" }}: packed rows have no prompts"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the documents have labels.
    pub fn labelled(&self) -> bool {
        self.source.iter().any(|source| source.label().is_some())
    }

    /// The share of training rows that are shown without their label; 0 where none has one.
    pub fn label_dropout(&self) -> f64 {
        match self.labelled() {
            true => self.label_dropout.unwrap_or(LABEL_DROPOUT),
            false => 0.0,
        }
    }

    fn validate_labels(&self) -> Result<(), TrainError> {
        let fail = |message: String| Err(TrainError::recipe(message));
        let without = self.source.iter().position(|s| s.label().is_none());
        if let Some(share) = self.label_dropout {
            if !(0.0..1.0).contains(&share) {
                return fail(format!("data.label_dropout = {share}: must be in [0, 1)"));
            }
            if !self.labelled() {
                return fail(
                    "data.label_dropout is for data with labels: add `label` to the reader of every [[data.source]], or leave the key out".into(),
                );
            }
        }
        if !self.labelled() {
            return Ok(());
        }
        if let Some(i) = without {
            let why = match &self.source[i].reader {
                Reader::Jsonl { .. } => "add one",
                Reader::Text { .. } => "which needs a reader of kind \"jsonl\"",
            };
            return fail(format!(
                "data.source.{i}.reader has no label while another source has one: {why}, or take the labels out"
            ));
        }
        if let Some(i) =
            (self.source.iter()).position(|s| s.label().is_some_and(Template::is_empty))
        {
            return fail(format!("data.source.{i}.reader.label is empty"));
        }
        if matches!(self.layout, Layout::Packed { .. }) {
            return fail(
                "data.source.0.reader.label needs data.layout = { kind = \"examples\" }: packed rows hold parts of several documents, of which each has its own label".into(),
            );
        }
        Ok(())
    }
}

impl Source {
    /// The template of the labels, if there are any.
    pub fn label(&self) -> Option<&Template> {
        match &self.reader {
            Reader::Jsonl { label, .. } => label.as_ref(),
            Reader::Text { .. } => None,
        }
    }
}
