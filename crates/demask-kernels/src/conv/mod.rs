//! 2-D convolution of pictures `[batch, channels, height, width]`, forward and backward.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | shape | `shape.rs` | sizes, stride, padding |
//! | forward | `forward.rs` | the convolution; filters packed before, if wanted |
//! | input | `input.rs` | gradient with respect to the input |
//! | weight | `weight.rs` | gradients with respect to the filters and the bias |
//! | direct | `direct.rs` | the product with filters, as implicit matrix product (Chetlur et al., 2014) |
//! | winograd | `winograd.rs` | the product with 3×3 filters at stride 1 (Lavin & Gray, 2016) |
//! | winograd weight | `winograd_weight.rs` | the gradient of such filters |
//! | planes | `planes.rs` | strips of output columns and the padded source under them |
//! | turned | `turned.rs` | pictures with the channel as the last dimension |
//! | weights | `weights.rs` | filters in panels |
//!
//! Every value is one chain of fused multiply-adds in an order that depends on the shape of a picture
//! and of the filters alone: a picture has the same bits alone and in any batch, with any number of
//! threads. Gradients of filters are one chain over the pictures of the batch in order.

mod direct;
mod forward;
mod input;
mod planes;
mod shape;
#[cfg(test)]
mod tests;
mod turned;
mod weight;
mod weights;
mod winograd;
mod winograd_weight;

pub use forward::{PackedFilters, conv2d, conv2d_packed, new_conv2d};
pub use input::{conv2d_backward_input, new_conv2d_backward_input};
pub use shape::ConvShape;
pub use weight::{conv2d_backward_bias, conv2d_backward_weight};
