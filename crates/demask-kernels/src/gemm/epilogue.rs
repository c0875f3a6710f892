//! What becomes of the sums of a product when they are done.
//!
//! Sums that are not simply put down stay in the scratch of their task, a few hundred rows and columns of them, until
//! one pass over them here, while they are still in a near cache: what an operation of its own would do in a pass over
//! memory.

use crate::element::{Bf16, Element, Lanes};
use crate::memory::{MutPtr, Ptr};
use crate::rowwise::{gelu, silu};
use crate::simd::{LANES, Simd};

/// Row-major results, as wide as the product but for what is said of them.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// `C = sums`, put there by the registers themselves; with `load` the sums begin at the old C.
    Store { c: MutPtr, load: bool },
    /// `C = sums`, rounded.
    Round { c: MutPtr<Bf16> },
    /// `C = to + sums`; `to` may be C itself.
    Add { c: MutPtr, to: Ptr },
    /// `C = silu(sums) · second sums`.
    SwiGlu(Active),
    /// The hidden rows of an MLP, and what its activation makes of them.
    Hidden(Hidden),
    /// The sums are the gradient of what the activation gave. In the place of the hidden rows comes their gradient, and
    /// beside them once more what the activation gave, which costs nothing here.
    HiddenBackward(Hidden),
}

/// What an activation gives, of either element.
#[derive(Clone, Copy)]
pub(super) enum Active {
    F32(MutPtr),
    Bf16(MutPtr<Bf16>),
}

/// Rows of either element.
#[derive(Clone, Copy)]
pub(super) enum Hidden {
    F32(HiddenRows<f32>),
    Bf16(HiddenRows<Bf16>),
}

/// `hidden` holds the gate and as many values of up in a row if it is `gated` (SwiGLU), else it is as wide as `active`
/// (GELU).
#[derive(Clone, Copy)]
pub(super) struct HiddenRows<T> {
    pub gated: bool,
    pub hidden: MutPtr<T>,
    pub active: MutPtr<T>,
}

/// Some columns of a row of the product, `n` values wide in all.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub row: usize,
    pub cols: (usize, usize),
    pub n: usize,
}

impl Epilogue {
    /// Where the registers put their sums, and whether these begin there; `None` if they go to scratch.
    pub fn direct(&self) -> Option<(MutPtr, bool)> {
        match *self {
            Self::Store { c, load } => Some((c, load)),
            _ => None,
        }
    }

    /// Asks for what [`finish`](Self::finish) will read at a place that comes later, and need not exist. Rows lie too
    /// far apart for the processor to guess.
    #[inline(always)]
    pub fn ask<S: Simd>(self, s: S, at: Place) {
        match self {
            Self::Add { c, to } => {
                at.ask(s, to.get().wrapping_add(at.index(0)));
                at.ask(s, c.get().wrapping_add(at.index(0)));
            }
            Self::HiddenBackward(Hidden::F32(to)) => to.ask(s, at),
            Self::HiddenBackward(Hidden::Bf16(to)) => to.ask(s, at),
            _ => {}
        }
    }

    /// Finishes some columns of a row. `sums` holds them from the first column on, the second one those of the second
    /// operand, in whole vectors.
    ///
    /// # Safety
    /// The sums are readable; the results and what is read beside them have this place, which no other task touches.
    #[inline(always)]
    pub unsafe fn finish<S: Simd>(self, s: S, at: Place, sums: [*const f32; 2]) {
        // SAFETY: the caller's promises.
        unsafe {
            match self {
                Self::Store { c, load } => {
                    for (i, left) in at.vectors() {
                        let (mut y, c) = (s.load(sums[0].add(i)), c.get().add(at.index(i)));
                        if load {
                            y = s.add(y, s.load_part(c, left, 0.0));
                        }
                        s.store_part(c, left, y);
                    }
                }
                Self::Round { c } => {
                    for (i, left) in at.vectors() {
                        Bf16::store_part(s, c.get().add(at.index(i)), left, s.load(sums[0].add(i)));
                    }
                }
                Self::Add { c, to } => {
                    for (i, left) in at.vectors() {
                        let to = s.load_part(to.get().add(at.index(i)), left, 0.0);
                        let y = s.add(to, s.load(sums[0].add(i)));
                        s.store_part(c.get().add(at.index(i)), left, y);
                    }
                }
                Self::SwiGlu(Active::F32(c)) => swiglu(s, at, sums, c),
                Self::SwiGlu(Active::Bf16(c)) => swiglu(s, at, sums, c),
                Self::Hidden(Hidden::F32(to)) => to.forward(s, at, sums),
                Self::Hidden(Hidden::Bf16(to)) => to.forward(s, at, sums),
                Self::HiddenBackward(Hidden::F32(to)) => to.backward(s, at, sums[0]),
                Self::HiddenBackward(Hidden::Bf16(to)) => to.backward(s, at, sums[0]),
            }
        }
    }
}

