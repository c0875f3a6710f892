//! Strided views of `[batch, length, heads, head_dim]`.

use std::marker::PhantomData;

/// What a view covers, and the strides of batch, row (token) and head; `head_dim` is contiguous.
#[derive(Clone, Copy, Debug)]
struct Extent {
    dims: [usize; 4],
    strides: [usize; 3],
}

impl Extent {
    fn contiguous(dims: [usize; 4]) -> Self {
        let [_, len, heads, dim] = dims;
        // What saturates does not pass the check.
        let row = heads.saturating_mul(dim);
        Self {
            dims,
            strides: [len.saturating_mul(row), row, dim],
        }
    }

    fn check(self, held: usize) -> Self {
        if self.dims.contains(&0) {
            return self;
        }
        let [batch, len, heads, dim] = self.dims;
        let need = [batch, len, heads]
            .iter()
            .zip(self.strides)
            .try_fold(dim, |sum, (&n, stride)| {
                sum.checked_add((n - 1).checked_mul(stride)?)
            });
        assert!(
            need.is_some_and(|n| n <= held),
            "heads: {:?} with strides {:?} does not fit in a slice of {held} values",
            self.dims,
            self.strides
        );
        self
    }

    /// Panics when two elements share a place.
    fn check_disjoint(self) -> Self {
        if self.dims.contains(&0) {
            return self;
        }
        let mut axes: Vec<(usize, usize)> = self
            .strides
            .iter()
            .copied()
            .zip(self.dims)
            .filter(|&(_, n)| n > 1)
            .collect();
        axes.sort_unstable();
        let mut covered = self.dims[3];
        for (stride, n) in axes {
            assert!(
                stride >= covered,
                "heads: {:?} with strides {:?} writes some places twice",
                self.dims,
                self.strides
            );
            covered += (n - 1) * stride;
        }
        self
    }

    /// Wraps for a row that does not exist: the stride of an axis of one may be any number.
    fn at(self, batch: usize, row: usize, head: usize) -> usize {
        let [batch, row, head] = [(batch, 0), (row, 1), (head, 2)]
            .map(|(i, axis): (usize, usize)| i.wrapping_mul(self.strides[axis]));
        batch.wrapping_add(row).wrapping_add(head)
    }
}

/// Where each part of a fused buffer begins, and what it covers.
fn parts<const N: usize>(
    [batch, len]: [usize; 2],
    heads: [usize; N],
    dim: usize,
) -> [(usize, Extent); N] {
    // What saturates does not pass the check.
    let row = heads.iter().fold(0, |sum: usize, &n| sum.saturating_add(n));
    let row = row.saturating_mul(dim);
    let mut skip = 0usize;
    heads.map(|n| {
        let extent = Extent {
            dims: [batch, len, n, dim],
            strides: [len.saturating_mul(row), row, dim],
        };
        let at = skip;
        skip = skip.saturating_add(n.saturating_mul(dim));
        (at, extent)
    })
}

/// Queries, keys or values to read.
#[derive(Clone, Copy, Debug)]
pub struct HeadsRef<'a, T = f32> {
    data: &'a [T],
    extent: Extent,
}

impl<'a, T> HeadsRef<'a, T> {
    /// A contiguous `[batch, length, heads, head_dim]`.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn new(data: &'a [T], dims: [usize; 4]) -> Self {
        Self {
            data,
            extent: Extent::contiguous(dims).check(data.len()),
        }
    }

    /// The same dims with strides (in values) of `[batch, row, head]`: `[batch, heads, length,
    /// head_dim]` memory, a part of a fused buffer, or the filled rows of a cache.
    ///
    /// # Panics
    /// When the last element lies outside the slice.
    pub fn with_strides(data: &'a [T], dims: [usize; 4], strides: [usize; 3]) -> Self {
        Self {
            data,
            extent: Extent { dims, strides }.check(data.len()),
        }
    }

    /// The parts of a fused `[batch, length, Σ heads, head_dim]`: so many heads each, side by side.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn parts<const N: usize>(
        data: &'a [T],
        size: [usize; 2],
        heads: [usize; N],
        head_dim: usize,
    ) -> [Self; N] {
        parts(size, heads, head_dim).map(|(skip, extent)| Self {
            data: data.get(skip..).unwrap_or_default(),
            extent: extent.check(data.len().saturating_sub(skip)),
        })
    }

    /// `[batch, length, heads, head_dim]`.
    pub fn dims(&self) -> [usize; 4] {
        self.extent.dims
    }

    pub(super) fn row_stride(&self) -> usize {
        self.extent.strides[1]
    }

    /// Pointer to the `head_dim` values of one head of one row (wrapping, for rows that don't exist).
    pub(super) fn row(&self, batch: usize, row: usize, head: usize) -> *const T {
        self.data
            .as_ptr()
            .wrapping_add(self.extent.at(batch, row, head))
    }
}

/// A result to write, in the same layouts as [`HeadsRef`]; no two elements share a place.
#[derive(Debug)]
pub struct HeadsMut<'a, T = f32> {
    data: *mut T,
    extent: Extent,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a `HeadsMut` is a unique borrow of the places that it covers.
unsafe impl<T: Send> Send for HeadsMut<'_, T> {}
// SAFETY: the pointer is only reached through crate-internal code that writes disjoint rows.
unsafe impl<T: Send> Sync for HeadsMut<'_, T> {}

impl<'a, T> HeadsMut<'a, T> {
    fn make(data: &'a mut [T], extent: Extent) -> Self {
        let extent = extent.check(data.len()).check_disjoint();
        Self {
            data: data.as_mut_ptr(),
            extent,
            life: PhantomData,
        }
    }

    /// A contiguous `[batch, length, heads, head_dim]`.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn new(data: &'a mut [T], dims: [usize; 4]) -> Self {
        Self::make(data, Extent::contiguous(dims))
    }

    /// The same dims with strides of `[batch, row, head]`.
    ///
    /// # Panics
    /// When the last element lies outside the slice or two elements share a place.
    pub fn with_strides(data: &'a mut [T], dims: [usize; 4], strides: [usize; 3]) -> Self {
        Self::make(data, Extent { dims, strides })
    }

    /// The parts of a fused `[batch, length, Σ heads, head_dim]`: so many heads each, side by side.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn parts<const N: usize>(
        data: &'a mut [T],
        size: [usize; 2],
        heads: [usize; N],
        head_dim: usize,
    ) -> [Self; N] {
        let (held, data) = (data.len(), data.as_mut_ptr());
        // A part covers columns of its own, so no two of them share a place.
        parts(size, heads, head_dim).map(|(skip, extent)| Self {
            data: data.wrapping_add(skip),
            extent: extent.check(held.saturating_sub(skip)).check_disjoint(),
            life: PhantomData,
        })
    }

    /// `[batch, length, heads, head_dim]`.
    pub fn dims(&self) -> [usize; 4] {
        self.extent.dims
    }

    /// Pointer to the `head_dim` values of one head of one row.
    pub(super) fn row(&self, batch: usize, row: usize, head: usize) -> *mut T {
        self.data.wrapping_add(self.extent.at(batch, row, head))
    }
}
