//! SwiGLU: `y = silu(gate) · up`.

use super::silu::value_and_slope;
use super::{get, over_values, put, row_count, same_len};
use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// SwiGLU: `y = gate · σ(gate) · up`, value by value.
///
/// # Panics
/// When the slices differ in length.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    same_len("swiglu", gate.len(), &[up.len(), y.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(gate.len(), 20, |a, b| {
        // SAFETY: parts do not overlap.
        let y = unsafe { out.slice(a, b - a) };
        dispatch(
            isa,
            Forward {
                gate: &gate[a..b],
                up: &up[a..b],
                y,
            },
        );
    });
}

/// Gradients of [`swiglu`]: `dup = dy · silu(gate)`, `dgate = dy · up · silu'(gate)`.
///
/// # Panics
/// When the slices differ in length.
pub fn swiglu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    same_len(
        "swiglu_backward",
        gate.len(),
        &[up.len(), dy.len(), dgate.len(), dup.len()],
    );
    let isa = Isa::detect();
    let (out_gate, out_up) = (MutPtr(dgate.as_mut_ptr()), MutPtr(dup.as_mut_ptr()));
    over_values(gate.len(), 30, |a, b| {
        // SAFETY: parts do not overlap.
        let (dgate, dup) = unsafe { (out_gate.slice(a, b - a), out_up.slice(a, b - a)) };
        let (gate, up, dy) = (&gate[a..b], &up[a..b], &dy[a..b]);
        dispatch(
            isa,
            Backward {
                gate,
                up,
                dy,
                dgate,
                dup,
            },
        );
    });
}

struct Forward<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.gate.len()).step_by(LANES) {
            let (gate, up) = (get(s, self.gate, j), get(s, self.up, j));
            let (silu, _) = value_and_slope(s, gate);
            put(s, self.y, j, s.mul(silu, up));
        }
    }
}

struct Backward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.gate.len()).step_by(LANES) {
            let (gate, up, dy) = (get(s, self.gate, j), get(s, self.up, j), get(s, self.dy, j));
            let (silu, slope) = value_and_slope(s, gate);
            put(s, self.dgate, j, s.mul(s.mul(dy, up), slope));
            put(s, self.dup, j, s.mul(dy, silu));
        }
    }
}

/// [`swiglu`] of rows that hold the gate, then as many values of up.
///
/// # Shapes
/// `x`: `[rows, 2 n]`, `y`: `[rows, n]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn swiglu_rows<T: Element>(x: &[T], n: usize, y: &mut [T]) {
    let rows = row_count("swiglu_rows", y.len(), n);
    same_len("swiglu_rows", 2 * y.len(), &[x.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    threads::over_rows(rows, y.len() * 20, |a, b| {
        for r in a..b {
            // SAFETY: rows do not overlap.
            let y = unsafe { out.slice(r * n, n) };
            let (gate, up) = x[2 * r * n..2 * (r + 1) * n].split_at(n);
            dispatch(isa, Forward { gate, up, y });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    #[test]
    fn matches_f64_and_its_slopes() {
        let mut rng = Lcg(4);
        let gate: Vec<f32> = rng.vec(517).into_iter().map(|x| 6.0 * x).collect();
        let (up, dy) = (rng.vec(517), rng.vec(517));
        let silu = |x: f64| x / (1.0 + (-x).exp());
        with_every_isa(|_| {
            let (mut y, mut dgate, mut dup) = (vec![0.0; 517], vec![0.0; 517], vec![0.0; 517]);
            swiglu(&gate, &up, &mut y);
            swiglu_backward(&gate, &up, &dy, &mut dgate, &mut dup);
            for i in 0..517 {
                let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dy[i]));
                let slope = (silu(g + 1e-5) - silu(g - 1e-5)) / 2e-5;
                assert!((f64::from(y[i]) - silu(g) * u).abs() < 2e-6);
                assert!((f64::from(dgate[i]) - d * u * slope).abs() < 2e-6);
                assert!((f64::from(dup[i]) - d * silu(g)).abs() < 2e-6);
            }
        });
    }

    #[test]
    fn rows_are_the_same_values() {
        let (rows, n) = (5, 33);
        let mut rng = Lcg(6);
        let x = rng.vec(2 * rows * n);
        let half = |skip: usize| -> Vec<f32> {
            let rows = x.chunks_exact(2 * n);
            rows.flat_map(|r| &r[skip..skip + n]).copied().collect()
        };
        let (gate, up) = (half(0), half(n));
        with_every_isa(|_| {
            let (mut y, mut want) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            swiglu_rows(&x, n, &mut y);
            swiglu(&gate, &up, &mut want);
            assert_eq!(y, want);
        });
    }
}
