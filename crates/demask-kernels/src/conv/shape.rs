//! What is convolved with what.

/// The sizes of a 2-D convolution; pictures are `[batch, channels, height, width]`.
///
/// ```
/// use demask_kernels::conv::ConvShape;
/// let shape = ConvShape {
///     batch: 16,
///     channels: 64,
///     height: 32,
///     width: 32,
///     filters: 128,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1],
/// };
/// assert_eq!(shape.output(), [16, 16]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Pictures.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Rows and columns of a filter.
    pub kernel: [usize; 2],
    /// Distance of two neighbouring samples, down and across.
    pub stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub padding: [usize; 2],
}

/// Most values of all padded pictures. Places in them are counted in `isize`, and their rows are rounded up on the way:
/// this leaves room for it, so that no count wraps.
const MOST: usize = isize::MAX as usize / 64;

impl ConvShape {
    /// Rows and columns of the output: `⌊(size + 2·padding − kernel) / stride⌋ + 1`.
    ///
    /// # Panics
    /// When a kernel or stride is 0, or the kernel is larger than the padded input.
    pub fn output(&self) -> [usize; 2] {
        let size = [self.height, self.width];
        std::array::from_fn(|a| {
            let (k, s) = (self.kernel[a], self.stride[a]);
            let padded = self.padded()[a];
            assert!(
                k > 0 && s > 0 && k <= padded,
                "conv: a kernel of {:?} with stride {:?} does not fit an input of {size:?} with \
                 padding {:?}",
                self.kernel,
                self.stride,
                self.padding
            );
            (padded - k) / s + 1
        })
    }

    /// Rows and columns of the padded input, at most `usize::MAX`.
    fn padded(&self) -> [usize; 2] {
        let size = [self.height, self.width];
        std::array::from_fn(|a| size[a].saturating_add(self.padding[a].saturating_mul(2)))
    }

    /// Values of the input. What does not fit the address space is found by [`Self::check`].
    pub(super) fn input_len(&self) -> usize {
        self.batch * self.channels * self.height * self.width
    }

    /// Values of the output, likewise.
    pub(super) fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.batch * self.filters * height * width
    }

    /// Taps of a filter; none where there are no weights, and a kernel may have any size.
    pub(super) fn taps(&self) -> usize {
        if self.filters == 0 || self.channels == 0 {
            return 0;
        }
        self.kernel[0] * self.kernel[1]
    }

    /// Floating-point operations of the forward pass, and of each of the two backward products.
    pub fn flops(&self) -> usize {
        let [h, w] = self.output();
        let [kh, kw] = self.kernel;
        [self.batch, self.filters, h, w, self.channels, kh, kw]
            .iter()
            .fold(2, |n: usize, &f| n.saturating_mul(f))
    }

    /// Panics unless the operands have the sizes of this shape (`None`: not given), and everything that is counted on
    /// the way fits the address space.
    pub(super) fn check(
        &self,
        what: &str,
        input: Option<usize>,
        weight: Option<usize>,
        output: Option<usize>,
    ) {
        let [oh, ow] = self.output();
        let checked = |dims: [usize; 4]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let product = |dims: [usize; 4]| {
            // A tensor of no values, too, has strides.
            let all = checked(dims.map(|d| d.max(1)));
            assert!(
                all.is_some(),
                "{what}: a tensor of {dims:?} overflows the address space"
            );
            dims.iter().product::<usize>()
        };
        let [height, width] = self.padded();
        let pictures = checked([self.batch.max(1), self.channels.max(1), height, width]);
        assert!(
            pictures.is_some_and(|n| n <= MOST),
            "{what}: pictures of {:?} with padding {:?} overflow the address space",
            [self.height, self.width],
            self.padding
        );
        for (name, len, dims) in [
            (
                "input",
                input,
                [self.batch, self.channels, self.height, self.width],
            ),
            (
                "weight",
                weight,
                [self.filters, self.channels, self.kernel[0], self.kernel[1]],
            ),
            ("output", output, [self.batch, self.filters, oh, ow]),
        ] {
            let want = product(dims);
            if let Some(len) = len {
                assert!(
                    len == want,
                    "{what}: the {name} is {dims:?}, which is {want} values, but {len} were given"
                );
            }
        }
    }
}
