//! Memory: what is asked of the system, and scratch of the kernels.

mod allocator;
mod buffer;
mod map;
mod pointers;
mod scratch;

pub use allocator::{Aligned, keep_freed};
pub use map::{Mmap, map};

pub(crate) use buffer::{Buffer, room, written};
pub(crate) use pointers::{MutPtr, Ptr};
pub(crate) use scratch::Scratch;
