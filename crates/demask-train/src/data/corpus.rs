//! All documents of a recipe, and all rows.

use std::fmt;
use std::path::PathBuf;

use demask_diffusion::Noise;
use demask_models::{SpecialIds, Tokenizer};
use rayon::prelude::*;

use super::examples::{Example, ExampleLayout, Examples};
use super::jsonl::Jsonl;
use super::labels::Classes;
use super::open::{find, read_text};
use super::packed::Packed;
use super::{DataConfig, Document, Documented, Layout, Order, Padding, Reader, Source, Split, Use};
use crate::TrainError;

/// Something about the data that a user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataNote {
    /// Documents longer than a row were left out or cut.
    Overlong {
        /// The file.
        path: PathBuf,
        /// How many.
        documents: usize,
        /// Of how many.
        of: usize,
        /// Whether they were cut off (else left out).
        cut: bool,
    },
    /// What is held out of a source does not fill one row, so it validates nothing.
    ShortValidation {
        /// The file.
        path: PathBuf,
    },
    /// There are no rows for validation.
    NoValidation,
}

impl fmt::Display for DataNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlong {
                path,
                documents,
                of,
                cut,
            } => write!(
                f,
                "{documents} of {of} documents of {} are longer than a row of data.length and were {}",
                path.display(),
                if *cut { "cut" } else { "left out" }
            ),
            Self::ShortValidation { path } => write!(
                f,
                "what is held out of {} does not fill a row; it validates nothing",
                path.display()
            ),
            Self::NoValidation => f.write_str(
                "no text is held out, so there is no validation loss; data.valid_share holds some out",
            ),
        }
    }
}

/// The documents of all sources, split, before they are tokenised.
#[derive(Debug, Clone)]
pub struct Documents {
    train: Vec<SourceDocuments>,
    valid: Vec<SourceDocuments>,
}

fn labelled(sources: &[SourceDocuments]) -> impl Iterator<Item = (&str, &str)> {
    let documents = sources.iter().flat_map(|s| &s.documents);
    documents.filter_map(|d| Some((d.text.as_str(), d.label.as_deref()?)))
}

#[derive(Debug, Clone)]
struct SourceDocuments {
    path: PathBuf,
    weight: f64,
    documents: Vec<Document>,
}

impl Documents {
    /// Reads every source of `config`; relative paths are looked for below each of `roots`.
    ///
    /// # Errors
    /// [`TrainError::NotFound`], [`TrainError::Io`] or [`TrainError::Data`].
    pub fn read(config: &DataConfig, roots: &[PathBuf], seed: u64) -> Result<Self, TrainError> {
        let mut out = Self {
            train: Vec::new(),
            valid: Vec::new(),
        };
        for (number, source) in config.source.iter().enumerate() {
            let documents = read_source(source, roots)?;
            let (train, valid) = match source.used {
                Use::Train => (documents, Vec::new()),
                Use::Valid => (Vec::new(), documents),
                Use::Shared => {
                    let noise = Noise::new(seed).child(0x0064_6f63).child(number as u64);
                    split(documents, config, noise)
                }
            };
            let part = |documents| SourceDocuments {
                path: source.path.clone(),
                weight: source.weight,
                documents,
            };
            if !train.is_empty() {
                out.train.push(part(train));
            }
            if !valid.is_empty() {
                out.valid.push(part(valid));
            }
        }
        Ok(out)
    }

    /// The texts that a tokenizer is trained on: prompts and texts of all training documents.
    pub fn train_texts(&self) -> impl Iterator<Item = &str> {
        let documents = self.train.iter().flat_map(|s| &s.documents);
        documents
            .flat_map(|d| [d.prompt.as_str(), d.text.as_str()])
            .filter(|t| !t.is_empty())
    }

    /// The texts kept for validation, without their prompts.
    pub fn valid_texts(&self) -> impl Iterator<Item = &str> {
        let documents = self.valid.iter().flat_map(|s| &s.documents);
        documents.map(|d| d.text.as_str())
    }

    /// The texts that are trained on, each with its label; those without one are left out.
    pub fn train_labelled(&self) -> impl Iterator<Item = (&str, &str)> {
        labelled(&self.train)
    }

    /// The texts kept for validation, each with its label.
    pub fn valid_labelled(&self) -> impl Iterator<Item = (&str, &str)> {
        labelled(&self.valid)
    }

