//! How an operation with a hand-written backward joins the autodiff graph.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn_flex::FlexTensor;

/// What an operation of `N` inputs keeps for its backward pass.
pub(super) trait Gradient<const N: usize>: Clone + Debug + Send + 'static {
    /// From the gradient of the output to the gradients of the inputs that are `wanted`.
    fn inputs(self, output: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

#[derive(Debug)]
struct Node<G>(std::marker::PhantomData<fn() -> G>);

impl<G: Gradient<N>, const N: usize> Backward<Flex, N> for Node<G> {
    type State = G;

    fn backward(self, ops: Ops<G, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let inputs = ops.state.inputs(output, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(inputs) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Runs `forward` on the plain inputs. If any input is tracked, its second result is kept for the
/// backward pass and the output is tracked too.
pub(super) fn register<C: CheckpointStrategy, G: Gradient<N>, const N: usize>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
    forward: impl FnOnce([FlexTensor; N]) -> (FlexTensor, G),
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = inputs.each_ref().map(|input| input.node());
    let (output, gradient) = forward(inputs.map(|input| input.into_primitive()));
    match Node::<G>(std::marker::PhantomData)
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(gradient, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
