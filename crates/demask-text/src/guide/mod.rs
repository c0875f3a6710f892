//! Guides: what changes a prediction before anything is chosen from it.
//!
//! | guide | file | from |
//! |---|---|---|
//! | `classifier_free` | [`classifier_free`] | Ho and Salimans, arXiv 2207.12598; for masked text LLaDA, arXiv 2502.09992, and SMDM, arXiv 2410.18514 |

pub mod classifier_free;

use std::fmt::Debug;

use demask_models::Predicts;
use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;
use crate::policy::Target;

pub use classifier_free::{ClassifierFree, Hide};

/// Another version of a row, forwarded beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The ids of its visible cells.
    pub ids: Vec<u32>,
    /// Its class.
    pub label: Option<u32>,
}

/// Changes the prediction of a row.
pub trait Guide: Debug + Send + Sync {
    /// Other versions of the row that shall be forwarded beside it in the same request, each as long
    /// as `visible`, the part of the row that is on the canvas. `given`
    /// tells for each of them whether it held a token at the start. Under a cache the cells of finished
    /// blocks must stand in a version as they stood in the step before.
    fn variants(&self, row: &Row, visible: &[u32], given: &[bool]) -> Vec<Variant>;

    /// For a guide that mixes the posteriors of a reverse step where others change the prediction:
    /// the exponent of the guided row, that of its one variant being what is left to 1. Such a guide is
    /// not [applied](Self::apply); the policy takes both predictions
    /// ([`Candidates::unguided`](crate::policy::Candidates::unguided)).
    fn mixes_posteriors(&self) -> Option<f64> {
        None
    }

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
    /// Classifier-free guidance: follows the label, or without one the prompt, more closely than the model does by
    /// itself (arXiv 2207.12598; LLaDA; D-CFG, arXiv 2412.10193).
    ///
    /// See [`classifier_free`].
    ClassifierFree {
        /// Strength: 0 changes nothing, larger follows label or prompt more closely, -1 forgets them. `--cfg` sets it.
        scale: f64,
    },
}

impl GuideConfig {
    /// Guidance that leaves nothing of what it guides to (`gamma` 0 of D-CFG).
    pub(crate) const FORGET: Self = Self::ClassifierFree { scale: -1.0 };

    /// Checks the values.
    ///
    /// # Errors
    /// [`TextError::Setting`] with the flag and what would be accepted.
    pub fn check(&self) -> Result<(), TextError> {
        match *self {
            Self::ClassifierFree { scale } if !scale.is_finite() || scale < -1.0 => {
                let reason = "must be a finite number, -1 or larger (0 is off)";
                Err(TextError::setting("cfg", scale, reason))
            }
            Self::ClassifierFree { .. } => Ok(()),
        }
    }

    /// The guide for texts of the class `label`, if they have one; `None` when its settings make it do
    /// nothing.
    ///
    /// # Errors
    /// A setting out of range, or a guide that hides the prompt on a model that knows no hidden
    /// cells: to a network of uniform noise a mask is a token like any other, if it has one.
    pub fn build(
        &self,
        target: &Target,
        label: Option<u32>,
    ) -> Result<Option<Box<dyn Guide>>, TextError> {
        self.check()?;
        let Self::ClassifierFree { scale } = *self;
        if scale == 0.0 {
            return Ok(None);
        }
        let refuse = |with: &str, reason: &str| TextError::Unsupported {
            what: "classifier-free guidance".into(),
            with: with.into(),
            reason: format!("{reason}; leave `cfg` at 0"),
        };
        let masks = target.kind.needs_mask();
        if label.is_some() {
            if !masks && target.predicts != Predicts::Clean {
                let reason = "it mixes posteriors, and the model predicts none of clean tokens";
                return Err(refuse("a model of scores under uniform noise", reason));
            }
            let hide = Hide::Label { posteriors: !masks };
            return Ok(Some(Box::new(ClassifierFree { scale, hide })));
        }
        if !masks {
            let reason = "its second prediction hides the prompt behind masks, and this network has not \
                          learned what a hidden cell is";
            return Err(refuse("a model that does not write over masks", reason));
        }
        let mask = target.mask.ok_or_else(|| {
            let reason = "its second prediction masks the prompt";
            refuse("a model without a mask token", reason)
        })?;
        let hide = Hide::Prompt { mask };
        Ok(Some(Box::new(ClassifierFree { scale, hide })))
    }
}

#[cfg(test)]
mod tests {
    use demask_models::ModelKind;

    use super::*;

    fn target(kind: ModelKind) -> Target {
        Target {
            kind,
            predicts: Predicts::Clean,
            mask: Some(7),
            noise: None,
        }
    }

    #[test]
    fn guidance_needs_something_that_can_be_hidden() {
        let build =
            |kind, scale, label| GuideConfig::ClassifierFree { scale }.build(&target(kind), label);
        assert!(build(ModelKind::Masked, 1.0, None).unwrap().is_some());
        assert!(
            build(ModelKind::Uniform, 0.0, None).unwrap().is_none(),
            "off"
        );
        // A mask token in the vocabulary makes no difference.
        let error = build(ModelKind::Uniform, 1.0, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("leave `cfg` at 0"), "{error}");
        // A label can be left out under any noise; what is mixed differs.
        let gamma = |kind| {
            build(kind, 1.0, Some(2))
                .unwrap()
                .unwrap()
                .mixes_posteriors()
        };
        assert_eq!(
            (gamma(ModelKind::Masked), gamma(ModelKind::Uniform)),
            (None, Some(2.0))
        );
        let scores = Target {
            predicts: Predicts::LogScores {
                scale_by_sigma: false,
            },
            ..target(ModelKind::Uniform)
        };
        let guide = GuideConfig::ClassifierFree { scale: 1.0 };
        assert!(guide.build(&scores, Some(0)).is_err());
    }
}