    /// The names of the classes, sorted: the distinct labels of the training documents.
    pub fn classes(&self) -> Vec<String> {
        self.numbered().names().to_vec()
    }

    fn numbered(&self) -> Classes {
        Classes::of(self.train.iter().flat_map(|s| &s.documents))
    }

    /// Bytes of text for training and for validation.
    pub fn bytes(&self) -> [usize; 2] {
        [&self.train, &self.valid].map(|parts| {
            let documents = parts.iter().flat_map(|s| &s.documents);
            documents.map(|d| d.prompt.len() + d.text.len()).sum()
        })
    }
}

fn read_source(source: &Source, roots: &[PathBuf]) -> Result<Vec<Document>, TrainError> {
    let path = find(&source.path, roots, "data file")?;
    let text = read_text(&path)?;
    let mut documents = Vec::new();
    let mut keep = |document: Document| {
        if !document.text.is_empty() {
            documents.push(document);
        }
    };
    match &source.reader {
        Reader::Text { separator } => separator.documents(&path, &text, &mut keep)?,
        Reader::Jsonl {
            prompt,
            text: learned,
            label,
            filter,
        } => {
            Jsonl {
                prompt,
                text: learned,
                label: label.as_ref(),
                filter: filter.as_ref(),
            }
            .documents(&path, &text, &mut keep)?;
        }
    }
    if documents.is_empty() {
        let message = match &source.reader {
            Reader::Jsonl {
                filter: Some(filter),
                ..
            } => {
                format!(
                    "no line has `{}` equal to one of: {}",
                    filter.field,
                    filter.any.join(", ")
                )
            }
            _ => "the file holds no document".into(),
        };
        return Err(TrainError::Data {
            path,
            line: None,
            message,
        });
    }
    Ok(documents)
}

/// Splits the documents of one file into those for training and those for validation.
fn split(
    documents: Vec<Document>,
    config: &DataConfig,
    noise: Noise,
) -> (Vec<Document>, Vec<Document>) {
    if config.valid_share == 0.0 {
        return (documents, Vec::new());
    }
    if config.split == Split::Documents {
        let mut keep = noise.uniform_stream();
        return documents
            .into_iter()
            .partition(|_| keep.next().is_none_or(|u| u >= config.valid_share));
    }
    let total: usize = documents.iter().map(|d| d.text.len()).sum();
    let border = (total as f64 * (1.0 - config.valid_share)) as usize;
    let whole = matches!(config.layout, Layout::Examples { .. });
    let (mut train, mut valid, mut seen) = (Vec::new(), Vec::new(), 0);
    for document in documents {
        let length = document.text.len();
        if seen >= border {
            valid.push(document);
        } else if whole || seen + length <= border {
            train.push(document);
        } else {
            let at = document.text.floor_char_boundary(border - seen);
            let (head, tail) = document.text.split_at(at);
            for (text, part) in [(head, &mut train), (tail, &mut valid)] {
                if !text.is_empty() {
                    part.push(Document {
                        prompt: String::new(),
                        text: text.into(),
                        label: None,
                    });
                }
            }
        }
        seen += length;
    }
    (train, valid)
}

/// One row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tokens, as many as the recipe's length.
    pub ids: Vec<u32>,
    /// Leading cells that are given: never masked, never learned.
    pub prompt: usize,
    /// Cells before the padding.
    pub length: usize,
    /// The number of its class, in labelled data.
    pub label: Option<u32>,
}

/// All rows of a recipe, tokenised, in memory.
#[derive(Debug, Clone)]
pub struct Corpus {
    train: Vec<Rows>,
    valid: Vec<Rows>,
    order: Order,
    shifts: Noise,
    length: usize,
    classes: Classes,
    fingerprint: u64,
    notes: Vec<DataNote>,
}

#[derive(Debug, Clone)]
enum Rows {
    Packed(Packed),
    Examples(Examples),
}

