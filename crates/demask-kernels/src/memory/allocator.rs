//! The allocator of a program.

use super::huge;
use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Fewest bytes that begin at a line of their own.
const LARGE: usize = 4096;

/// The allocator of the system, with large memory at a cache line: a load or store of 64 bytes at any other place, such
/// as the 16 bytes after one where glibc likes to begin, touches two lines.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: demask_kernels::memory::Aligned = demask_kernels::memory::Aligned;
///
/// let x = vec![0.5_f32; 1 << 20];
/// assert_eq!(x.as_ptr() as usize % 64, 0);
/// ```
///
/// Where the heap grows by large memory, it is asked to have huge pages.
///
/// The distance is kept in front of what is given. What asks for a line or more itself is given what the system gives; it
/// could give everything so, but glibc before 2.38 does not find such memory again when it was freed among other (its bug
/// 14581), which the few large buffers of the kernels, used again as they are, do not notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aligned;

/// The layout that is asked of the system, if it is not the one that was asked of us.
fn moved(layout: Layout) -> Option<Layout> {
    let large = layout.size() >= LARGE && layout.align() < LINE;
    let size = layout.size().checked_add(LINE).filter(|_| large)?;
    Layout::from_size_align(size, align_of::<usize>().max(layout.align())).ok()
}

/// Memory of so many bytes that was just taken of the system.
fn taken(from: *mut u8, bytes: usize) -> *mut u8 {
    huge::on_heap(from, bytes);
    from
}

/// From the system's memory to what we give of it.
///
/// # Safety
/// The memory is null or has [the layout of it](moved).
unsafe fn at_line(from: *mut u8) -> *mut u8 {
    if from.is_null() {
        return from;
    }
    // Room for the distance itself, and at most a line: the layout is aligned for a `usize`.
    let distance = LINE - from as usize % LINE;
    // SAFETY: there is a line more than was asked for.
    unsafe {
        let to = from.add(distance);
        to.cast::<usize>().sub(1).write(distance);
        to
    }
}

// SAFETY: all memory is the system's; what is not at the place that it gave is given back at that place and with that
// layout.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises; a larger layout is not empty either.
        unsafe {
            match moved(layout) {
                Some(moved) => at_line(taken(System.alloc(moved), moved.size())),
                None => taken(System.alloc(layout), layout.size()),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match moved(layout) {
                Some(moved) => at_line(taken(System.alloc_zeroed(moved), moved.size())),
                None => taken(System.alloc_zeroed(layout), layout.size()),
            }
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises: the same layout, so the same answer, and what stands before the memory is ours.
        unsafe {
            match moved(layout) {
                Some(moved) => {
                    let distance = ptr.cast::<usize>().sub(1).read();
                    System.dealloc(ptr.sub(distance), moved);
                }
                None => System.dealloc(ptr, layout),
            }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises; the size is not 0 and fits.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            match (moved(layout), moved(new)) {
                (None, None) => taken(System.realloc(ptr, layout, size), size),
                (Some(old), Some(new)) => {
                    let distance = ptr.cast::<usize>().sub(1).read();
                    let from = System.realloc(ptr.sub(distance), old, new.size());
                    let from = taken(from, new.size());
                    if from.is_null() {
                        return from;
                    }
                    // The values lie where they lay from the beginning of the system's memory on.
                    let to = from.add(LINE - from as usize % LINE);
                    to.copy_from(from.add(distance), layout.size().min(size));
                    at_line(from)
                }
                _ => {
                    let to = self.alloc(new);
                    if !to.is_null() {
                        to.copy_from_nonoverlapping(ptr, layout.size().min(size));
                        self.dealloc(ptr, layout);
                    }
                    to
                }
            }
        }
    }
}

/// Keeps freed memory for the next step. A training step and a forward pass take and free the same
/// tensors of many MiB again and again; glibc gives each back to the system by default, and the
/// system fills every page with zeros when it is asked for again: a quarter to a third of a training
/// step, on two cores. Other systems' allocators are left as they are. What was taken before the call may still be given back.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const BIG: libc::c_int = 1 << 30;
        // SAFETY: `mallopt` takes two integers, and the lock of the allocator. It returns 0 for a value that it refuses, and
        // then nothing has changed.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, BIG);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that is written in full and given back, whose place is checked.
    struct Block(*mut u8, Layout);

    impl Block {
        fn new(size: usize, align: usize, zeroed: bool) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout is not empty.
            let ptr = unsafe {
                match zeroed {
                    true => Aligned.alloc_zeroed(layout),
                    false => Aligned.alloc(layout),
                }
            };
            let block = Self(ptr, layout);
            block.check();
            assert!(!zeroed || block.bytes().iter().all(|b| *b == 0));
            block
        }
        fn check(&self) {
            let line = if self.1.size() >= LARGE { LINE } else { 1 };
            assert_eq!(self.0 as usize % line.max(self.1.align()), 0);
        }
        #[allow(clippy::mut_from_ref)]
        fn bytes(&self) -> &mut [u8] {
            // SAFETY: the memory is ours.
            unsafe { std::slice::from_raw_parts_mut(self.0, self.1.size()) }
        }
        fn resize(&mut self, size: usize) {
            // SAFETY: the memory is ours, and the size not 0.
            self.0 = unsafe { Aligned.realloc(self.0, self.1, size) };
            self.1 = Layout::from_size_align(size, self.1.align()).unwrap();
            self.check();
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: the memory is ours.
            unsafe { Aligned.dealloc(self.0, self.1) }
        }
    }

    #[test]
    fn large_memory_begins_at_a_line() {
        for size in [1, 17, LARGE - 1, LARGE, LARGE + 1, 1 << 20] {
            for align in [1, 4, 16, 32, 64, 4096] {
                for zeroed in [false, true] {
                    let block = Block::new(size, align, zeroed);
                    block.bytes().fill(0xa5);
                }
            }
        }
    }

    #[test]
    fn what_grows_and_shrinks_keeps_its_bytes() {
        for align in [1, 4, 16, 32, 64] {
            let mut block = Block::new(100, align, false);
            let byte = |i: usize| (i % 251) as u8;
            let sizes = [
                200,
                LARGE,
                3 * LARGE,
                1 << 20,
                5 << 20,
                2 * LARGE,
                LARGE - 1,
                50,
            ];
            for size in sizes {
                let old = block.1.size();
                (block.bytes().iter_mut().enumerate()).for_each(|(i, b)| *b = byte(i));
                block.resize(size);
                let kept = block.bytes()[..size.min(old)].iter().enumerate();
                assert!(kept.into_iter().all(|(i, b)| *b == byte(i)), "{size}");
            }
        }
    }
}
