//! Huge pages: a weight of several hundred MiB is read through tens of thousands of small ones, whose addresses the
//! processor can't all remember.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a huge page.
pub(super) const HUGE: usize = 2 << 20;
/// Fewest bytes for whose sake the heap is asked to have them.
const LARGE: usize = 256 << 10;

/// Asks the system for huge pages from a page on; it may refuse, and then nothing has changed.
pub(super) fn huge_pages(ptr: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: this advice changes no contents, whatever lies there, and is not taken where nothing does.
    unsafe {
        libc::madvise(ptr.cast(), bytes, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (ptr, bytes);
}

/// Asks for huge pages on the whole heap, where large memory was taken beyond what was asked for before. A weight may well
/// be smaller than such a page, which the system gives only whole, and only where nothing has been written yet. glibc does
/// the same itself where its tunable `glibc.malloc.hugetlb` is 1.
pub(super) fn on_heap(ptr: *mut u8, bytes: usize) {
    /// Where the heap ended when it was asked for.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let (at, asked) = (ptr as usize, ASKED.load(Ordering::Relaxed));
    if bytes < LARGE || at < asked || ptr.is_null() {
        return;
    }
    // Other memory lies above the heap.
    let Some(end) = end_of_heap().filter(|&end| at < end) else {
        return;
    };
    let from = if asked == 0 { at } else { asked } / HUGE * HUGE;
    huge_pages(ptr.wrapping_sub(at - from), end - from);
    ASKED.fetch_max(end, Ordering::Relaxed);
}

/// Where the heap ends, if there is one.
fn end_of_heap() -> Option<usize> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: moving the end by nothing only asks where it is.
        let end = unsafe { libc::sbrk(0) };
        (end as isize != -1).then_some(end as usize)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}
