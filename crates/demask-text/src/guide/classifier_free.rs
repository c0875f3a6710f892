//! Classifier-free guidance (arXiv 2207.12598) as LLaDA writes it: `z = u + (w + 1)(c - u)`, where
//! `c` is the prediction and `u` one that knows less: without the label of the text or, where it has
//! none, with everything masked that was given at the start.
//!
//! On log-probabilities this is the mix `gamma log p_c + (1 - gamma) log p_u` of D-CFG (UDLM, arXiv
//! 2412.10193) with `gamma = w + 1`: the two differ by a constant that the softmax removes. Under
//! uniform noise D-CFG mixes the posteriors of the two predictions instead, in the policy
//! ([`demask_diffusion::solver::guided`]). `gamma` 1 (`w` = 0) needs no second prediction, and with a
//! label `gamma` 0 (`w` = -1) is the one without it alone.

use demask_diffusion::sampling;

use super::{Guide, Variant};
use crate::TextError;
use crate::canvas::Row;

/// Follows label or prompt more closely than the model does by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassifierFree {
    /// `w`.
    pub scale: f64,
    /// What the second version of a row does not know.
    pub hide: Hide,
}

/// What the second version of a row does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// What was given at the start.
    Prompt {
        /// Stands in its place.
        mask: u32,
    },
    /// The class.
    Label {
        /// Whether posteriors are mixed, as under uniform noise, or predictions.
        posteriors: bool,
    },
}

impl Guide for ClassifierFree {
    fn variants(&self, _row: &Row, visible: &[u32], given: &[bool]) -> Vec<Variant> {
        let ids = match self.hide {
            Hide::Label { .. } => visible.to_vec(),
            Hide::Prompt { mask } => {
                let cells = visible.iter().zip(given);
                cells
                    .map(|(&id, &given)| if given { mask } else { id })
                    .collect()
            }
        };
        // The prompt is hidden of texts without a label only.
        vec![Variant { ids, label: None }]
    }

    fn mixes_posteriors(&self) -> Option<f64> {
        let Hide::Label { posteriors: true } = self.hide else {
            return None;
        };
        Some(self.scale + 1.0)
    }

    fn apply(
        &self,
        _row: &Row,
        _asked: &[usize],
        logits: &mut [f32],
        variants: &[&[f32]],
    ) -> Result<(), TextError> {
        let unconditional = variants.first().copied().unwrap_or_default();
        sampling::classifier_free(logits, unconditional, self.scale);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell;

    #[test]
    fn the_formula_and_what_is_hidden() {
        let row = Row::new(
            vec![4, 9, 3],
            vec![Cell::Fixed, Cell::Open, Cell::Written],
            vec![0; 3],
            1,
        );
        let guide = |hide| ClassifierFree { scale: 1.5, hide };
        let masked = guide(Hide::Prompt { mask: 9 });
        let ids = |guide: ClassifierFree| {
            guide
                .variants(&row, &[4, 9, 3], &[true, false, false])
                .remove(0)
                .ids
        };
        assert_eq!(ids(masked), [9, 9, 3]);
        assert_eq!(ids(guide(Hide::Label { posteriors: false })), [4, 9, 3]);
        let mut logits = [1.0, 2.0, f32::NEG_INFINITY];
        masked
            .apply(&row, &[1], &mut logits, &[&[0.5, 2.0, f32::NEG_INFINITY]])
            .unwrap();
        // 0.5 + 2.5 * 0.5
        assert_eq!(logits, [1.75, 2.0, f32::NEG_INFINITY]);
    }
}
