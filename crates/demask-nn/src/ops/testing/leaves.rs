//! The inputs of an operation under test.

use burn::tensor::{Tensor, TensorData};

use super::{device, random};

/// Hands out the inputs of an operation: random, tracked and the same in every run, but for what is asked of the run.
///
/// An operation under test takes its inputs from here, one after the other, so that a test can run it again with an
/// input moved, laid out otherwise or without a gradient, whatever the number and the ranks of its inputs.
#[derive(Default)]
pub struct Leaves {
    given: Vec<Tensor<1>>,
    /// The inputs that want a gradient, if not all do.
    tracked: Option<Vec<usize>>,
    views: bool,
    moved: Option<Moved>,
}

/// An input that is moved by `step` along a direction.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    pub leaf: usize,
    pub direction: u64,
    pub step: f32,
}

impl Leaves {
    /// Inputs of which only those of these numbers want a gradient.
    pub(super) fn tracked(numbers: impl IntoIterator<Item = usize>) -> Self {
        Self {
            tracked: Some(numbers.into_iter().collect()),
            ..Self::default()
        }
    }

    /// Inputs of the same values that lie transposed within something larger.
    pub(super) fn views() -> Self {
        Self {
            views: true,
            ..Self::default()
        }
    }

    pub(super) fn moved(moved: Moved) -> Self {
        Self {
            moved: Some(moved),
            ..Self::default()
        }
    }

    /// The next input, of values in `-1..1`.
    pub fn leaf<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        self.next(shape, 0.0, 1.0)
    }

    /// The next input, of values at most a half from `centre`.
    pub fn near<const D: usize>(&mut self, centre: f64, shape: [usize; D]) -> Tensor<D> {
        self.next(shape, centre, 0.5)
    }

    fn next<const D: usize>(&mut self, shape: [usize; D], centre: f64, spread: f64) -> Tensor<D> {
        let (leaf, n) = (self.given.len(), shape.iter().product());
        let mut values = random([n], 1 + leaf as u64, &device()) * spread + centre;
        if let Some(moved) = self.moved.filter(|moved| moved.leaf == leaf) {
            values = values + direction(n, moved.direction) * moved.step;
        }
        let tracked = self.tracked.as_ref();
        let wanted = tracked.is_none_or(|tracked| tracked.contains(&leaf));
        let values = values.detach().set_require_grad(wanted);
        self.given.push(values.clone());
        match self.views {
            true => view(values.reshape(shape)),
            false => values.reshape(shape),
        }
    }
}

/// The direction of this number in a space of `n` dimensions.
pub(super) fn direction(n: usize, number: u64) -> Tensor<1> {
    random([n], 1000 + number, &device())
}

/// What an output is multiplied by before it is summed to one value: random, so that no gradient vanishes by symmetry.
pub(super) fn weights<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    random(shape, 99, &device())
}

/// The output of `f`, flat, then the gradient of each of its inputs.
pub fn results<const D: usize>(f: impl Fn(&mut Leaves) -> Tensor<D>) -> Vec<Tensor<1>> {
    let (y, gradients) = run(Leaves::default(), f);
    let gradients = gradients.into_iter();
    let gradients = gradients.map(|gradient| gradient.expect("every input has a gradient"));
    std::iter::once(y).chain(gradients).collect()
}

/// The output of `f`, flat, and the gradients of its inputs.
pub(super) fn run<const D: usize>(
    mut leaves: Leaves,
    f: impl Fn(&mut Leaves) -> Tensor<D>,
) -> (Tensor<1>, Vec<Option<Tensor<1>>>) {
    let y = f(&mut leaves);
    let grads = (y.clone() * weights(y.dims())).sum().backward();
    let n: usize = y.dims().iter().product();
    let gradients = leaves.given.iter().map(|leaf| leaf.grad(&grads));
    (y.inner().reshape([n]), gradients.collect())
}

/// The values of `x`, transposed in memory and with others before and after each of their rows.
fn view<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let (a, b) = (D.saturating_sub(2), D - 1);
    let x = x.swap_dims(a, b);
    let length = x.dims()[b];
    let mut shape = x.dims();
    shape[b] = 1;
    let n = shape.iter().product();
    let around = Tensor::from_data(TensorData::new(vec![f32::NAN; n], shape), &device());
    let wide = Tensor::cat(vec![around.clone(), x, around], b);
    wide.narrow(b, 1, length).swap_dims(a, b)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn a_view_has_the_values_and_not_the_layout() {
        let x = random([3, 5, 7], 1, &device());
        let y = view(x.clone());
        assert_eq!(x.to_data(), y.to_data());
        let y = y.inner().try_into_primitive::<Flex>().unwrap();
        assert!(!y.layout().is_contiguous());
    }
}
