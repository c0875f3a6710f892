//! Pointers that may cross threads.

/// A pointer that parallel tasks read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ptr<T = f32>(pub *const T);
// SAFETY: the operations that make one keep the slice borrowed until all tasks have ended.
unsafe impl<T: Sync> Send for Ptr<T> {}
// SAFETY: as above; it is only read through.
unsafe impl<T: Sync> Sync for Ptr<T> {}

impl<T> Ptr<T> {
    pub fn get(self) -> *const T {
        self.0
    }
}

/// A pointer through which parallel tasks write disjoint places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutPtr<T = f32>(pub *mut T);
// SAFETY: the operations that make one keep the slice mutably borrowed until all tasks have
// ended, and give each task its own places.
unsafe impl<T: Send> Send for MutPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for MutPtr<T> {}

impl<T> MutPtr<T> {
    /// The `len` values from `from` on.
    ///
    /// # Safety
    /// They lie in the slice behind the pointer, and no other task touches them meanwhile.
    pub unsafe fn slice<'a>(self, from: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
    pub fn get(self) -> *mut T {
        self.0
    }
}
