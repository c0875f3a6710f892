//! Pure functions on one row of logits or probabilities.

/// The log-softmax of a row, in place.
pub fn log_softmax(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - top).exp()).sum();
    let norm = top + sum.ln();
    row.iter_mut().for_each(|x| *x -= norm);
}
