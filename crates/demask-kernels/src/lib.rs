//! # demask-kernels — CPU kernels behind a safe slice API
//!
//! `gemm` multiplies matrices, `attention` attends, `conv` convolves pictures, `rowwise` does everything that
//! works on rows or single values, `threads` says how many threads do it, `peak` shows what the machine can do at
//! all. Operands are `f32` slices with shapes (a weight may be packed in [bf16, int8 or int4](gemm::Format)); a
//! shape that does not fit is the caller's mistake and panics with the shapes in the message.
//! `memory` has an allocator that aligns what is large. This crate knows no tensors, networks or files. It is the only one
//! with `unsafe` code; the others deny it, but for one call: `demask-models` maps files, and knows who writes to them.
//!
//! ```
//! use demask_kernels::gemm::{Beta, Format, MatrixMut, MatrixRef, PackedB, gemm};
//!
//! let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [out = 2, in = 3]
//! let packed = PackedB::pack(MatrixRef::new(&weight, 2, 3).t(), Format::F32);
//! let (x, mut y) = ([1.0, 0.0, -1.0], [0.0; 2]);
//! gemm(
//!     MatrixMut::new(&mut y, 1, 2),
//!     Beta::Overwrite,
//!     MatrixRef::new(&x, 1, 3),
//!     &packed,
//!     Some(&[10.0, 20.0]),
//! );
//! assert_eq!(y, [8.0, 18.0]);
//! ```
//!
//! ## What packing is
//!
//! A core can multiply far faster than it can fetch. A matrix product escapes because each value
//! is used many times: a *register tile*, with AVX-512 of 14 rows by 32 columns of C, stays in registers while one
//! column of A and one row of B after the other are multiplied into it, 46 values read for 448
//! multiplications. For that the column and the row should lie next to each other in memory and in
//! a cache that is near, so operands are first *packed*: B into panels 32 columns wide, A into panels
//! 14 rows high, both in exactly the order in which the tile reads them (Goto & van de Geijn, 2008).
//! Strides, and so transposes, matter only to the packing. Weights do not change, so a
//! [`gemm::PackedB`] packs them once; at a few rows, where packing would cost as much as the
//! product, that is most of the speed.
//!
//! A narrow format is faster twice over: a word of 32 bits holds two bf16 or four int8 that one instruction
//! multiplies and adds, and at a few rows, where a product is as fast as its weights come from memory, there is less to
//! fetch. A register tile asks for weights well ahead of their use, which the processor's own guesses do not; the tile
//! unit leaves it to the processor at a few rows, and asks for the next parts of both operands at many.
//!
//! Row tiles are cut evenly (15 rows are 8 + 7, not 14 + 1), with a compiled tile for each height, so
//! there is no cliff between 1 and 32 rows.
//!
//! ## Why the order is fixed
//!
//! Floating-point addition is not associative. If the order of a sum depended on the number of
//! rows, the same prompt would give other bits alone than in a batch, and a sampler that compares
//! two probabilities would now and then write another word. So one law holds throughout: *the
//! order of every sum depends on the length of the sum, and on nothing else.*
//!
//! - A matrix product is one chain of fused multiply-adds over increasing k. Cache blocks put the
//!   unfinished sum into C and take it up again, which changes no bit; so block sizes are free, and
//!   full tiles, edge tiles and single rows agree. Whole numbers are summed exactly; their scales are
//!   found row by row.
//! - A convolution is such a chain over channels and taps, or sixteen chains over channels, combined in a
//!   fixed way; which of the two depends on the filters alone.
//! - Threads divide outputs, never sums.
//! - A sum over a row has sixteen partial sums, folded in a fixed order; a gradient that is summed
//!   over rows goes through chunks of a fixed number of rows, added in order.
//! - Attention cuts keys at multiples of a fixed width. A masked key adds an exact zero, so skipping
//!   a masked tile, or appending masked keys, cannot be seen.
//!
//! Bits may differ between instruction sets: one without fused multiply-add rounds twice, the dot products of bf16 take
//! numbers below 2⁻¹²⁶ for 0, and that of NEON adds the two products of a word before it adds them to the sum, and rounds
//! to odd.
//!
//! ## How the path is chosen
//!
//! Kernels are generic over a vector of sixteen lanes: one AVX-512 register, two AVX2 registers, four
//! NEON registers or an array. An operation asks once, on the calling thread, what the machine has
//! ([`Isa::detect`]; the standard library caches the answer) and enters a function compiled for it, into which the
//! generic code is inlined. There is one source for all paths, and the tests run every path that
//! the machine has.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod attention;
pub mod conv;
mod element;
pub mod gemm;
pub mod memory;
pub mod peak;
mod precision;
mod reused;
pub mod rowwise;
mod simd;
#[cfg(test)]
mod testing;
pub mod threads;

pub use element::{Bf16, Element};
pub use precision::Precision;
pub use reused::Reused;
pub use simd::Isa;
