//! CPU kernels.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod attention;
pub mod gemm;
mod mem;
pub mod rowwise;
mod simd;
pub mod threads;

#[cfg(test)]
mod testing;

pub use simd::Isa;
