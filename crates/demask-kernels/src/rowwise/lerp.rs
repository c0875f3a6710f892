//! Moving one slice towards another.

use super::{get, over_values, put, same_len};
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// `y ← y + t · (x − y)`: an exponential moving average with decay `1 − t`.
///
/// # Panics
/// When the slices differ in length.
pub fn lerp(t: f32, x: &[f32], y: &mut [f32]) {
    same_len("lerp", x.len(), &[y.len()]);
    let (isa, y) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(x.len(), 4, |from, to| {
        // SAFETY: parts do not overlap.
        let y = unsafe { y.slice(from, to - from) };
        let x = &x[from..to];
        dispatch(isa, Lerp { t, x, y });
    });
}

struct Lerp<'a> {
    t: f32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Lerp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = s.splat(self.t);
        for j in (0..self.x.len()).step_by(LANES) {
            let (x, y) = (get(s, self.x, j), get(s, self.y, j));
            put(s, self.y, j, s.fma(t, s.sub(x, y), y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;

    #[test]
    fn half_way_and_all_the_way() {
        with_every_isa(|_| {
            let mut y = [21.0, 42.0, 63.0];
            lerp(0.5, &[1.0, 0.0, 63.0], &mut y);
            assert_eq!(y, [11.0, 21.0, 63.0]);
            lerp(1.0, &[3.0, 2.0, 1.0], &mut y);
            assert_eq!(y, [3.0, 2.0, 1.0]);
        });
    }
}
