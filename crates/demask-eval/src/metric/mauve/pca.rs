//! Principal components of a small dense data set, in f64.

use nalgebra::DMatrix;

/// Projects the rows of `data` (`[rows][columns]`, row-major) on the leading principal components
/// that together explain at least `share` of the variance. Returns the projected rows, row-major,
/// and the number of components kept (at least 1).
///
/// The eigenvectors come from the smaller of the covariance `[columns, columns]` and the Gram
/// matrix `[rows, rows]`. Each component's sign is chosen so that its projection of largest size
/// is positive, which makes the result reproducible.
pub fn project(data: &[f64], rows: usize, columns: usize, share: f64) -> (Vec<f64>, usize) {
    let mut centred = DMatrix::from_row_slice(rows, columns, data);
    for mut column in centred.column_iter_mut() {
        let mean = column.sum() / rows as f64;
        column.add_scalar_mut(-mean);
    }
    let by_gram = rows < columns;
    let square = if by_gram {
        &centred * centred.transpose()
    } else {
        centred.transpose() * &centred
    };
    let eigen = square.symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| {
        eigen.eigenvalues[b]
            .total_cmp(&eigen.eigenvalues[a])
            .then(a.cmp(&b))
    });
    let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();

    let mut kept = 0;
    let mut explained = 0.0;
    while kept == 0 || (explained < share * total && kept < order.len()) {
        explained += eigen.eigenvalues[order[kept]].max(0.0);
        kept += 1;
    }
    let mut projected = vec![0.0; rows * kept];
    for (k, &component) in order[..kept].iter().enumerate() {
        let vector = eigen.eigenvectors.column(component);
        // The Gram matrix's eigenvectors are the projections divided by the singular value.
        let scores = if by_gram {
            vector * eigen.eigenvalues[component].max(0.0).sqrt()
        } else {
            &centred * vector
        };
        let sign = scores
            .iter()
            .copied()
            .fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
        let sign = if sign < 0.0 { -1.0 } else { 1.0 };
        for (row, score) in scores.iter().enumerate() {
            projected[row * kept + k] = sign * score;
        }
    }
    (projected, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a line (direction (3, 4)/5) with a little spread across it.
    #[test]
    fn keeps_the_line_and_drops_the_spread() {
        // t·(3,4)/5 + s·(-4,3)/5 for (t, s) = (-5, 1), (0, -2), (5, 1): variances 50 and 6.
        let data = [-3.8, -3.4, 1.6, -1.2, 2.2, 4.6];
        let (scores, kept) = project(&data, 3, 2, 0.85);
        assert_eq!(kept, 1); // 50/56 = 0.893
        for (score, wanted) in scores.iter().zip([5.0, 0.0, -5.0]) {
            assert!((score.abs() - f64::abs(wanted)).abs() < 1e-12);
        }
        let (scores, kept) = project(&data, 3, 2, 0.9);
        assert_eq!(kept, 2);
        for (row, wanted) in [1.0, -2.0, 1.0].iter().enumerate() {
            // Sign rule: the score of largest size, -2, becomes +2.
            assert!((scores[row * 2 + 1] + wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn gram_and_covariance_agree() {
        // 3 rows of 4 columns go by the Gram matrix; padded with 3 repeated rows the same
        // directions come from the covariance.
        let data = [
            1.0, 2.0, 0.5, -1.0, 0.0, 1.5, 2.5, 3.0, -2.0, 0.25, 1.0, 0.0,
        ];
        let doubled: Vec<f64> = data.iter().chain(&data).copied().collect();
        let (gram, a) = project(&data, 3, 4, 0.999);
        let (covariance, b) = project(&doubled, 6, 4, 0.999);
        assert_eq!((a, b), (2, 2));
        for (x, y) in gram.iter().zip(&covariance) {
            assert!((x - y).abs() < 1e-10, "{gram:?} {covariance:?}");
        }
    }

    #[test]
    fn constant_data_gives_one_zero_component() {
        let (scores, kept) = project(&[2.0; 6], 3, 2, 0.9);
        assert_eq!((kept, scores), (1, vec![0.0; 3]));
    }
}
