//! Rotary positions: pairs of values turn by an angle that grows with the position.

use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Which values form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryLayout {
    /// Value i with value i + rotary_dim / 2 (GPT-NeoX, Llama in its public checkpoints).
    HalfSplit,
    /// Value 2i with value 2i + 1 (GPT-J, the original paper).
    Interleaved,
}

/// Cosines and sines for the position of each row, `[rows, rotary_dim / 2]`.
///
/// Angles are computed in f64 (so that far positions stay exact) and stored in f32.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RotaryTable {
    /// Pair i turns by `position · base^(−2i / rotary_dim)`.
    ///
    /// # Panics
    /// When `rotary_dim` is odd.
    pub fn new(positions: &[f64], rotary_dim: usize, base: f64) -> Self {
        assert!(
            rotary_dim.is_multiple_of(2),
            "rotary: {rotary_dim} values are not pairs"
        );
        let frequencies: Vec<f64> = (0..rotary_dim / 2)
            .map(|i| base.powf(-(2.0 * i as f64) / rotary_dim as f64))
            .collect();
        Self::with_frequencies(positions, &frequencies)
    }

    /// Pair i turns by `position · frequencies[i]` (scaled variants).
    pub fn with_frequencies(positions: &[f64], frequencies: &[f64]) -> Self {
        let angles = positions
            .iter()
            .flat_map(|p| frequencies.iter().map(move |f| p * f));
        let (sin, cos) = angles
            .map(|a| {
                let (sin, cos) = a.sin_cos();
                (sin as f32, cos as f32)
            })
            .unzip();
        Self {
            cos,
            sin,
            half: frequencies.len(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Cosines, `[rows, rotary_dim / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines, `[rows, rotary_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// Number of values of each head that turn.
    pub fn rotary_dim(&self) -> usize {
        2 * self.half
    }
}

/// Turns every head in place: `(a, b) ← (a·cos − b·sin, a·sin + b·cos)`; values beyond `rotary_dim` stay.
///
/// # Shapes
/// Row r, head h begins at `r·row_stride + h·head_dim` (a part of a fused buffer is fine); as many rows as the table.
///
/// # Panics
/// When the table turns more than `head_dim` values, rows overlap or the slice is too short.
pub fn rotary(
    x: &mut [f32],
    row_stride: usize,
    heads: usize,
    head_dim: usize,
    table: &RotaryTable,
    layout: RotaryLayout,
) {
    let rows = table.rows();
    turn(x, rows, row_stride, heads, head_dim, table, layout, 1.0);
}

/// [`rotary`] of `rows` rows, row r by row `r mod n` of a table of n, or with `back` its gradient: sequences that share
/// their positions, side by side.
///
/// # Panics
/// As [`rotary`], and when the rows are not whole sequences of n.
#[expect(clippy::too_many_arguments, reason = "a strided view takes four")]
pub fn rotary_rows<T: Element>(
    x: &mut [T],
    rows: usize,
    row_stride: usize,
    heads: usize,
    head_dim: usize,
    table: &RotaryTable,
    layout: RotaryLayout,
    back: bool,
) {
    let sign = if back { -1.0 } else { 1.0 };
    turn(x, rows, row_stride, heads, head_dim, table, layout, sign);
}

/// The gradient of [`rotary`], in place: turns back by the same angles.
///
/// # Panics
/// As [`rotary`].
pub fn rotary_backward(
    dx: &mut [f32],
    row_stride: usize,
    heads: usize,
    head_dim: usize,
    table: &RotaryTable,
    layout: RotaryLayout,
) {
    let rows = table.rows();
    turn(dx, rows, row_stride, heads, head_dim, table, layout, -1.0);
}

#[expect(clippy::too_many_arguments, reason = "a strided view takes four")]
fn turn<T: Element>(
    x: &mut [T],
    rows: usize,
    row_stride: usize,
    heads: usize,
    head_dim: usize,
    table: &RotaryTable,
    layout: RotaryLayout,
    sign: f32,
) {
    let width = heads.checked_mul(head_dim).unwrap_or_else(|| {
        panic!("rotary: {heads} heads of {head_dim} values overflow the address space")
    });
    assert!(
        table.rotary_dim() <= head_dim,
        "rotary: the table turns {} values, heads have {head_dim}",
        table.rotary_dim()
    );
    let period = table.rows();
    assert!(
        rows.is_multiple_of(period),
        "rotary: {rows} rows are not whole sequences of {period} positions"
    );
    assert!(
        rows <= 1 || row_stride >= width,
        "rotary: rows of {width} values overlap"
    );
    assert!(
        rows == 0
            || (rows - 1)
                .checked_mul(row_stride)
                .and_then(|last| last.checked_add(width))
                .is_some_and(|need| need <= x.len()),
        "rotary: {rows} rows at stride {row_stride} do not fit in {} values",
        x.len()
    );
    if width == 0 {
        // Rows without heads may be any number.
        return;
    }
    let (isa, work) = (Isa::detect(), x.len() * 6);
    let x = MutPtr(x.as_mut_ptr());
    threads::over_rows(rows, work, |a, b| {
        for r in a..b {
            // SAFETY: checked to lie in the slice; rows do not overlap.
            let x = unsafe { x.slice(r * row_stride, width) };
            let at = r % period * table.half..(r % period + 1) * table.half;
            let (cos, sin) = (&table.cos[at.clone()], &table.sin[at]);
            dispatch(
                isa,
                Row {
                    x,
                    head_dim,
                    cos,
                    sin,
                    layout,
                    sign,
                },
            );
        }
    });
}

struct Row<'a, T> {
    x: &'a mut [T],
    head_dim: usize,
    cos: &'a [f32],
    sin: &'a [f32],
    layout: RotaryLayout,
    sign: f32,
}

impl<T: Element> Kernel for Row<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.cos.len();
        for head in self.x.chunks_exact_mut(self.head_dim.max(1)) {
            match self.layout {
                RotaryLayout::HalfSplit => {
                    let (first, second) = head[..2 * half].split_at_mut(half);
                    for j in (0..half).step_by(LANES) {
                        let (a, b) = (super::get(s, first, j), super::get(s, second, j));
                        let cos = super::get(s, self.cos, j);
                        let sin = s.mul(super::get(s, self.sin, j), s.splat(self.sign));
                        super::put(s, first, j, s.sub(s.mul(a, cos), s.mul(b, sin)));
                        super::put(s, second, j, s.fma(a, sin, s.mul(b, cos)));
                    }
                }
                RotaryLayout::Interleaved => {
                    let pairs = head.as_chunks_mut::<2>().0.iter_mut();
                    for ((pair, &cos), &sin) in pairs.zip(self.cos).zip(self.sin) {
                        let ([a, b], sin) = (pair.map(Into::into), sin * self.sign);
                        *pair = [a * cos - b * sin, a * sin + b * cos].map(T::from);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;
    use proptest::prelude::*;

    #[test]
    fn a_quarter_turn_by_hand() {
        let table = RotaryTable::with_frequencies(&[1.0], &[std::f64::consts::FRAC_PI_2]);
        let mut x = [1.0, 2.0, 9.0];
        rotary(&mut x, 3, 1, 3, &table, RotaryLayout::HalfSplit);
        assert!((x[0] + 2.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6 && x[2] == 9.0);
        rotary_backward(&mut x, 3, 1, 3, &table, RotaryLayout::HalfSplit);
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn sequences_share_their_positions() {
        let table = RotaryTable::with_frequencies(&[0.0, 2.0], &[1.0, 0.25]);
        let (x, layout) = (Lcg(2).vec(6 * 5), RotaryLayout::Interleaved);
        let [mut one, mut all] = [x.clone(), x];
        rotary_rows(&mut all, 6, 5, 1, 4, &table, layout, false);
        for sequence in one.chunks_exact_mut(10) {
            rotary(sequence, 5, 1, 4, &table, layout);
        }
        assert_eq!(one, all);
        rotary_rows(&mut all, 6, 5, 1, 4, &table, layout, true);
        for sequence in one.chunks_exact_mut(10) {
            rotary_backward(sequence, 5, 1, 4, &table, layout);
        }
        assert_eq!(one, all);
    }

    #[test]
    #[should_panic(expected = "3 rows are not whole sequences of 2 positions")]
    fn parts_of_a_sequence_are_refused() {
        let table = RotaryTable::with_frequencies(&[0.0, 2.0], &[1.0]);
        let layout = RotaryLayout::HalfSplit;
        rotary_rows(&mut [0.0; 6], 3, 2, 1, 2, &table, layout, false);
    }

    #[test]
    #[should_panic(expected = "8589934592 heads of 2147483648 values overflow")]
    fn heads_beyond_the_address_space_are_refused() {
        let table = RotaryTable::with_frequencies(&[0.0], &[1.0]);
        let layout = RotaryLayout::HalfSplit;
        rotary(&mut [0.0; 2], 2, 1 << 33, 1 << 31, &table, layout);
    }

    #[test]
    fn any_number_of_rows_without_heads() {
        let table = RotaryTable::with_frequencies(&[0.0], &[1.0]);
        let layout = RotaryLayout::HalfSplit;
        rotary_rows::<f32>(&mut [], usize::MAX, 0, 0, 2, &table, layout, false);
    }

    /// Rows of `stride` values with heads of `dim`, of which `turned` turn.
    fn check(positions: &[f64], [stride, heads, dim, turned]: [usize; 4], seed: u64) {
        let table = RotaryTable::new(positions, turned, 10_000.0);
        let x = Lcg(seed).vec(stride * positions.len());
        with_every_isa(|isa| {
            for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
                let mut y = x.clone();
                rotary(&mut y, stride, heads, dim, &table, layout);
                let mut want: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                for (r, p) in positions.iter().enumerate() {
                    for h in 0..heads {
                        for i in 0..turned / 2 {
                            let angle = p * 10_000f64.powf(-2.0 * i as f64 / turned as f64);
                            let at = r * stride + h * dim;
                            let (a, b) = match layout {
                                RotaryLayout::HalfSplit => (at + i, at + i + turned / 2),
                                RotaryLayout::Interleaved => (at + 2 * i, at + 2 * i + 1),
                            };
                            let (x, y) = (want[a], want[b]);
                            want[a] = x * angle.cos() - y * angle.sin();
                            want[b] = x * angle.sin() + y * angle.cos();
                        }
                    }
                }
                for (y, w) in y.iter().zip(&want) {
                    let error = (f64::from(*y) - w).abs();
                    assert!(error < 3e-7, "{layout:?} on {}: {error:e}", isa.name());
                }
                rotary_backward(&mut y, stride, heads, dim, &table, layout);
                assert!(y.iter().zip(&x).all(|(y, x)| (y - x).abs() < 6e-7));
            }
        });
    }

    #[test]
    fn both_layouts_match_f64_at_far_positions() {
        check(&[0.0, 1.0, 77.0, 131_071.0], [170, 3, 50, 38], 12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn random_shapes_match_f64(
            positions in proptest::collection::vec(0u32..200_000, 1..12),
            (heads, dim, still, after) in (1usize..6, 1usize..140, 0usize..140, 0usize..20),
            seed in 1u64..1000,
        ) {
            let positions: Vec<f64> = positions.into_iter().map(f64::from).collect();
            let turned = dim.saturating_sub(still) / 2 * 2;
            check(&positions, [heads * dim + after, heads, dim, turned], seed);
        }
    }
}
