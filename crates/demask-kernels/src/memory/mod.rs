//! Memory: what is asked of the system, and scratch of the kernels.

mod allocator;
mod buffer;
mod huge;
mod pointers;
mod scratch;

pub use allocator::{Aligned, keep_freed};

pub(crate) use buffer::{Buffer, room, written};
pub(crate) use pointers::{MutPtr, Ptr};
pub(crate) use scratch::Scratch;
