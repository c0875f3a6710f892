//! Classifier-free guidance (arXiv 2207.12598) as LLaDA writes it: `z = u + (w + 1)(c - u)`, where
//! `c` is the prediction and `u` the one with everything masked that was given at the start.
//!
//! On log-probabilities this is the mix `gamma log p_c + (1 - gamma) log p_u` of D-CFG (UDLM, arXiv
//! 2412.10193) with `gamma = w + 1`: the two differ by a constant that the softmax removes.

use demask_diffusion::sampling;

use super::Guide;
use crate::TextError;
use crate::canvas::Row;

/// Follows the prompt more closely than the model does by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassifierFree {
    /// `w`.
    pub scale: f64,
    /// What hides a given cell in the second version of a row.
    pub mask: u32,
}

impl Guide for ClassifierFree {
    fn variants(&self, _row: &Row, visible: &[u32], given: &[bool]) -> Vec<Vec<u32>> {
        let hidden = visible.iter().zip(given);
        vec![
            hidden
                .map(|(&id, &given)| if given { self.mask } else { id })
                .collect(),
        ]
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
    fn the_formula_and_the_masked_prompt() {
        let guide = ClassifierFree {
            scale: 1.5,
            mask: 9,
        };
        let row = Row::new(
            vec![4, 9, 3],
            vec![Cell::Fixed, Cell::Open, Cell::Written],
            vec![0; 3],
            1,
        );
        assert_eq!(
            guide.variants(&row, &[4, 9, 3], &[true, false, false]),
            [[9, 9, 3]]
        );
        let mut logits = [1.0, 2.0, f32::NEG_INFINITY];
        guide
            .apply(&row, &[1], &mut logits, &[&[0.5, 2.0, f32::NEG_INFINITY]])
            .unwrap();
        // 0.5 + 2.5 * 0.5
        assert_eq!(logits, [1.75, 2.0, f32::NEG_INFINITY]);
    }
}
