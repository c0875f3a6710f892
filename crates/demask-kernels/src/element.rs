//! How values lie in memory: as f32, or rounded to bf16.

use crate::Precision;
use crate::gemm::{MatrixRef, Rhs};
use crate::simd::{LANES, Simd, round_to_bf16};

/// A value rounded to bf16: the upper half of an f32, which keeps eight significant bits.
///
/// ```
/// use demask_kernels::Bf16;
/// assert_eq!(f32::from(Bf16::from(1.0 + 1.0 / 512.0)), 1.0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Bf16(u16);

/// To nearest, ties to even.
impl From<f32> for Bf16 {
    fn from(x: f32) -> Self {
        Self(round_to_bf16(x))
    }
}

impl From<Bf16> for f32 {
    fn from(x: Bf16) -> Self {
        Self::from_bits(u32::from(x.0) << 16)
    }
}

/// What the rows between two operations are stored in: [`f32`] or [`Bf16`]. The arithmetic is `f32` in either.
#[expect(
    private_bounds,
    reason = "only this crate says how values are read and written"
)]
pub trait Element:
    Lanes + Copy + Default + Send + Sync + std::fmt::Debug + From<f32> + Into<f32> + 'static
{
    /// The precision whose products read such values without rounding them again.
    const PRECISION: Precision;
}

impl Element for f32 {
    const PRECISION: Precision = Precision::F32;
}

impl Element for Bf16 {
    const PRECISION: Precision = Precision::Bf16;
}

/// Sixteen values at a time.
pub(crate) trait Lanes: Copy {
    /// # Safety
    /// `p` is valid for reading 16 values.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    /// Lanes from `n` on are 0; `n` above 16 counts as 16.
    /// # Safety
    /// `p` is valid for reading `min(n, 16)` values.
    unsafe fn load_part<S: Simd>(s: S, p: *const Self, n: usize) -> S::V;
    /// Stores the first `n` lanes; `n` above 16 counts as 16.
    /// # Safety
    /// `p` is valid for writing `min(n, 16)` values.
    unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V);
    /// The values that would be read if `v` were stored.
    fn rounded<S: Simd>(s: S, v: S::V) -> S::V;
    /// What [`Precision::rhs`] gives.
    fn rhs(b: MatrixRef<'_, Self>, precision: Precision) -> Rhs<'_>;
}

// SAFETY (of both): the caller's promises, handed on.
impl Lanes for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: as above.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        // SAFETY: as above.
        unsafe {
            if n >= LANES {
                s.load(p)
            } else {
                s.load_part(p, n, 0.0)
            }
        }
    }
    #[inline(always)]
    unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V) {
        // SAFETY: as above.
        unsafe {
            if n >= LANES {
                s.store(p, v);
            } else {
                s.store_part(p, n, v);
            }
        }
    }
    #[inline(always)]
    fn rounded<S: Simd>(_: S, v: S::V) -> S::V {
        v
    }
    fn rhs(b: MatrixRef<'_, Self>, precision: Precision) -> Rhs<'_> {
        match precision {
            Precision::F32 => Rhs::Plain(b),
            Precision::Bf16 => Rhs::Bf16(b),
        }
    }
}

impl Lanes for Bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: as above.
        unsafe { s.load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        if n >= LANES {
            // SAFETY: as above.
            return unsafe { s.load_bf16(p.cast()) };
        }
        let mut values = [0u16; LANES];
        // SAFETY: n values are read, and copied into an array that has more.
        unsafe {
            std::ptr::copy_nonoverlapping(p.cast(), values.as_mut_ptr(), n);
            s.load_bf16(values.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V) {
        if n >= LANES {
            // SAFETY: as above.
            return unsafe { s.store_bf16(p.cast(), v) };
        }
        let mut values = [0u16; LANES];
        // SAFETY: the array has 16 values, of which n go where n may be written.
        unsafe {
            s.store_bf16(values.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(values.as_ptr(), p.cast(), n);
        }
    }
    #[inline(always)]
    fn rounded<S: Simd>(s: S, v: S::V) -> S::V {
        // The upper half of a word, above a 0, is the number itself.
        s.join_bf16(s.splat(0.0), v)
    }
    fn rhs(b: MatrixRef<'_, Self>, _: Precision) -> Rhs<'_> {
        Rhs::Rounded(b)
    }
}
