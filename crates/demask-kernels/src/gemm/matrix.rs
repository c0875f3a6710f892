//! Strided views of slices.

/// A matrix in a slice: element (i, j) at `i·row_stride + j·col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// The number of values that a strided view reaches, or a panic when it doesn't fit in memory.
fn reach(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    let far = |n: usize, stride: usize| (n - 1).checked_mul(stride);
    far(rows, row_stride)
        .and_then(|r| far(cols, col_stride).and_then(|c| r.checked_add(c)))
        .and_then(|last| last.checked_add(1))
        .expect("matrix: the strides overflow the address space")
}

/// Panics unless a contiguous matrix fills a slice.
fn fills(len: usize, rows: usize, cols: usize) {
    assert!(
        rows.checked_mul(cols) == Some(len),
        "matrix: {rows}x{cols} does not fill a slice of {len} values"
    );
}

impl<'a, T> MatrixRef<'a, T> {
    /// A row-major matrix that fills the slice.
    ///
    /// # Panics
    /// When the slice does not hold exactly `rows · cols` values.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        fills(data.len(), rows, cols);
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// A matrix with any strides (0 repeats a row or a column).
    ///
    /// # Panics
    /// When the last element lies outside the slice.
    pub fn with_strides(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        let need = reach(rows, cols, row_stride, col_stride);
        assert!(
            need <= data.len(),
            "matrix: {rows}x{cols} with strides {row_stride}, {col_stride} reaches {need} values, \
             the slice holds {}",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// The transposed view.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Strides between rows and between columns.
    pub(crate) fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    /// Pointer to element (0, 0).
    pub(crate) fn ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

/// A writable row-major matrix that fills a slice.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
}

impl<'a> MatrixMut<'a> {
    /// A row-major matrix that fills the slice.
    ///
    /// # Panics
    /// When the slice does not hold exactly `rows · cols` values.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        fills(data.len(), rows, cols);
        Self { data, rows, cols }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Pointer to element (0, 0).
    pub(crate) fn ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr()
    }
}