/// # Safety
/// As for [`Epilogue::finish`].
#[inline(always)]
unsafe fn swiglu<S: Simd, T: Element>(s: S, at: Place, sums: [*const f32; 2], c: MutPtr<T>) {
    for (i, left) in at.vectors() {
        // SAFETY: the caller's promises.
        unsafe {
            let (silu, _) = silu::value_and_slope(s, s.load(sums[0].add(i)));
            let y = s.mul(silu, s.load(sums[1].add(i)));
            T::store_part(s, c.get().add(at.index(i)), left, y);
        }
    }
}

impl Place {
    /// The first column of each vector, from the first one of the place, and the columns that are left.
    #[inline(always)]
    fn vectors(self) -> impl Iterator<Item = (usize, usize)> {
        let width = self.cols.1 - self.cols.0;
        (0..width).step_by(LANES).map(move |i| (i, width - i))
    }

    /// Asks for as many values as the place has, from `first` on.
    #[inline(always)]
    fn ask<S: Simd, T>(self, s: S, first: *const T) {
        let line = 64 / size_of::<T>();
        for i in (0..self.cols.1 - self.cols.0).step_by(line) {
            s.prefetch(first.wrapping_add(i).cast());
        }
    }

    /// Column `i` of the place in a row of the product.
    #[inline(always)]
    fn index(self, i: usize) -> usize {
        self.row.wrapping_mul(self.n).wrapping_add(self.cols.0 + i)
    }
}

impl<T: Element> HiddenRows<T> {
    /// The activation reads what is stored, so that the backward pass, which has nothing else, computes the same.
    ///
    /// # Safety
    /// As for [`Epilogue::finish`].
    #[inline(always)]
    unsafe fn forward<S: Simd>(self, s: S, at: Place, sums: [*const f32; 2]) {
        let active = self.active.get().wrapping_add(at.index(0));
        let hidden = self.first(at);
        for (i, left) in at.vectors() {
            // SAFETY: the caller's promises; the second half of a gated row is `n` values further.
            unsafe {
                let first = T::rounded(s, s.load(sums[0].add(i)));
                T::store_part(s, hidden.add(i), left, first);
                let y = if self.gated {
                    let up = T::rounded(s, s.load(sums[1].add(i)));
                    T::store_part(s, hidden.add(at.n + i), left, up);
                    s.mul(silu::value_and_slope(s, first).0, up)
                } else {
                    gelu::value_and_slope(s, first).0
                };
                T::store_part(s, active.add(i), left, y);
            }
        }
    }

    /// # Safety
    /// As for [`Epilogue::finish`].
    #[inline(always)]
    unsafe fn backward<S: Simd>(self, s: S, at: Place, sums: *const f32) {
        let active = self.active.get().wrapping_add(at.index(0));
        let hidden = self.first(at);
        for (i, left) in at.vectors() {
            // SAFETY: as above.
            unsafe {
                let dy = s.load(sums.add(i));
                let first = T::load_part(s, hidden.add(i), left);
                let y = if self.gated {
                    let (silu, slope) = silu::value_and_slope(s, first);
                    let up = T::load_part(s, hidden.add(at.n + i), left);
                    T::store_part(s, hidden.add(i), left, s.mul(s.mul(dy, up), slope));
                    T::store_part(s, hidden.add(at.n + i), left, s.mul(dy, silu));
                    s.mul(silu, up)
                } else {
                    let (y, slope) = gelu::value_and_slope(s, first);
                    T::store_part(s, hidden.add(i), left, s.mul(dy, slope));
                    y
                };
                T::store_part(s, active.add(i), left, y);
            }
        }
    }

    #[inline(always)]
    fn ask<S: Simd>(self, s: S, at: Place) {
        at.ask(s, self.first(at));
        if self.gated {
            at.ask(s, self.first(at).wrapping_add(at.n));
        }
        at.ask(s, self.active.get().wrapping_add(at.index(0)));
    }

    /// The place in the first, or only, half of a hidden row.
    #[inline(always)]
    fn first(self, at: Place) -> *mut T {
        let width = if self.gated { 2 * at.n } else { at.n };
        let from = at.row.wrapping_mul(width).wrapping_add(at.cols.0);
        self.hidden.get().wrapping_add(from)
    }
}
