//! The peak of this machine: loops that do nothing but multiply and add, or read.
//!
//! A kernel's rate says how good the kernel is only beside the rate that the machine can reach at
//! all, and data sheets, clock limits and virtual machines make that one a thing to be measured. A
//! [`Probe`] keeps sixteen independent sums in registers, more than latency times units on any
//! machine there is, so that neither latency nor memory is waited for. It runs on every thread of
//! the calling rayon pool. The clock is the caller's: `run` says how many operations it did.
//!
//! | probe | AVX-512 | AVX2 | NEON | others |
//! |---|---|---|---|---|
//! | [`f32_fma`] | `vfmadd zmm` | `vfmadd ymm` | `fmla` | what the compiler makes of it |
//! | [`bf16_dot`] | `tdpbf16ps tmm` or `vdpbf16ps zmm` | none | `bfdot` if there is one | none |
//! | [`int8_dot`] | `tdpbsud tmm` or `vpdpbusd zmm` | `vpdpbusd ymm`, or `vpmaddubsw` and two more | `sdot` if there is one | none |
//! | [`MemoryProbe`] | reads of a large buffer, one stream a thread | | | |

use std::hint::black_box;

use rayon::prelude::*;

/// Independent sums of a loop.
const CHAINS: usize = 16;

/// A loop of one instruction.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    instruction: &'static str,
    /// Operations of one instruction, multiplications and additions counted apart.
    width: u64,
    body: fn(u64),
}

impl Probe {
    /// The instruction that is measured, with its register width.
    pub fn instruction(&self) -> &'static str {
        self.instruction
    }

    /// Runs the loop `iterations` times on every thread of the pool and gives the number of operations
    /// done by all of them.
    pub fn run(&self, iterations: u64) -> u64 {
        let threads = rayon::broadcast(|_| (self.body)(iterations)).len() as u64;
        iterations * CHAINS as u64 * self.width * threads
    }
}

/// The fastest f32 multiply-and-add of this machine.
pub fn f32_fma() -> Probe {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return probe("vfmadd zmm", 32, x86::f32_avx512);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return probe("vfmadd ymm", 16, x86::f32_avx2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        return probe("fmla 4s", 8, neon::f32_neon);
    }
    #[allow(unreachable_code, reason = "NEON is always there")]
    probe("compiled a * b + c", 32, f32_portable)
}

/// The dot product of bf16 pairs, summed in f32; `None` on a machine without one.
pub fn bf16_dot() -> Option<Probe> {
    #[cfg(target_arch = "x86_64")]
    if crate::Isa::available().contains(&crate::Isa::Amx) {
        return Some(probe("tdpbf16ps tmm", 2 * 16 * 16 * 32, x86::bf16_amx));
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        return Some(probe("vdpbf16ps zmm", 64, x86::bf16_avx512));
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("bf16") {
        return Some(probe("bfdot 4s", 16, neon::bf16_neon));
    }
    None
}

/// The dot product of four bytes, summed in 32 bits; `None` on a machine without one.
pub fn int8_dot() -> Option<Probe> {
    #[cfg(target_arch = "x86_64")]
    if crate::Isa::available().contains(&crate::Isa::Amx) {
        return Some(probe("tdpbsud tmm", 2 * 16 * 16 * 64, x86::int8_amx));
    }
    int8_vector_dot()
}

/// The same on vectors, whatever else there is: products whose groups are not whole steps of a tile unit are made of it.
pub fn int8_vector_dot() -> Option<Probe> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            return Some(probe("vpdpbusd zmm", 128, x86::int8_avx512));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
            return Some(probe("vpdpbusd ymm", 64, x86::int8_avxvnni));
        }
        if is_x86_feature_detected!("avx2") {
            return Some(probe("vpmaddubsw ymm", 64, x86::int8_avx2));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        return Some(probe("sdot 4s", 32, neon::int8_neon));
    }
    None
}

fn probe(instruction: &'static str, width: u64, body: fn(u64)) -> Probe {
    Probe {
        instruction,
        width,
        body,
    }
}

/// A buffer that is read from end to end.
#[derive(Debug)]
pub struct MemoryProbe {
    words: Vec<u64>,
}

impl MemoryProbe {
    /// A buffer of about `bytes`, which should be many times the caches. Every page is written once, so
    /// that none of them is the system's page of zeros.
    pub fn new(bytes: usize) -> Self {
        let words = (bytes / size_of::<u64>()).max(1) as u64;
        Self {
            words: (1..=words).collect(),
        }
    }

    /// Reads the whole buffer once, on every thread of the pool, and gives the bytes read.
    pub fn run(&self) -> u64 {
        // Parts of a MiB: a thread that is held up leaves the rest to the others.
        let sum = |part: &[u64]| part.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
        let total = self.words.par_chunks(1 << 17).map(sum);
        black_box(total.reduce(|| 0, u64::wrapping_add));
        size_of_val(self.words.as_slice()) as u64
    }
}

