//! The hidden rows of an MLP that is trained: what its backward pass needs is stored as they are made.

use super::driver::{self, Target, pointer};
use super::epilogue::{Epilogue, Hidden, HiddenRows};
use super::products::check;
use super::{MatrixRef, Rhs};
use crate::element::Element;
use crate::memory::MutPtr;
use crate::{Precision, Reused};

/// The hidden rows of an MLP and what its activation makes of them: `silu(gate) · up` if there is a gate (Shazeer,
/// 2020), else GELU in its tanh form. The activation is that of the values as they are stored.
///
/// # Shapes
/// `a`: `[rows, k]`; `up` and `gate`: `k × n` and a bias of `n`. The hidden rows hold the gate and then up, `[rows, 2 n]`,
/// or up alone, `[rows, n]`; the active ones are `[rows, n]`.
///
/// # Panics
/// When the shapes do not fit together, or the right operands are not packed alike.
pub fn hidden_rows<T: Element>(
    a: MatrixRef<'_, T>,
    gate: Option<(Rhs<'_>, Option<&[f32]>)>,
    up: (Rhs<'_>, Option<&[f32]>),
) -> (Reused<T>, Reused<T>) {
    for (b, bias) in gate.iter().chain([&up]) {
        check(a, *b, *bias);
        assert_eq!(b.cols(), up.0.cols(), "gemm: gate and up must be alike");
    }
    let len = a.rows() * up.0.cols();
    let width = if gate.is_some() { 2 } else { 1 };
    let (mut hidden, mut active) = (Reused::take(width * len), Reused::take(len));
    let to = to(gate.is_some(), &mut hidden, &mut active);
    let first = gate.unwrap_or(up);
    let target = Target {
        second: gate.map(|_| (up.0, pointer(up.1))),
        ..Target::new(first.0, first.1, Epilogue::Hidden(to))
    };
    driver::run(a, &[target]);
    (hidden, active)
}

/// From the gradient `g` of an MLP's output to that of its hidden rows, left in their place. The result is what the
/// activation had made of them, which the gradient of the weight `down` needs and which costs nothing here.
///
/// # Shapes
/// `g`: `[rows, out]`; `down`: `out × n`; `hidden` as [`hidden_rows`] gives them, `gated` or not.
///
/// # Panics
/// When the shapes do not fit together.
pub fn hidden_rows_backward<T: Element>(
    g: MatrixRef<'_>,
    down: Rhs<'_>,
    gated: bool,
    hidden: &mut [T],
) -> Reused<T> {
    check(g, down, None);
    let len = g.rows() * down.cols();
    let width = if gated { 2 } else { 1 };
    assert_eq!(
        hidden.len(),
        width * len,
        "gemm: the hidden rows must be {} rows of {} values",
        g.rows(),
        width * down.cols()
    );
    let mut active = Reused::take(len);
    let to = to(gated, hidden, &mut active);
    driver::run(g, &[Target::new(down, None, Epilogue::HiddenBackward(to))]);
    active
}

fn to<T: Element>(gated: bool, hidden: &mut [T], active: &mut [T]) -> Hidden {
    fn rows<T, U>(gated: bool, hidden: &mut [T], active: &mut [T]) -> HiddenRows<U> {
        HiddenRows {
            gated,
            hidden: MutPtr(hidden.as_mut_ptr().cast()),
            active: MutPtr(active.as_mut_ptr().cast()),
        }
    }
    match T::PRECISION {
        Precision::F32 => Hidden::F32(rows(gated, hidden, active)),
        Precision::Bf16 => Hidden::Bf16(rows(gated, hidden, active)),
    }
}
