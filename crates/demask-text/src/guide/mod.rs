//! Guides: what changes a prediction before anything is chosen from it.
//!
//! | guide | file | from |
//! |---|---|---|
//! | `classifier_free` | [`classifier_free`] | Ho and Salimans, arXiv 2207.12598; for masked text LLaDA, arXiv 2502.09992, and SMDM, arXiv 2410.18514 |

pub mod classifier_free;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;

pub use classifier_free::ClassifierFree;

/// Changes the prediction of a row.
pub trait Guide: Debug + Send + Sync {
    /// The name in tables and messages.
    fn name(&self) -> &'static str;

    /// Other versions of the row that shall be forwarded beside it in the same request: the ids of
    /// its cells, each as long as `visible`, the part of the row that is on the canvas. `given`
    /// tells for each cell of the row whether it held a token at the start.
    fn variants(&self, row: &Row, visible: &[u32], given: &[bool]) -> Vec<Vec<u32>>;

    /// Changes the logits of the asked cells in place, `[asked, vocab]` row-major. `variants` holds
    /// the logits of the same cells for each version that was asked for, in their order.
    ///
    /// # Errors
    /// When the guide cannot work on this row.
    fn apply(
        &self,
        row: &Row,
        asked: &[usize],
        logits: &mut [f32],
        variants: &[&[f32]],
    ) -> Result<(), TextError>;
}

/// A guide as it stands in a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuideConfig {
    /// Classifier-free guidance: follows the prompt more closely than the model does by itself (arXiv 2207.12598, LLaDA).
    ///
    /// See [`classifier_free`].
    ClassifierFree {
        /// Strength: 0 changes nothing, larger follows the prompt more closely. `--cfg` sets it.
        scale: f64,
    },
}

impl GuideConfig {
    /// The guide; `None` when its settings make it do nothing. `mask` is the mask id, if the model
    /// has one.
    ///
    /// # Errors
    /// A setting out of range, or a guide that needs a mask token on a model without one.
    pub fn build(&self, mask: Option<u32>) -> Result<Option<Box<dyn Guide>>, TextError> {
        match *self {
            Self::ClassifierFree { scale } => {
                if !scale.is_finite() || scale < 0.0 {
                    let reason = "must be a finite number, 0 (off) or larger";
                    return Err(TextError::setting("cfg", scale, reason));
                }
                if scale == 0.0 {
                    return Ok(None);
                }
                let mask = mask.ok_or_else(|| TextError::Unsupported {
                    what: "classifier-free guidance".into(),
                    with: "a model without a mask token".into(),
                    reason: "its second prediction masks the prompt; leave `cfg` at 0".into(),
                })?;
                Ok(Some(Box::new(ClassifierFree { scale, mask })))
            }
        }
    }
}