/// Sixteen lanes each, so that the compiler has whole vectors to work with.
fn f32_portable(iterations: u64) {
    let (a, b) = (black_box(0.999_999f32), black_box(1e-6f32));
    let mut sums = black_box([[1.0f32; 16]; CHAINS]);
    for _ in 0..iterations {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * a + b;
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::CHAINS;
    use crate::simd::amx;

    /// A loop of one intrinsic over [`CHAINS`] sums: a function that has the instruction set switched on,
    /// and the plain function that a probe holds.
    macro_rules! looped {
        ($name:ident, $features:literal, $zero:expr, $one:expr, |$sum:ident, $x:ident| $step:expr) => {
            pub(super) fn $name(iterations: u64) {
                #[target_feature(enable = $features)]
                fn body(iterations: u64) {
                    let $x = black_box($one);
                    // Opaque, each for itself: equal sums would be computed once.
                    let mut sums = black_box([$zero; CHAINS]);
                    for _ in 0..iterations {
                        for $sum in &mut sums {
                            *$sum = $step;
                        }
                    }
                    black_box(sums);
                }
                // SAFETY: a probe with this function is only made after its features were detected.
                unsafe { body(iterations) }
            }
        };
    }

    looped!(
        f32_avx512,
        "avx512f",
        _mm512_set1_ps(1.0),
        _mm512_set1_ps(0.5),
        |sum, x| _mm512_fmadd_ps(*sum, x, x)
    );
    looped!(
        f32_avx2,
        "avx2,fma",
        _mm256_set1_ps(1.0),
        _mm256_set1_ps(0.5),
        |sum, x| _mm256_fmadd_ps(*sum, x, x)
    );
    looped!(
        bf16_avx512,
        "avx512f,avx512bf16",
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |sum, x| _mm512_dpbf16_ps(*sum, x, x)
    );
    looped!(
        int8_avx512,
        "avx512f,avx512vnni",
        _mm512_setzero_si512(),
        _mm512_set1_epi8(1),
        |sum, x| _mm512_dpbusd_epi32(*sum, x, x)
    );
    looped!(
        int8_avxvnni,
        "avx2,avxvnni",
        _mm256_setzero_si256(),
        _mm256_set1_epi8(1),
        |sum, x| _mm256_dpbusd_avx_epi32(*sum, x, x)
    );
    pub(super) fn bf16_amx(iterations: u64) {
        // SAFETY: a probe with this function is only made where the unit was found.
        unsafe { amx::Tiles::begin() }.spin(amx::Words::Bf16, iterations);
    }

    pub(super) fn int8_amx(iterations: u64) {
        // SAFETY: as above.
        unsafe { amx::Tiles::begin() }.spin(amx::Words::Bytes, iterations);
    }

    // One of the factors changes with the sum: the products could be taken out of the loop otherwise.
    looped!(
        int8_avx2,
        "avx2",
        _mm256_setzero_si256(),
        _mm256_set1_epi8(1),
        |sum, x| {
            let pairs = _mm256_maddubs_epi16(*sum, x);
            _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    );
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;
    use std::hint::black_box;

    use super::CHAINS;
    use crate::simd::neon_dots;

    /// A loop of one instruction over [`CHAINS`] sums.
    macro_rules! looped {
        ($name:ident, $one:literal, |$sum:ident, $x:ident| $step:expr) => {
            pub(super) fn $name(iterations: u64) {
                // SAFETY: NEON is part of every aarch64 machine that Rust's targets name, and a probe with a dot
                // product is only made after it was detected.
                unsafe {
                    let $x = black_box(vdupq_n_f32($one));
                    let mut sums = black_box([vdupq_n_f32(1.0); CHAINS]);
                    for _ in 0..iterations {
                        for $sum in &mut sums {
                            *$sum = $step;
                        }
                    }
                    black_box(sums);
                }
            }
        };
    }

    looped!(f32_neon, 0.5, |sum, x| vfmaq_f32(x, *sum, x));
    looped!(bf16_neon, 0.5, |sum, x| neon_dots::bf16(*sum, x, x));
    looped!(int8_neon, 0.5, |sum, x| neon_dots::bytes(*sum, x, x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_threads;

    #[test]
    fn operations_are_those_of_every_thread() {
        let probes = [Some(f32_fma()), bf16_dot(), int8_dot()];
        for probe in probes.into_iter().flatten() {
            let done = |threads| with_threads(threads, || probe.run(10));
            assert_eq!(done(1), 10 * CHAINS as u64 * probe.width);
            assert_eq!(done(3), 3 * done(1));
        }
        assert_eq!(probe("any", 32, f32_portable).run(0), 0);
    }

    #[test]
    fn every_loop_of_this_machine_runs() {
        f32_portable(3);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            x86::f32_avx2(3);
            x86::int8_avx2(3);
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
            x86::int8_avxvnni(3);
        }
    }

    #[test]
    fn a_buffer_is_read_whole() {
        assert_eq!(MemoryProbe::new(3 << 20).run(), 3 << 20);
        assert_eq!(MemoryProbe::new(0).run(), 8);
    }
}
