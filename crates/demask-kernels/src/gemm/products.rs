//! Products whose results are new, so that they are not filled with zeros first.

use super::driver::{self, Target};
use super::epilogue::{Active, Epilogue};
use super::{MatrixRef, Rhs};
use crate::element::{Bf16, Element};
use crate::memory::{self, MutPtr, Ptr};
use crate::{Precision, Reused};

/// `A · B (+ bias)`, row-major; the same bits as [`gemm`](super::gemm).
///
/// # Panics
/// When the shapes do not fit together.
pub fn product<'b, T: Element>(
    a: MatrixRef<'_, T>,
    b: impl Into<Rhs<'b>>,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let [c] = products(a, [(b.into(), bias)]);
    c
}

/// The same, stored as this element, for another operation.
///
/// # Panics
/// When the shapes do not fit together.
pub fn product_in<'b, T: Element, U: Element>(
    a: MatrixRef<'_, T>,
    b: impl Into<Rhs<'b>>,
    bias: Option<&[f32]>,
) -> Reused<U> {
    let b = b.into();
    check(a, b, bias);
    let mut c = Reused::take(a.rows() * b.cols());
    let to: *mut U = c.as_mut_ptr();
    let epilogue = match U::PRECISION {
        Precision::F32 => Epilogue::Store {
            c: MutPtr(to.cast()),
            load: false,
        },
        Precision::Bf16 => Epilogue::Round {
            c: MutPtr(to.cast::<Bf16>()),
        },
    };
    driver::run(a, &[Target::new(b, bias, epilogue)]);
    c
}

/// `X + (A · B + bias)`, row-major; the same bits as [`gemm`](super::gemm) with [`Beta::Add`](super::Beta::Add) to a copy
/// of `x`.
///
/// # Shapes
/// `x` as the result, row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn product_plus<'b, T: Element>(
    x: &[f32],
    a: MatrixRef<'_, T>,
    b: impl Into<Rhs<'b>>,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let b = b.into();
    check(a, b, bias);
    let len = a.rows() * b.cols();
    assert_eq!(x.len(), len, "gemm: what is added is not like the product");
    let run = |c| {
        let to = Ptr(x.as_ptr());
        driver::run(a, &[Target::new(b, bias, Epilogue::Add { c, to })]);
    };
    // SAFETY: the driver writes all rows in full.
    unsafe { memory::written(len, run) }
}

/// The products of one left operand with several right ones, all plain or all packed in one format: A is rounded and
/// packed once. The same bits as one after the other.
///
/// # Panics
/// When the shapes do not fit together, or the right operands are not alike.
pub fn products<T: Element, const N: usize>(
    a: MatrixRef<'_, T>,
    with: [(Rhs<'_>, Option<&[f32]>); N],
) -> [Vec<f32>; N] {
    let mut all = with.map(|(b, bias)| {
        check(a, b, bias);
        (b, bias, memory::room(a.rows() * b.cols()))
    });
    let targets = all.each_mut().map(|(b, bias, c)| {
        let c = MutPtr(c.as_mut_ptr());
        Target::new(*b, *bias, Epilogue::Store { c, load: false })
    });
    driver::run(a, &targets);
    all.map(|(b, _, mut c)| {
        // SAFETY: the driver has written all rows in full.
        unsafe { c.set_len(a.rows() * b.cols()) };
        c
    })
}

/// SwiGLU of two products: `silu(A · gate) · (A · up)`, row-major. The two are never stored; the same bits as
/// [`swiglu`](crate::rowwise::swiglu) of [`products`], rounded to this element.
///
/// # Panics
/// As for [`products`].
pub fn gated_product<T: Element, U: Element>(
    a: MatrixRef<'_, T>,
    gate: Rhs<'_>,
    up: Rhs<'_>,
) -> Reused<U> {
    check(a, gate, None);
    check(a, up, None);
    assert_eq!(gate.cols(), up.cols(), "gemm: gate and up must be alike");
    let mut c = Reused::take(a.rows() * gate.cols());
    let to: *mut U = c.as_mut_ptr();
    let to = match U::PRECISION {
        Precision::F32 => Active::F32(MutPtr(to.cast())),
        Precision::Bf16 => Active::Bf16(MutPtr(to.cast())),
    };
    let target = Target {
        second: Some((up, Ptr(std::ptr::null()))),
        ..Target::new(gate, None, Epilogue::SwiGlu(to))
    };
    driver::run(a, &[target]);
    c
}

/// Panics unless the operands of a product fit together and its places can be counted.
pub(super) fn check<T>(a: MatrixRef<'_, T>, b: Rhs<'_>, bias: Option<&[f32]>) {
    driver::check_sizes([a.rows(), b.cols(), a.cols()]);
    assert!(
        a.cols() == b.rows() && bias.is_none_or(|bias| bias.len() == b.cols()),
        "gemm: A is {}x{}, B is {}x{}, the bias has {} values",
        a.rows(),
        a.cols(),
        b.rows(),
        b.cols(),
        bias.map_or(0, <[f32]>::len)
    );
}
