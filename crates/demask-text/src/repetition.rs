//! Texts that repeat themselves: how they are noticed and what becomes of them.
//!
//! BD3-LM (arXiv 2503.09573) stops a text when the unigram entropy of its last 256 tokens falls below 4
//! nats; a text of fixed length is then drawn again, at most ten times, one of variable length is cut.
//! As there, it is looked at whenever a block is finished and more than 256 tokens stand, prompt
//! included. That a text of variable length ends at its second end token is
//! [`EosConfig::early_stop`](crate::EosConfig::early_stop) here: the first one begins their texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;

/// When a text counts as repeating itself, and what is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepetitionConfig {
    /// Tokens at the end of the text that are looked at.
    pub window: usize,
    /// Their unigram entropy, in nats, is at least this in a text that goes on. The published 4 nats are
    /// for a vocabulary like GPT-2's; a smaller one, such as characters, has less entropy in any text.
    pub entropy: f64,
    /// What is done with a text that repeats itself.
    pub then: Then,
    /// How often a text is begun anew, under `again`. The last attempt ends where it repeats itself.
    pub tries: usize,
}

/// Share of the entropy of evenly drawn tokens that ordinary text stays below: that of English characters
/// is about 0.75, of words less.
const CLOSE: f64 = 0.7;

/// What is done with a text that repeats itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Nothing: it goes on.
    #[default]
    Keep,
    /// It is thrown away and drawn again with other random numbers.
    Again,
    /// It ends, without the tokens that were looked at.
    Cut,
}

impl Default for RepetitionConfig {
    fn default() -> Self {
        Self {
            window: 256,
            entropy: 4.0,
            then: Then::Keep,
            tries: 10,
        }
    }
}

impl RepetitionConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`TextError::Setting`] with the key and what would be accepted.
    pub fn check(&self) -> Result<(), TextError> {
        if self.window < 2 {
            let reason = "must be at least 2: one token tells nothing";
            return Err(TextError::setting("repetition.window", self.window, reason));
        }
        // No window has more entropy than one without any token twice.
        let most = (self.window as f64).ln();
        if !(self.entropy > 0.0 && self.entropy < most) {
            let reason = format!(
                "must be above 0 and below {most:.2}, the entropy of {} different tokens",
                self.window
            );
            return Err(TextError::setting(
                "repetition.entropy",
                self.entropy,
                reason,
            ));
        }
        Ok(())
    }

    /// Refuses a rule for a text of which parts are given: they would count as repeating themselves, and
    /// would be cut off.
    pub(crate) fn check_template(&self, given: bool) -> Result<(), TextError> {
        if self.then == Then::Keep || !given {
            return Ok(());
        }
        Err(TextError::Unsupported {
            what: "the setting repetition".into(),
            with: "a text of which parts are given".into(),
            reason: "they would count as repeating themselves, and be cut off; leave `repetition.then` at \
                     `keep`"
                .into(),
        })
    }

    /// The entropy of a row that is written up to `end`, where it is too low and anybody minds.
    pub(crate) fn found(&self, row: &Row, end: usize) -> Option<f64> {
        if self.then == Then::Keep || end <= self.window {
            return None;
        }
        let found = unigram_entropy(&row.ids()[end - self.window..end]);
        (found < self.entropy).then_some(found)
    }

    /// What is wrong with the bound for a vocabulary of `vocab` tokens and a row of `length`, in a
    /// sentence.
    pub(crate) fn doubt(&self, vocab: usize, length: usize) -> Option<String> {
        let (most, bound) = ((vocab as f64).ln(), self.entropy);
        if self.then == Then::Keep {
            None
        } else if length <= self.window {
            Some(format!(
                "`repetition` plays no part: the text has {length} cells, and it looks at {} once there \
                 are more",
                self.window
            ))
        } else if bound > CLOSE * most {
            Some(format!(
                "`repetition.entropy` = {bound} is close to the {most:.2} nats of {vocab} tokens drawn evenly: \
                 ordinary texts fall below it; lower it"
            ))
        } else {
            None
        }
    }
}

/// Entropy of the empirical distribution of tokens, in nats: `-sum_v f_v ln f_v` with `f_v` the share of
/// token `v`. No tokens have entropy 0.
///
/// ```
/// use demask_text::unigram_entropy;
/// assert!((unigram_entropy(&[7, 7, 9, 9]) - 2f64.ln()).abs() < 1e-15);
/// ```
pub fn unigram_entropy(tokens: &[u32]) -> f64 {
    let mut counts = BTreeMap::<u32, usize>::new();
    for token in tokens {
        *counts.entry(*token).or_default() += 1;
    }
    let total = tokens.len() as f64;
    // Starts at +0, so that a sample of one token gives 0 and not -0.
    counts
        .values()
        .map(|count| *count as f64 / total)
        .fold(0.0, |sum, f| sum - f * f.ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell;

    #[test]
    fn entropy_by_hand() {
        assert_eq!(unigram_entropy(&[3, 3, 3]), 0.0);
        assert!((unigram_entropy(&[1, 2]) - std::f64::consts::LN_2).abs() < 1e-12);
        // A half and two quarters: 1.5 bits.
        let found = unigram_entropy(&[5, 6, 5, 7]);
        assert!((found - 1.5 * std::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn only_the_last_tokens_count_and_only_when_there_are_more() {
        let rule = RepetitionConfig {
            window: 4,
            entropy: 1.0,
            then: Then::Cut,
            ..RepetitionConfig::default()
        };
        let row = |ids: &[u32]| {
            Row::new(
                ids.to_vec(),
                vec![Cell::Written; ids.len()],
                vec![0; ids.len()],
                0,
            )
        };
        let loops = row(&[1, 2, 3, 4, 5, 5, 5, 6]);
        assert!(rule.found(&loops, 8).is_some());
        // 4, 5, 5, 5: 0.56 nats; 3, 4, 5, 5: 1.04 nats.
        assert!(rule.found(&loops, 7).is_some());
        assert!(rule.found(&loops, 6).is_none());
        // As many tokens as are looked at are not more.
        assert!(rule.found(&row(&[5, 5, 5, 5]), 4).is_none());
    }

    #[test]
    fn a_bound_that_fits_neither_text_nor_vocabulary_is_doubted() {
        let rule = RepetitionConfig {
            then: Then::Again,
            ..RepetitionConfig::default()
        };
        assert_eq!(rule.doubt(50258, 1024), None);
        assert!(
            rule.doubt(70, 1024)
                .unwrap()
                .contains("4.25 nats of 70 tokens")
        );
        assert!(rule.doubt(50258, 256).unwrap().contains("plays no part"));
        assert_eq!(RepetitionConfig::default().doubt(70, 10), None);
    }

    #[test]
    fn what_can_never_or_always_hold_is_refused() {
        let check = |window, entropy| {
            RepetitionConfig {
                window,
                entropy,
                ..RepetitionConfig::default()
            }
            .check()
        };
        assert!(check(256, 4.0).is_ok());
        for (window, entropy) in [(1, 0.1), (256, 6.0), (256, 0.0), (256, f64::NAN)] {
            assert!(check(window, entropy).is_err(), "{window} {entropy}");
        }
    }
}
