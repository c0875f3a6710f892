//! Buffers that are used again.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::mem::room;

/// Values that a thread keeps at most (512 MiB); beyond that what has lain longest is freed.
const KEEP: usize = 128 << 20;
/// Buffers that it keeps at most.
const BUFFERS: usize = 256;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Values that an operation writes before it reads them.
///
/// A training step needs the same large buffers again and again. A new one is filled with zeros, by the allocator or by
/// the system page by page, which takes as long as many an operation that then overwrites it. This one keeps
/// whatever stood there before, and hands its memory on to the next one of its thread when it is dropped.
///
/// ```
/// use demask_kernels::Reused;
/// let mut values = Reused::take(3);
/// values.copy_from_slice(&[1.0, 2.0, 3.0]);
/// assert_eq!(values.iter().sum::<f32>(), 6.0);
/// ```
#[derive(Debug, Default)]
pub struct Reused {
    /// At least `len` values.
    values: Vec<f32>,
    len: usize,
}

impl Reused {
    /// `len` values of unspecified contents.
    pub fn take(len: usize) -> Self {
        let kept = FREE.with_borrow_mut(|free| {
            // The smallest one that is large enough, unless most of it would lie idle.
            let best = (0..free.len())
                .filter(|&i| (len..=len.saturating_mul(2)).contains(&free[i].len()))
                .min_by_key(|&i| free[i].len());
            best.map(|i| free.remove(i))
        });
        Self {
            values: kept.unwrap_or_else(|| {
                let mut values = room(len);
                values.resize(len, 0.0);
                values
            }),
            len,
        }
    }
}

impl Deref for Reused {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Reused {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Clone for Reused {
    fn clone(&self) -> Self {
        let mut copy = Self::take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        // The thread may be ending, in which case the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if values.is_empty() || values.len() > KEEP {
                return;
            }
            free.push(values);
            let mut kept: usize = free.iter().map(Vec::len).sum();
            while kept > KEEP || free.len() > BUFFERS {
                kept -= free.remove(0).len();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_handed_on_to_what_fits() {
        let mut small = Reused::take(10);
        let mut large = Reused::take(1000);
        small.fill(1.0);
        large.fill(2.0);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        drop((small, large));
        let first = Reused::take(8);
        assert_eq!((first.as_ptr(), first.len()), (at_small, 8));
        assert_ne!(Reused::take(9).as_ptr(), at_large);
        let second = Reused::take(900);
        assert_eq!((second.as_ptr(), &second[..]), (at_large, &[2.0; 900][..]));
    }

    #[test]
    fn what_has_lain_longest_makes_room() {
        // Sizes that grow fill the store with what is too small.
        let growing: Vec<Reused> = (1..=40).map(|i| Reused::take(i * 200_000)).collect();
        drop(growing);
        let wanted = Reused::take(20_000_000);
        let at = wanted.as_ptr();
        drop(wanted);
        assert_eq!(Reused::take(20_000_000).as_ptr(), at);
    }

    #[test]
    fn a_copy_has_memory_of_its_own() {
        let mut a = Reused::take(4);
        a.fill(3.0);
        let b = a.clone();
        a.fill(4.0);
        assert_eq!(&b[..], [3.0; 4]);
    }
}
