//! New memory: aligned, on huge pages where it is large.

use super::MutPtr;
use super::huge::{HUGE, huge_pages};
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// `f32` values that begin at a cache line; large ones at a huge page, where the system has them.
#[derive(Debug)]
pub(crate) struct Buffer {
    ptr: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a `Buffer` owns its memory, as a `Vec<f32>` does.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// When `len` values do not fit in the address space.
    pub fn zeroed(len: usize) -> Self {
        let bytes =
            (len.checked_next_multiple_of(16)).and_then(|n| n.checked_mul(size_of::<f32>()));
        let bytes = bytes.unwrap_or_else(|| panic!("memory: {len} values are too many"));
        let align = if bytes >= 2 * HUGE { HUGE } else { 64 };
        let layout = Layout::from_size_align(bytes, align)
            .unwrap_or_else(|_| panic!("memory: {len} values are too many"));
        if bytes == 0 {
            let ptr = NonNull::dangling();
            return Self { ptr, layout };
        }
        // SAFETY: the layout is not empty; the memory is ours alone, and zeros are values.
        unsafe {
            let ptr = if align == HUGE {
                let ptr = alloc(layout);
                if !ptr.is_null() {
                    huge_pages(ptr, bytes);
                    ptr.write_bytes(0, bytes);
                }
                ptr
            } else {
                alloc_zeroed(layout)
            };
            let Some(ptr) = NonNull::new(ptr.cast::<f32>()) else {
                handle_alloc_error(layout)
            };
            Self { ptr, layout }
        }
    }
    /// Values, rounded up to whole cache lines.
    pub fn len(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
    pub fn as_ptr(&self) -> *const f32 {
        self.ptr.as_ptr()
    }
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.ptr.as_ptr()
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.ptr.as_ptr().cast(), self.layout) }
        }
    }
}

/// Room for `len` values, on huge pages where it is large, as far as it covers them.
pub(crate) fn room(len: usize) -> Vec<f32> {
    let mut values = Vec::<f32>::with_capacity(len);
    let bytes = len * size_of::<f32>();
    let before = values.as_mut_ptr().cast::<u8>().align_offset(HUGE);
    if bytes >= before.saturating_add(HUGE) {
        let whole = (bytes - before) / HUGE * HUGE;
        huge_pages(values.as_mut_ptr().cast::<u8>().wrapping_add(before), whole);
    }
    values
}

/// A vector of `len` values that `write` puts there: memory that is written in full anyway is not filled with
/// zeros first.
///
/// # Safety
/// `write` initialises all `len` values behind the pointer it is given, without reading any before.
pub(crate) unsafe fn written(len: usize, write: impl FnOnce(MutPtr)) -> Vec<f32> {
    let mut values = room(len);
    write(MutPtr(values.as_mut_ptr()));
    // SAFETY: the caller's promise.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_is_written() {
        for len in [0, 1, 1000, HUGE / 4 + 7, HUGE] {
            let mut values = room(len);
            assert!(values.is_empty() && values.capacity() >= len);
            values.resize(len, 1.0);
            assert_eq!(values.iter().sum::<f32>(), len as f32);
        }
    }
}
