//! Adding one slice to another.

use super::{get, over_values, put, same_len};
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// `y ← y + x`.
///
/// # Panics
/// When the slices differ in length.
pub fn add(x: &[f32], y: &mut [f32]) {
    same_len("add", x.len(), &[y.len()]);
    let (isa, y) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(x.len(), 4, |from, to| {
        // SAFETY: parts do not overlap.
        let y = unsafe { y.slice(from, to - from) };
        dispatch(isa, Add { x: &x[from..to], y });
    });
}

struct Add<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.x.len()).step_by(LANES) {
            put(s, self.y, j, s.add(get(s, self.y, j), get(s, self.x, j)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;

    #[test]
    fn sums_by_hand() {
        with_every_isa(|_| {
            let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
            let mut y = vec![0.5; 37];
            add(&x, &mut y);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == 0.5 + x));
        });
    }
}
