//! What is asked of every gradient.

use burn::tensor::{Tensor, TensorData};

use super::leaves::{Leaves, Moved, direction, run, weights};

/// Asserts that the gradients of an operation are those of finite differences on both paths, and that on the fast one
/// they depend neither on the layout of an input in memory nor on which other inputs want one.
#[track_caller]
pub fn gradients<const D: usize>(
    fast: impl Fn(&mut Leaves) -> Tensor<D>,
    slow: impl Fn(&mut Leaves) -> Tensor<D>,
) {
    slopes(&fast);
    slopes(slow);
    views(&fast);
    untracked(fast);
}

/// Directions in which each input is moved.
const DIRECTIONS: u64 = 3;
/// How far: each value by at most `STEP`, and by twice that.
const STEP: f32 = 1.0 / 128.0;
/// What a slope may be off, relative to the length of the gradient.
const TOLERANCE: f64 = 2e-4;

/// Asserts that the gradient of every input of `f` is the slope of `L = Σ r · f` for a fixed random `r`: along a
/// direction `d`, with `L(s)` the sum where the input is moved by `s · d`,
/// `⟨gradient, d⟩ = (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h + O(h⁴)`.
///
/// Sums are f64, values are f32. What the four sums carry of the rounding of the outputs is divided by `h`, so that
/// about `ε/h` of the length of the output is left in a slope. For the inputs of these tests the rest stays below
/// 10⁻⁴ of the length of the gradient, and twice that is allowed: a gradient with one value out of a hundred wrong by a
/// tenth is ten times as far away.
#[track_caller]
pub fn slopes<const D: usize>(f: impl Fn(&mut Leaves) -> Tensor<D>) {
    let (y, gradients) = run(Leaves::default(), &f);
    let rounding = f64::from(f32::EPSILON / STEP) * length(&numbers(y));
    for (leaf, gradient) in gradients.into_iter().enumerate() {
        let gradient = numbers(gradient.expect("every input has a gradient"));
        let scale = length(&gradient);
        for number in 0..DIRECTIONS {
            let along = numbers(direction(gradient.len(), number));
            let value = |steps: f32| {
                let y = f(&mut Leaves::moved(Moved {
                    leaf,
                    direction: number,
                    step: steps * STEP,
                }));
                dot(&numbers(weights(y.dims())), &numbers(y))
            };
            let (near, far) = (value(1.0) - value(-1.0), value(2.0) - value(-2.0));
            let wanted = (8.0 * near - far) / (12.0 * f64::from(STEP));
            let found = dot(&gradient, &along);
            let off = (found - wanted).abs();
            assert!(
                off <= TOLERANCE * scale + rounding,
                "input {leaf} along direction {number}: {found} by autodiff, {wanted} by differences"
            );
        }
    }
}

/// Asserts that inputs that lie otherwise in memory give the same bits.
#[track_caller]
fn views<const D: usize>(f: impl Fn(&mut Leaves) -> Tensor<D>) {
    let (y, gradients) = run(Leaves::default(), &f);
    let (other, others) = run(Leaves::views(), f);
    assert_eq!(y.to_data(), other.to_data(), "the output");
    assert_eq!(data(gradients), data(others), "the gradients");
}

/// Asserts that an input that wants no gradient gets none, and changes no bit of those of the others.
#[track_caller]
fn untracked<const D: usize>(f: impl Fn(&mut Leaves) -> Tensor<D>) {
    let all = data(run(Leaves::default(), &f).1);
    let check = |wanted: &[usize]| {
        let found = data(run(Leaves::tracked(wanted.to_vec()), &f).1);
        for (leaf, (found, gradient)) in found.iter().zip(&all).enumerate() {
            let expected = gradient.as_ref().filter(|_| wanted.contains(&leaf));
            assert_eq!(
                found.as_ref(),
                expected,
                "input {leaf} with {wanted:?} tracked"
            );
        }
    };
    for leaf in 0..all.len() {
        check(&[leaf]);
        let others: Vec<usize> = (0..all.len()).filter(|&other| other != leaf).collect();
        if !others.is_empty() {
            check(&others);
        }
    }
}

fn data(gradients: Vec<Option<Tensor<1>>>) -> Vec<Option<TensorData>> {
    let gradients = gradients.into_iter();
    gradients.map(|g| g.map(Tensor::into_data)).collect()
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    let values = x.into_data().try_into_vec::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x³ + y²`, with a part of the slope in `x` hidden on demand.
    fn cubic(t: &mut Leaves, hide: bool) -> Tensor<2> {
        let (x, y) = (t.leaf([3, 5]), t.leaf([3, 5]));
        let factor = match hide {
            true => x.clone().detach(),
            false => x.clone(),
        };
        x.clone() * x * factor + y.clone() * y
    }

    #[test]
    fn a_right_slope_passes() {
        gradients(|t| cubic(t, false), |t| cubic(t, false));
    }

    #[test]
    #[should_panic(expected = "input 0 along direction 0")]
    fn a_wrong_slope_is_found() {
        slopes(|t| cubic(t, true));
    }

    #[test]
    #[should_panic(expected = "input 0 along direction 0")]
    fn one_wrong_value_among_many_is_found() {
        slopes(|t| {
            let x: Tensor<1> = t.leaf([101]);
            let [before, one, after] = [(0, 50), (50, 1), (51, 50)]
                .map(|(start, length)| x.clone().narrow(0, start, length));
            let one = one.clone() * 0.9 + one.detach() * 0.1;
            Tensor::cat(vec![before, one, after], 0)
        });
    }
}