impl Corpus {
    /// Tokenises `documents` and lays them out.
    ///
    /// # Errors
    /// [`TrainError::Corpus`] when a source is too small for a row, the layout needs a special token
    /// that `ids` lacks, or a validation document has a label that no training document has; errors
    /// of the tokenizer.
    pub fn new(
        config: &DataConfig,
        documents: &Documents,
        tokenizer: &Tokenizer,
        ids: &SpecialIds,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let classes = documents.numbered();
        let (mut notes, mut short) = (Vec::new(), Vec::new());
        let mut lay = |parts: &[SourceDocuments], training: bool| {
            let mut out = Vec::new();
            for part in parts {
                let rows = lay_out(config, part, &classes, tokenizer, ids, &mut notes)?;
                let count = if training {
                    rows.train_rows()
                } else {
                    rows.valid_rows()
                };
                if count > 0 {
                    out.push(rows);
                } else if training {
                    return Err(too_little(config, part, rows.tokens().len()));
                } else if !part.documents.is_empty() {
                    short.push(DataNote::ShortValidation {
                        path: part.path.clone(),
                    });
                }
            }
            Ok(out)
        };
        let train = lay(&documents.train, true)?;
        let valid = lay(&documents.valid, false)?;
        if valid.is_empty() {
            notes.push(DataNote::NoValidation);
        } else {
            notes.append(&mut short);
        }
        let noise = Noise::new(seed).child(0x6461_7461);
        let turns: Vec<(usize, f64)> = train
            .iter()
            .zip(&documents.train)
            .map(|(rows, part)| (rows.train_rows(), part.weight))
            .collect();
        let mut hash = Fnv::default();
        for rows in train.iter().chain(&valid) {
            hash.add(rows.tokens().len() as u64);
            rows.tokens().iter().for_each(|id| hash.add(u64::from(*id)));
            rows.labels().for_each(|label| hash.add(u64::from(label)));
        }
        for name in classes.names() {
            hash.add(name.len() as u64);
            name.bytes().for_each(|byte| hash.add(u64::from(byte)));
        }
        Ok(Self {
            train,
            valid,
            order: Order::new(noise.child(0), &turns),
            shifts: noise.child(1),
            length: config.length,
            classes,
            fingerprint: hash.0,
            notes,
        })
    }

    /// The row that draw number `k` of the training gives.
    pub fn train_row(&self, k: u64) -> Row {
        let draw = self.order.draw(k);
        match &self.train[draw.source] {
            Rows::Packed(packed) => {
                let noise = self.shifts.child(draw.source as u64).child(draw.pass);
                packed.row(draw.row, noise.below(self.length))
            }
            Rows::Examples(examples) => examples.row(draw.row),
        }
    }

    /// Draws after which every row was seen, with all weights 1.
    pub fn round(&self) -> u64 {
        self.order.round()
    }

    /// At most `limit` rows for validation, spread evenly over all there are.
    pub fn valid_rows(&self, limit: usize) -> Vec<Row> {
        let total: usize = self.valid.iter().map(Rows::valid_rows).sum();
        let wanted = total.min(limit);
        let row = |mut index: usize| {
            for rows in &self.valid {
                if index < rows.valid_rows() {
                    return Some(match rows {
                        Rows::Packed(packed) => packed.still_row(index),
                        Rows::Examples(examples) => examples.row(index),
                    });
                }
                index -= rows.valid_rows();
            }
            None
        };
        (0..wanted)
            .filter_map(|i| row(i * total / wanted))
            .collect()
    }

    /// Tokens for training and for validation.
    pub fn tokens(&self) -> [usize; 2] {
        [&self.train, &self.valid].map(|all| all.iter().map(|rows| rows.tokens().len()).sum())
    }

    /// The names of the classes, in the order of their numbers; none in data without labels.
    pub fn classes(&self) -> &[String] {
        self.classes.names()
    }

    /// A hash of all tokens and labels: two runs with the same one saw the same data.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What a user should know about the data.
    pub fn notes(&self) -> &[DataNote] {
        &self.notes
    }
}

impl Rows {
    fn train_rows(&self) -> usize {
        match self {
            Rows::Packed(packed) => packed.rows(),
            Rows::Examples(examples) => examples.rows(),
        }
    }

    fn valid_rows(&self) -> usize {
        match self {
            Rows::Packed(packed) => packed.still_rows(),
            Rows::Examples(examples) => examples.rows(),
        }
    }

    /// The classes of the rows, in order; nothing in data without labels.
    fn labels(&self) -> impl Iterator<Item = u32> {
        let examples = match self {
            Rows::Packed(_) => None,
            Rows::Examples(examples) => Some(examples),
        };
        examples.into_iter().flat_map(Examples::labels)
    }

