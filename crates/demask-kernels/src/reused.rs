//! Buffers that are used again.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::Element;
use crate::memory::Buffer;
use crate::simd::LANES;

/// Values that a thread keeps at most (512 MiB); beyond that what has lain longest is freed.
const KEEP: usize = 128 << 20;
/// Buffers that it keeps at most.
const BUFFERS: usize = 256;

thread_local! {
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Values that an operation writes before it reads them.
///
/// A training step needs the same large buffers again and again. A new one is filled with zeros, by the allocator or by
/// the system page by page, which takes as long as many an operation that then overwrites it. This one keeps
/// whatever stood there before, and hands its memory on to the next one of its thread when it is dropped.
///
/// ```
/// use demask_kernels::Reused;
/// let mut values: Reused = Reused::take(3);
/// values.copy_from_slice(&[1.0, 2.0, 3.0]);
/// assert_eq!(values.iter().sum::<f32>(), 6.0);
/// ```
#[derive(Debug)]
pub struct Reused<T: Element = f32> {
    /// Memory of at least `len` values, which begins at a cache line.
    words: Buffer,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Element> Reused<T> {
    /// `len` values of unspecified contents.
    pub fn take(len: usize) -> Self {
        let values = len;
        let len = len.div_ceil(size_of::<f32>() / size_of::<T>());
        // As a buffer rounds it; it also says when there is no room for so many.
        let len = len.checked_next_multiple_of(LANES).unwrap_or(len);
        let kept = FREE.with_borrow_mut(|free| {
            // The smallest one that is large enough, unless most of it would lie idle.
            let best = (0..free.len())
                .filter(|&i| (len..=len.saturating_mul(2)).contains(&free[i].len()))
                .min_by_key(|&i| free[i].len());
            best.map(|i| free.remove(i))
        });
        Self {
            words: kept.unwrap_or_else(|| Buffer::zeroed(len)),
            len: values,
            of: PhantomData,
        }
    }
}

impl<T: Element> Default for Reused<T> {
    fn default() -> Self {
        Self {
            words: Buffer::default(),
            len: 0,
            of: PhantomData,
        }
    }
}

impl<T: Element> Deref for Reused<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the words are initialised and at least as large and as aligned as `len` elements, and every
        // pattern of bits is an element.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> DerefMut for Reused<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; and every pattern of bits is an element of any kind, for whoever has
        // these words next.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Element> Clone for Reused<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Element> Drop for Reused<T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.words);
        // The thread may be ending, in which case the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if values.len() == 0 || values.len() > KEEP {
                return;
            }
            free.push(values);
            let mut kept: usize = free.iter().map(Buffer::len).sum();
            while kept > KEEP || free.len() > BUFFERS {
                kept -= free.remove(0).len();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bf16;

    #[test]
    fn memory_is_handed_on_to_what_fits() {
        let mut small: Reused = Reused::take(10);
        let mut large: Reused = Reused::take(1000);
        small.fill(1.0);
        large.fill(2.0);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        drop((small, large));
        let first: Reused = Reused::take(8);
        assert_eq!((first.as_ptr(), first.len()), (at_small, 8));
        assert_ne!(Reused::<f32>::take(9).as_ptr(), at_large);
        let second: Reused = Reused::take(900);
        assert_eq!((second.as_ptr(), &second[..]), (at_large, &[2.0; 900][..]));
    }

    #[test]
    fn what_has_lain_longest_makes_room() {
        // Sizes that grow fill the store with what is too small.
        let growing: Vec<Reused> = (1..=40).map(|i| Reused::take(i * 200_000)).collect();
        drop(growing);
        let wanted: Reused = Reused::take(20_000_000);
        let at = wanted.as_ptr();
        drop(wanted);
        assert_eq!(Reused::<f32>::take(20_000_000).as_ptr(), at);
    }

    #[test]
    fn narrow_values_take_half_the_memory() {
        let mut wide: Reused = Reused::take(8);
        wide.fill(1.0);
        let at = wide.as_ptr();
        drop(wide);
        let mut narrow: Reused<Bf16> = Reused::take(15);
        assert_eq!((narrow.as_ptr().cast(), narrow.len()), (at, 15));
        narrow.fill(2.0.into());
        assert!(narrow.iter().all(|&x| f32::from(x) == 2.0));
    }

    #[test]
    fn a_copy_has_memory_of_its_own() {
        let mut a: Reused = Reused::take(4);
        a.fill(3.0);
        let b = a.clone();
        a.fill(4.0);
        assert_eq!(&b[..], [3.0; 4]);
    }
}
