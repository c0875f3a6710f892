//! What the decoder asks of a network.

use demask_kernels::rowwise::{self, RowAsked, Scored, TokenSet};
use demask_models::{ModelKind, Predicts, SpecialIds};
use demask_nn::KvCache;

use crate::TextError;
use crate::uniforms::Numbers;

/// The predictions of the asked cells of a request, in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicted {
    /// Logits, `[asked, vocab_size]` row-major. They may be unnormalised; minus infinity means impossible.
    Logits(Vec<f32>),
    /// The scores that were [asked for](DenoiseRequest::scoring), `[asked]`.
    Scores(Vec<Scored>),
}

/// A network that maps a canvas to a prediction for the asked cells.
///
/// A prediction must not depend on the other rows of the request, on padding, or on which other
/// cells are asked: the decoder's promise of the same text in any batch rests on it.
pub trait Denoiser {
    /// How the network writes: which process it reverses.
    fn kind(&self) -> ModelKind;

    /// What its outputs mean.
    fn predicts(&self) -> Predicts {
        Predicts::Clean
    }

    /// Number of logits of a cell.
    fn vocab_size(&self) -> usize;

    /// The special tokens.
    fn ids(&self) -> &SpecialIds;

    /// Most cells of a row, prompt and answer together.
    fn max_length(&self) -> usize;

    /// One forward pass.
    ///
    /// # Errors
    /// When the request does not fit the network.
    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError>;

    /// The same with what was kept of each row: `caches` holds a cache a row, with the cells from its
    /// first one on that were forwarded before and have not changed since. They are not forwarded
    /// again. Each cache is left with the [`clean`](DenoiseRequest::clean) cells of its row.
    ///
    /// A denoiser that keeps nothing forwards everything: the prediction is the same.
    ///
    /// # Errors
    /// When the request does not fit the network.
    fn predict_cached(
        &self,
        request: &DenoiseRequest,
        caches: Vec<&mut KvCache>,
    ) -> Result<Prediction, TextError> {
        let _ = caches;
        self.predict(request)
    }

    /// Names of the classes that a text can be asked for, in the order of their numbers; none in a
    /// network without labels.
    fn labels(&self) -> &[String] {
        &[]
    }

    /// Ids below [`vocab_size`](Self::vocab_size) that stand for no text (spare rows of the output
    /// matrix, the token of what the vocabulary lacks) and are therefore never written.
    fn unassigned(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Whether the text of a token begins with a space. Without a tokenizer: no token's does.
    fn begins_with_space(&self, id: u32) -> bool {
        let _ = id;
        false
    }

    /// The text of `ids`. Without a tokenizer: the ids, separated by spaces.
    ///
    /// # Errors
    /// When the tokenizer refuses an id.
    fn text(&self, ids: &[u32]) -> Result<String, TextError> {
        Ok(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
    }
}

/// One request to a [`Denoiser`].
///
/// Classifier-free guidance asks for a second version of each row in the same request, without its
/// label or with the prompt masked: to the denoiser it is one more row.
#[derive(Debug, Clone, PartialEq)]
pub struct DenoiseRequest {
    /// The canvas, `[batch, length]` row-major, padded at the end.
    pub ids: Vec<u32>,
    /// Number of rows.
    pub batch: usize,
    /// Cells of a row, padding included.
    pub length: usize,
    /// Cells of each row without padding, `[batch]`: keys at and past it are seen by nobody.
    pub key_lengths: Vec<usize>,
    /// Who sees whom.
    pub sight: Sight,
    /// The noise level of each row, `[batch]`: the chance, between 0 and 1, that a token has been
    /// hit. With full sight it is that of the visible answer, later blocks included; with
    /// block-causal sight that of the block being written. Only networks with a time input read it.
    pub levels: Vec<f64>,
    /// The class of each row, `[batch]`, where it has one.
    pub labels: Vec<Option<u32>>,
    /// Cells at the beginning of each row that will not change any more, `[batch]`: those of finished
    /// blocks. Under block-causal sight a network with a time input is told level 0 of them, as in
    /// training; with full sight it is 0 cells, for there is one level for all.
    pub clean: Vec<usize>,
    /// The cells whose prediction is wanted, each as `row * length + cell`, rising.
    pub asked: Vec<u32>,
    /// What is wanted of their predictions, if that is not the logits themselves. A denoiser may answer with logits
    /// all the same: whoever asked reads the scores from them.
    pub scoring: Option<Scoring>,
}

/// The scores that are wanted of the asked cells of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// Of every cell.
    pub asked: rowwise::Asked,
    /// Of each cell, `[asked]`.
    pub cells: Vec<CellScoring>,
}

/// What a cell is scored with.
#[derive(Debug, Clone, PartialEq)]
pub struct CellScoring {
    /// What its token is drawn with: of all cells or of none.
    pub numbers: Option<Numbers>,
    /// Tokens that must not be written into it.
    pub forbidden: Vec<TokenSet>,
}

impl CellScoring {
    /// As the kernels read it.
    pub fn row(&self) -> RowAsked<'_> {
        RowAsked {
            noise: self.numbers.as_ref().map(Numbers::noise),
            forbidden: &self.forbidden,
        }
    }
}

/// Who sees whom in a [`DenoiseRequest`], padding aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Every cell sees every cell.
    Full,
    /// A cell sees the cells of its own block of `block` positions and of the blocks before it.
    BlockCausal {
        /// Cells in a block, counted from position 0 of the row.
        block: usize,
    },
}

/// What a [`Denoiser`] answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Of the asked cells.
    pub cells: Predicted,
    /// Cells that were really forwarded for each row, `[batch]`, padding aside.
    pub rows: Vec<usize>,
}

impl Prediction {
    /// Of logits, `[asked, vocab_size]`, and the cells that were forwarded for each row.
    pub fn of_logits(logits: Vec<f32>, rows: Vec<usize>) -> Self {
        Self {
            cells: Predicted::Logits(logits),
            rows,
        }
    }
}
