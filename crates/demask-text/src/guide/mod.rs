//! Guides: what changes a prediction before anything is chosen from it.
//!
//! | guide | file | from |
//! |---|---|---|
//! | `classifier_free` | [`classifier_free`] | Ho and Salimans, arXiv 2207.12598; for masked text LLaDA, arXiv 2502.09992, and SMDM, arXiv 2410.18514 |

pub mod classifier_free;

use std::fmt::Debug;

use demask_models::ModelKind;
use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;

pub use classifier_free::ClassifierFree;

/// Changes the prediction of a row.
pub trait Guide: Debug + Send + Sync {
    /// Other versions of the row that shall be forwarded beside it in the same request: the ids of
    /// its cells, each as long as `visible`, the part of the row that is on the canvas. `given`
    /// tells for each of them whether it held a token at the start. Under a cache the cells of finished
    /// blocks must stand in a version as they stood in the step before.
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
    /// Checks the values.
    ///
    /// # Errors
    /// [`TextError::Setting`] with the flag and what would be accepted.
    pub fn check(&self) -> Result<(), TextError> {
        match *self {
            Self::ClassifierFree { scale } if !scale.is_finite() || scale < 0.0 => {
                let reason = "must be a finite number, 0 (off) or larger";
                Err(TextError::setting("cfg", scale, reason))
            }
            Self::ClassifierFree { .. } => Ok(()),
        }
    }

    /// The guide for a model of this kind; `None` when its settings make it do nothing. `mask` is
    /// the mask id, if the model has one.
    ///
    /// # Errors
    /// A setting out of range, or a guide that hides the prompt on a model that knows no hidden
    /// cells: to a network of uniform noise a mask is a token like any other, if it has one.
    pub fn build(
        &self,
        kind: ModelKind,
        mask: Option<u32>,
    ) -> Result<Option<Box<dyn Guide>>, TextError> {
        self.check()?;
        match *self {
            Self::ClassifierFree { scale: 0.0 } => Ok(None),
            Self::ClassifierFree { scale } => {
                let refuse = |with: &str, reason: &str| TextError::Unsupported {
                    what: "classifier-free guidance".into(),
                    with: with.into(),
                    reason: format!("{reason}; leave `cfg` at 0"),
                };
                if !kind.needs_mask() {
                    let reason = "its second prediction hides the prompt behind masks, and this \
                                  network has not learned what a hidden cell is";
                    return Err(refuse("a model that does not write over masks", reason));
                }
                let mask = mask.ok_or_else(|| {
                    let reason = "its second prediction masks the prompt";
                    refuse("a model without a mask token", reason)
                })?;
                Ok(Some(Box::new(ClassifierFree { scale, mask })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_needs_a_network_that_knows_hidden_cells() {
        let build = |kind, scale| GuideConfig::ClassifierFree { scale }.build(kind, Some(7));
        assert!(build(ModelKind::Masked, 1.0).unwrap().is_some());
        assert!(build(ModelKind::Uniform, 0.0).unwrap().is_none(), "off");
        // A mask token in the vocabulary makes no difference.
        let error = build(ModelKind::Uniform, 1.0).unwrap_err().to_string();
        assert!(error.contains("leave `cfg` at 0"), "{error}");
    }
}
