//! Memory that is used again.

use super::buffer::Buffer;
use std::cell::RefCell;

/// Scratch above this many values is given back to the system (16 MiB).
const KEEP: usize = 4 << 20;

thread_local! {
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Memory of a thread that is handed back when dropped, so that a kernel that runs often does not
/// ask the system for pages each time. The contents are whatever was there before. Taking is safe
/// while another kernel of the same thread holds scratch (work stealing nests them).
pub(crate) struct Scratch(Buffer);

impl Scratch {
    /// At least `len` values of unspecified (initialised) contents, at a cache line.
    pub fn take(len: usize) -> Self {
        let kept = FREE.with_borrow_mut(|free| {
            // The smallest one that is large enough.
            let best = (0..free.len())
                .filter(|&i| free[i].len() >= len)
                .min_by_key(|&i| free[i].len());
            best.map(|i| free.swap_remove(i))
        });
        Self(kept.unwrap_or_else(|| Buffer::zeroed(len)))
    }
    /// One of exactly this size, zeroed, for somebody who keeps it.
    pub fn fresh(len: usize) -> Self {
        Self(Buffer::zeroed(len))
    }
    /// Number of values, at least as many as were asked for.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr()
    }
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        if buffer.len() <= KEEP && buffer.len() > 0 {
            // The thread may be ending, in which case the memory is simply freed.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                free.push(buffer);
                if free.len() > 16 {
                    let smallest = (0..free.len()).min_by_key(|&i| free[i].len());
                    smallest.map(|i| free.swap_remove(i));
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_reused_and_nests() {
        let mut a = Scratch::take(1000);
        let mut b = Scratch::take(1000);
        assert_ne!(a.as_mut_ptr(), b.as_mut_ptr());
        let first = a.as_mut_ptr();
        assert_eq!(first as usize % 64, 0);
        drop(a);
        assert_eq!(Scratch::take(900).as_mut_ptr(), first);
    }
}