    fn tokens(&self) -> &[u32] {
        match self {
            Rows::Packed(packed) => packed.tokens(),
            Rows::Examples(examples) => examples.tokens(),
        }
    }
}

fn lay_out(
    config: &DataConfig,
    part: &SourceDocuments,
    classes: &Classes,
    tokenizer: &Tokenizer,
    ids: &SpecialIds,
    notes: &mut Vec<DataNote>,
) -> Result<Rows, TrainError> {
    let need = |id: Option<u32>, name: &str, key: &str| {
        id.ok_or_else(|| {
            TrainError::Corpus(format!(
                "the tokenizer has no {name} token, which {key} needs"
            ))
        })
    };
    let encode = |text: &str| -> Result<Vec<u32>, TrainError> {
        if text.is_empty() {
            Ok(Vec::new())
        } else {
            Ok(tokenizer.encode(text)?)
        }
    };
    match &config.layout {
        Layout::Packed { bos, eos, wrap } => {
            let around = match wrap {
                false => None,
                true => Some([
                    need(ids.bos, "begin", "data.layout.wrap")?,
                    need(ids.eos, "end", "data.layout.wrap")?,
                ]),
            };
            let bos = bos
                .then(|| need(ids.bos, "begin", "data.layout.bos"))
                .transpose()?;
            let eos = eos
                .then(|| need(ids.eos, "end", "data.layout.eos"))
                .transpose()?;
            let tokens: Vec<Vec<u32>> = part
                .documents
                .par_iter()
                .map(|d| encode(&d.text))
                .collect::<Result<_, _>>()?;
            Ok(Rows::Packed(Packed::new(
                tokens.into_iter(),
                bos,
                eos,
                config.length,
                around,
            )))
        }
        Layout::Examples {
            bos,
            padding,
            overlong,
        } => {
            let layout = ExampleLayout {
                length: config.length,
                bos: bos
                    .then(|| need(ids.bos, "begin", "data.layout.bos"))
                    .transpose()?,
                eos: (*padding != Padding::None)
                    .then(|| need(ids.eos, "end", "data.layout = examples"))
                    .transpose()?,
                pad: (*padding == Padding::Pad)
                    .then(|| need(ids.pad, "padding", "data.layout.padding"))
                    .transpose()?,
                padding: *padding,
                overlong: *overlong,
            };
            let example = |d: &Document| -> Result<Example, TrainError> {
                Ok(Example {
                    prompt: encode(&d.prompt)?,
                    text: encode(&d.text)?,
                    label: classes.number(d, &part.path)?,
                })
            };
            let documents: Vec<Example> = part
                .documents
                .par_iter()
                .map(example)
                .collect::<Result<_, _>>()?;
            let examples = Examples::new(documents.into_iter(), layout);
            if examples.short > 0 {
                return Err(TrainError::Corpus(format!(
                    "{} of the {} documents of {} do not fill a row of data.length = {}, which data.layout.padding = \"none\" needs; \"eos\" or \"pad\" fills them up",
                    examples.short,
                    part.documents.len(),
                    part.path.display(),
                    config.length
                )));
            }
            if examples.overlong > 0 {
                notes.push(DataNote::Overlong {
                    path: part.path.clone(),
                    documents: examples.overlong,
                    of: part.documents.len(),
                    cut: *overlong == super::Overlong::Cut,
                });
            }
            Ok(Rows::Examples(examples))
        }
    }
}

/// FNV-1a over 64-bit words: the same on every machine and in every version.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The error of a source that fills no row.
fn too_little(config: &DataConfig, part: &SourceDocuments, tokens: usize) -> TrainError {
    let (path, length) = (part.path.display(), config.length);
    TrainError::Corpus(match (&config.layout, part.documents.len()) {
        (_, 0) => format!("{path} holds no documents for training"),
        (Layout::Examples { .. }, documents) => format!(
            "none of the {documents} documents of {path} fits a row of data.length = {length} with its prompt; raise data.length, or see data.layout.overlong"
        ),
        (Layout::Packed { wrap: true, .. }, _) => format!(
            "{path} has {tokens} tokens, less than the {} of one row of data.length = {length} between its begin and end token",
            length - 2
        ),
        (Layout::Packed { .. }, _) => {
            format!("{path} has {tokens} tokens, less than one row of data.length = {length}")
        }
    })
}
