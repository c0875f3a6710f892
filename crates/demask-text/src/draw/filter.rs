//! Top-p and top-k.
//!
//! Both keep a beginning of the tokens in falling order, and most often a short one: sorting a vocabulary for it
//! would take longer than the network. So the kernels list the largest tokens, and only if the beginning does not end
//! within them, more.

use demask_diffusion::sampling::Crossing;
use demask_kernels::rowwise::{Asked, RowScore, Softmax, score};

use super::Draw;

/// The largest tokens that are listed first, and then.
pub(super) const FEW: usize = 64;
const MANY: usize = 1024;

impl Draw {
    /// Whether any token of a vocabulary might be dropped.
    pub(super) fn filters(&self, vocab: usize) -> bool {
        self.top_p.is_some_and(|p| p < 1.0) || self.top_k.is_some_and(|k| k < vocab)
    }

    /// The tokens that stay, most likely first (the lower of equals), with their probabilities. Empty where
    /// no token is possible.
    pub(super) fn kept(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let scored = listed(logits, self.softmax_temperature(), FEW);
        self.kept_of(logits, &scored)
    }

    /// The same of a row whose [`FEW`] largest tokens are listed.
    pub(super) fn kept_of(&self, logits: &[f32], scored: &RowScore) -> Vec<(u32, f64)> {
        let softmax = &scored.tempered;
        if let Some(kept) = self.beginning(&scored.largest, softmax, scored.largest.len() < FEW) {
            return kept;
        }
        let more = listed(logits, self.softmax_temperature(), MANY).largest;
        if let Some(kept) = self.beginning(&more, softmax, more.len() < MANY) {
            return kept;
        }
        let tokens = (0u32..).zip(logits.iter().copied());
        let mut all: Vec<(u32, f32)> = tokens.filter(|(_, z)| *z > f32::NEG_INFINITY).collect();
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self.beginning(&all, softmax, true).unwrap_or_default()
    }

    /// What stays of falling tokens; nothing where the list ends before the filters do. `whole`: there are no
    /// more tokens.
    fn beginning(
        &self,
        falling: &[(u32, f32)],
        softmax: &Softmax,
        whole: bool,
    ) -> Option<Vec<(u32, f64)>> {
        let mut kept: Vec<(u32, f64)> = Vec::new();
        let (mut mass, mut ended) = (0.0, whole);
        for &(token, z) in falling {
            let p = softmax.probability(z);
            let in_nucleus = self.top_p.is_none_or(|limit| match self.crossing {
                _ if limit >= 1.0 => true,
                Crossing::Keep => mass <= limit,
                Crossing::Drop => mass + p <= limit,
            });
            // What equals the k-th stays, too.
            let last = self.top_k.and_then(|k| kept.get(k.checked_sub(1)?));
            let among = last.is_none_or(|(_, last)| p >= *last);
            // The first stays in any case. What is too unlikely for a number is not drawn.
            let stays = kept.is_empty() || in_nucleus && among;
            if p == 0.0 || !stays {
                ended = true;
                break;
            }
            kept.push((token, p));
            mass += p;
        }
        kept.iter_mut().for_each(|(_, p)| *p /= mass);
        ended.then_some(kept)
    }
}

/// The `largest` tokens of a row and its softmax at a temperature.
fn listed(logits: &[f32], temperature: f64, largest: usize) -> RowScore {
    let asked = Asked {
        temperature,
        tempered: true,
        largest,
    };
    score(logits, logits.len(), &asked, &[]).remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::DrawKind;
    use demask_diffusion::sampling;

    /// The filters as they are defined, on whole rows.
    fn plainly(draw: &Draw, logits: &[f32]) -> Vec<f64> {
        let mut p = sampling::softmax(logits, draw.softmax_temperature());
        if let Some(limit) = draw.top_p {
            let keep = sampling::top_p(&p, limit, draw.crossing);
            sampling::keep_probabilities(&mut p, &keep);
        }
        if let Some(k) = draw.top_k.filter(|k| *k < p.len()) {
            let keep = sampling::top_k(&p, k);
            sampling::keep_probabilities(&mut p, &keep);
        }
        p
    }

    #[test]
    fn short_lists_keep_what_whole_rows_keep() {
        let wave = |spread: f32| -> Vec<f32> {
            let one = |i: usize| spread * ((i * 7919 % 3001) as f32 / 3001.0 - 0.5);
            (0..3001).map(one).collect()
        };
        // Nuclei of a few tokens, of some hundreds and of nearly all.
        for logits in [wave(900.0), wave(20.0), wave(0.1), vec![0.0; 3001]] {
            for top_p in [None, Some(0.301), Some(0.95), Some(1.0)] {
                for top_k in [None, Some(1), Some(63), Some(64), Some(65), Some(2000)] {
                    for crossing in [Crossing::Keep, Crossing::Drop] {
                        let draw = Draw {
                            temperature: 0.7,
                            top_p,
                            crossing,
                            top_k,
                            kind: DrawKind::Gumbel,
                        };
                        let (found, wanted) = (draw.distribution(&logits), plainly(&draw, &logits));
                        for (f, w) in found.iter().zip(&wanted) {
                            assert_eq!(*f > 0.0, *w > 0.0, "{draw:?}");
                            assert!((f - w).abs() <= 1e-5 * w, "{draw:?}: {f} {w}");
                        }
                    }
                }
            }
        }
    }
}
