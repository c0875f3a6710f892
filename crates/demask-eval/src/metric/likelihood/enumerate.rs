//! The exact any-order value: every set of masked tokens once.
//!
//! With `l` uniform in 1..L and a uniform set of `l` tokens, the expectation of
//! `(L / l) sum -ln p` is `sum over sets S of 1 / (l C(L, l)) · sum over S of -ln p`. For
//! conditionals that fit together it is exactly `-ln p(answer | prompt)`.

use super::MaskedRow;
use crate::EvalError;

/// Most tokens of a group: 4095 rows.
const MOST: usize = 12;

/// One row for each set; the weights hold everything, so the loss is the sum over all rows.
/// Groups are enumerated one after the other: each row masks cells of one group only, and a block
/// model sees the other blocks' cells clean or not at all.
pub(super) fn rows(groups: &[Vec<usize>]) -> Result<Vec<MaskedRow>, EvalError> {
    let mut rows = Vec::new();
    for cells in groups {
        let length = cells.len();
        if length > MOST {
            return Err(EvalError::Data(format!(
                "an answer of {length} tokens has too many masks to enumerate (at most {MOST}); \
                 use the rule `llada`"
            )));
        }
        for set in 1u32..1 << length {
            let chosen: Vec<usize> = (0..length)
                .filter(|i| set >> i & 1 == 1)
                .map(|i| cells[i])
                .collect();
            let count = chosen.len();
            let weight = 1.0 / (count as f64 * choose(length, count));
            rows.push(MaskedRow {
                weights: vec![weight; count],
                cells: chosen,
            });
        }
    }
    Ok(rows)
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_a_token() {
        // Each of three tokens: sum over sets that hold it of 1/(l C(3,l))
        // = 1/3 + 2/(2·3) + 1/3 = 1.
        let rows = rows(&[vec![4, 5, 6]]).unwrap();
        assert_eq!(rows.len(), 7);
        for cell in 4..7 {
            let total: f64 = rows
                .iter()
                .flat_map(|row| row.cells.iter().zip(&row.weights))
                .filter(|(c, _)| **c == cell)
                .map(|(_, w)| w)
                .sum();
            assert!((total - 1.0).abs() < 1e-15);
        }
        assert!(super::rows(&[(0..13).collect()]).is_err());
    }
}
