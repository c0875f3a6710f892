//! Huge pages: a weight of several hundred MiB is read through tens of thousands of small ones, whose addresses the
//! processor can't all remember.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a huge page.
pub(super) const HUGE: usize = 2 << 20;
/// Fewest bytes for whose sake the heap is asked to have them.
const LARGE: usize = 256 << 10;
/// Bytes beyond what was taken that are the heap's, too: it is asked to grow by so many at a time.
const NEAR: usize = 64 << 20;

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

/// Asks for huge pages on the heap, where large memory was taken beyond what was asked for before. A weight may well be
/// smaller than such a page, which the system gives only whole, and only where nothing has been written yet: so all is
/// asked for up to the end of the heap. glibc does the same itself where its tunable `glibc.malloc.hugetlb` is 1. What
/// the heap gives back to the system and takes again is not asked for again; [`keep_freed`](super::keep_freed) keeps it.
pub(super) fn on_heap(ptr: *mut u8, bytes: usize) {
    /// Where the heap ended when it was asked for.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let (at, asked) = (ptr as usize, ASKED.load(Ordering::Relaxed));
    if bytes < LARGE || at + bytes <= asked || ptr.is_null() {
        return;
    }
    let Some((from, to)) = end_of_heap().and_then(|end| wanted((at, at + bytes), asked, end))
    else {
        return;
    };
    huge_pages(ptr.wrapping_sub(at).wrapping_add(from), to - from);
    ASKED.fetch_max(to, Ordering::Relaxed);
}

/// From where to where huge pages are asked for when memory was taken, with all `asked` for before and an `end` of the
/// heap, below which it lies.
fn wanted(taken: (usize, usize), asked: usize, end: usize) -> Option<(usize, usize)> {
    if taken.1 <= asked || taken.1 > end {
        return None;
    }
    // Whatever lies between is the heap's, if the last time was not long ago: other memory may lie below it.
    let near = asked > 0 && taken.0.saturating_sub(asked) <= NEAR;
    let from = if near { asked } else { taken.0 };
    Some((from / HUGE * HUGE, end.min(from.max(taken.1) + NEAR)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_asked_for_once_from_page_to_end() {
        let mib = |n: usize| n << 20;
        // The first time from the page of what was taken to the end of the heap.
        let first = wanted((mib(101) + 8, mib(103)), 0, mib(150));
        assert_eq!(first, Some((mib(100), mib(150))));
        // Nothing within; all that is new when the heap grew below what was taken, as it does.
        assert_eq!(wanted((mib(120), mib(130)), mib(150), mib(150)), None);
        let grown = wanted((mib(149), mib(170)), mib(150), mib(220));
        assert_eq!(grown, Some((mib(150), mib(220))));
        // Memory above the heap is no heap, and what lies far from it is not asked for.
        assert_eq!(wanted((mib(300), mib(310)), mib(150), mib(220)), None);
        let far = wanted((mib(1000), mib(1001)), mib(150), mib(9000));
        assert_eq!(far, Some((mib(1000), mib(1065))));
    }
}
