//! Sets of tokens that must not be taken.

use std::sync::Arc;

/// Tokens whose logits count as −∞. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet(Arc<[u32]>);

impl TokenSet {
    /// Of tokens in any order. What lies outside a vocabulary is not met in it.
    pub fn new(mut tokens: Vec<u32>) -> Self {
        tokens.sort_unstable();
        tokens.dedup();
        Self(tokens.into())
    }

    /// Its tokens, rising.
    pub fn tokens(&self) -> &[u32] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forbids its tokens among those from `first` on, whose logits these are. Tells whether any of them was possible.
    pub fn forbid(&self, logits: &mut [f32], first: usize) -> bool {
        let from = self.0.partition_point(|&token| (token as usize) < first);
        let mut possible = false;
        for &token in &self.0[from..] {
            let Some(logit) = logits.get_mut(token as usize - first) else {
                break;
            };
            possible |= *logit != f32::NEG_INFINITY;
            *logit = f32::NEG_INFINITY;
        }
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tokens_of_the_part_are_forbidden() {
        let set = TokenSet::new(vec![9, 4, 2, 4, 700]);
        assert_eq!(set.tokens(), [2, 4, 9, 700]);
        let low = f32::NEG_INFINITY;
        let mut logits = [0.0, 1.0, 2.0, low];
        assert!(set.forbid(&mut logits, 3));
        assert_eq!(logits, [0.0, low, 2.0, low]);
        // Its only token here was impossible already.
        assert!(!set.forbid(&mut logits, 3));
        assert!(!set.forbid(&mut logits, 10));
        assert!(!TokenSet::default().forbid(&mut logits, 0) && TokenSet::default().is_empty());
    }
}
