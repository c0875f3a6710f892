//! Instructions of aarch64 whose intrinsics are not stable: dot products of bytes and of bf16, and asking for a cache
//! line. They are written out; the assembler is told the extension each time, as it only knows those of the function
//! that it finds itself in.

use std::arch::aarch64::float32x4_t;
use std::arch::asm;

/// A dot product of four registers' lanes: `$acc + Σ aᵢ·bᵢ` over the values of each word, once with a register of
/// words `a`, once with a single word.
macro_rules! dot {
    ($name:ident, $by:ident, $extension:literal, $dot:literal, $all:literal, $one:literal) => {
        /// # Safety
        /// The machine has the extension.
        #[inline(always)]
        pub(crate) unsafe fn $name(
            mut acc: float32x4_t,
            a: float32x4_t,
            b: float32x4_t,
        ) -> float32x4_t {
            // SAFETY: the caller promises the extension; registers only.
            unsafe {
                asm!(
                    concat!(".arch_extension ", $extension),
                    concat!($dot, " {acc:v}.4s, {b:v}.", $all, ", {a:v}.", $all),
                    acc = inout(vreg) acc,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            acc
        }

        /// # Safety
        /// The machine has the extension.
        #[inline(always)]
        pub(crate) unsafe fn $by(mut acc: float32x4_t, a: f32, b: float32x4_t) -> float32x4_t {
            // SAFETY: the caller promises the extension; registers only.
            unsafe {
                asm!(
                    concat!(".arch_extension ", $extension),
                    concat!($dot, " {acc:v}.4s, {b:v}.", $all, ", {a:v}.", $one, "[0]"),
                    acc = inout(vreg) acc,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            acc
        }
    };
}

dot!(bytes, bytes_by, "dotprod", "sdot", "16b", "4b");
dot!(bf16, bf16_by, "bf16", "bfdot", "8h", "2h");

/// Asks for the cache line at `p`, which need not exist.
#[inline(always)]
pub(super) fn prefetch(p: *const f32) {
    // SAFETY: a hint, which never faults.
    unsafe {
        asm!(
            "prfm pldl1keep, [{p}]",
            p = in(reg) p.addr(),
            options(nomem, nostack, preserves_flags),
        );
    }
}
