//! The tile unit of x86-64 (AMX: Sapphire Rapids and later): eight registers of 16 rows by 64 bytes, and products
//! of two of them added to a third.
//!
//! The intrinsics are not stable, so the instructions are written out. The compiler knows nothing of the tile
//! registers and leaves them alone; they live from [`Tiles::begin`] until the value is dropped.

use std::arch::{asm, x86_64 as arch};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Rows of a tile register.
pub(crate) const ROWS: usize = 16;
/// Words of 32 bits in a row of a tile register.
pub(crate) const WORDS: usize = 16;
/// Words of a cache line.
pub(crate) const LINE: usize = 16;

/// Whether this machine has the unit, with products of bf16 and of bytes, and the system lets us use it.
pub(super) fn available() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| detected() && permitted())
}

/// CPUID leaf 7: AMX-BF16, AMX-TILE and AMX-INT8; XCR0: the system saves both parts of the tile state.
fn detected() -> bool {
    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    const UNITS: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const STATE: u64 = 1 << 17 | 1 << 18;
    // Leaf 7 exists wherever AVX2 was found.
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("xsave") {
        return false;
    }
    let units = std::arch::x86_64::__cpuid_count(7, 0).edx;
    // SAFETY: `xsave` was just detected.
    units & UNITS == UNITS && unsafe { saved() } & STATE == STATE
}

/// Linux lets a process use the tiles when it has asked once (Documentation/arch/x86/xstate.rst).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call changes nothing but what this process may use.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    refused == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Shapes of the tile registers, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each register.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight registers whole.
static WHOLE: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut i = 0;
    while i < 8 {
        row_bytes[i] = 4 * WORDS as u16;
        rows[i] = ROWS as u8;
        i += 1;
    }
    Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes,
        rows,
    }
};

/// The tile registers of this thread, ready for products. They are released when the value goes.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    /// [`available`] said yes, and no other value lives on this thread.
    #[inline(always)]
    pub unsafe fn begin() -> Self {
        // SAFETY: the configuration is one that the instruction takes, and the unit is there.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &WHOLE, options(nostack, readonly)) }
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the unit is there, and nobody uses the tiles any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// What the words of a product are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Words {
    /// Pairs of bf16; sums in f32.
    Bf16,
    /// Four signed bytes of A by four unsigned bytes of B; sums in 32 bits.
    Bytes,
}

/// A product of 16 or 32 rows by 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Tiles of A: for every 16 words, 16 rows of them, then, if there are, the other 16 rows.
    pub a: *const f32,
    /// Words of B: `b[k · ldb + j]`.
    pub b: *const f32,
    pub ldb: usize,
    /// Words of a column, in tiles of 16; at least one.
    pub tiles: usize,
    /// Sums: `c[i · ldc + j]`.
    pub c: *mut f32,
    pub ldc: usize,
    /// Begin the sums at the stored ones instead of 0.
    pub load: bool,
    /// What is asked for on the way.
    pub ask: Ask,
}

/// What comes from far away and is asked for while the unit multiplies, a few lines at a time: few can be on their way.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Nothing,
    /// B itself, and what follows it.
    Far,
    /// In each step [`ASKED`] lines of each of these, to be read soon, into the second-level cache: what the unit
    /// takes from there would push them out of the first.
    Next([*const f32; 2]),
}

/// Cache lines of each place that a step asks for.
pub(crate) const ASKED: usize = 4;
const _: () = assert!(ASKED == 4, "as many as are written out below");

/// Bytes that B is asked for ahead of its use. The processor guesses as far as the end of a page, of two steps.
const AHEAD: usize = 8192;
/// The same for half bytes, which are used up half as fast, beside rows that fill the nearest cache.
const AHEAD_HALF: usize = 2048;

/// What a step asks for: with 1 as many lines of B as it has, with 2 lines of two other places.
macro_rules! ask {
    () => {
        "
        .if {ask} == 1
        .irp line, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        prefetcht0 [{b} + {ahead} + 64 * \\line]
        .endr
        .endif
        .if {ask} == 2
        .irp line, 0,1,2,3
        prefetcht1 [{x} + 64 * \\line]
        prefetcht1 [{y} + 64 * \\line]
        .endr
        add {x}, {asked}
        add {y}, {asked}
        .endif
        "
    };
}

/// The two register tilings, for one dot-product instruction.
macro_rules! products {
    ($wide:ident, $narrow:ident, $dot:literal) => {
        /// 32 rows: four sums, two tiles of A by two of B in each step.
        #[inline(always)]
        unsafe fn $wide<const ASK: u8>(_: &Tiles, p: &Product) {
            let [x, y] = match p.ask {
                Ask::Next(places) => places,
                _ => [p.b; 2],
            };
            // SAFETY: the caller's promises of [`Tiles::multiply`].
            unsafe {
                asm!(
                    "test {load:e}, {load:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{c} + {ldc}]",
                    "tileloadd tmm1, [{c} + {ldc} + 64]",
                    "tileloadd tmm2, [{d} + {ldc}]",
                    "tileloadd tmm3, [{d} + {ldc} + 64]",
                    "jmp 4f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "4:",
                    "tileloadd tmm4, [{a} + {lda}]",
                    "tileloadd tmm6, [{b} + {ldb}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{b} + {ldb} + 64]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{a} + {lda} + 1024]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    ask!(),
                    "add {a}, 2048",
                    "add {b}, {step}",
                    "dec {n}",
                    "jnz 4b",
                    "tilestored [{c} + {ldc}], tmm0",
                    "tilestored [{c} + {ldc} + 64], tmm1",
                    "tilestored [{d} + {ldc}], tmm2",
                    "tilestored [{d} + {ldc} + 64], tmm3",
                    load = in(reg) u32::from(p.load),
                    c = in(reg) p.c,
                    d = in(reg) p.c.wrapping_add(ROWS * p.ldc),
                    ldc = in(reg) 4 * p.ldc,
                    a = inout(reg) p.a => _,
                    lda = in(reg) 4 * WORDS,
                    b = inout(reg) p.b => _,
                    ldb = in(reg) 4 * p.ldb,
                    step = in(reg) 4 * WORDS * p.ldb,
                    n = inout(reg) p.tiles => _,
                    x = inout(reg) x => _,
                    y = inout(reg) y => _,
                    ask = const ASK,
                    asked = const 64 * ASKED,
                    ahead = const AHEAD,
                    options(nostack),
                );
            }
        }

        /// 16 rows: two sums.
        #[inline(always)]
        unsafe fn $narrow<const ASK: u8>(_: &Tiles, p: &Product) {
            let [x, y] = match p.ask {
                Ask::Next(places) => places,
                _ => [p.b; 2],
            };
            // SAFETY: the caller's promises of [`Tiles::multiply`].
            unsafe {
                asm!(
                    "test {load:e}, {load:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{c} + {ldc}]",
                    "tileloadd tmm1, [{c} + {ldc} + 64]",
                    "jmp 4f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "4:",
                    "tileloadd tmm4, [{a} + {lda}]",
                    "tileloadd tmm6, [{b} + {ldb}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{b} + {ldb} + 64]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    ask!(),
                    "add {a}, 1024",
                    "add {b}, {step}",
                    "dec {n}",
                    "jnz 4b",
                    "tilestored [{c} + {ldc}], tmm0",
                    "tilestored [{c} + {ldc} + 64], tmm1",
                    load = in(reg) u32::from(p.load),
                    c = in(reg) p.c,
                    ldc = in(reg) 4 * p.ldc,
                    a = inout(reg) p.a => _,
                    lda = in(reg) 4 * WORDS,
                    b = inout(reg) p.b => _,
                    ldb = in(reg) 4 * p.ldb,
                    step = in(reg) 4 * WORDS * p.ldb,
                    n = inout(reg) p.tiles => _,
                    x = inout(reg) x => _,
                    y = inout(reg) y => _,
                    ask = const ASK,
                    asked = const 64 * ASKED,
                    ahead = const AHEAD,
                    options(nostack),
                );
            }
        }
    };
}

products!(wide_bf16, narrow_bf16, "tdpbf16ps");
products!(wide_bytes, narrow_bytes, "tdpbsud");

/// Asks for the lines of `rows` rows of 32 words at a distance of `ldc`, which will be written: the unit would wait
/// for each of them at the end of a product.
#[inline(always)]
pub(crate) fn will_write(c: *mut f32, ldc: usize, rows: usize) {
    for i in 0..rows {
        let row = c.wrapping_add(i * ldc);
        // SAFETY: a prefetch changes nothing, wherever it points; every machine with the unit has this one.
        unsafe {
            asm!(
                "prefetchw [{0}]",
                "prefetchw [{0} + 64]",
                in(reg) row,
                options(nostack, readonly, preserves_flags)
            );
        }
    }
}

/// Two words of signed bytes for each word of half bytes, which are 0..=15 with the zero at 8: of every row of 32 words of
/// `from` two rows, first of the lower halves, then of the upper ones. What comes later is asked for.
///
/// # Safety
/// The machine has the unit. `from` is readable for `rows` rows, `to` writable for twice as many.
#[inline(always)]
pub(crate) unsafe fn unpack(from: *const f32, rows: usize, to: *mut f32) {
    // SAFETY: the caller's promises; every machine with the unit has AVX-512, and a prefetch reads nothing.
    unsafe {
        let (half, zero) = (arch::_mm512_set1_epi8(15), arch::_mm512_set1_epi8(8));
        for row in 0..rows {
            for line in [0, LINE] {
                let from = from.wrapping_add(2 * LINE * row + line);
                let later = from.cast::<i8>().wrapping_add(AHEAD_HALF);
                arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(later);
                let word = arch::_mm512_loadu_si512(from.cast());
                let halves = [word, arch::_mm512_srli_epi16::<4>(word)];
                for (i, x) in halves.into_iter().enumerate() {
                    let x = arch::_mm512_sub_epi8(arch::_mm512_and_si512(x, half), zero);
                    let to = to.wrapping_add(2 * LINE * (2 * row + i) + line);
                    arch::_mm512_storeu_si512(to.cast(), x);
                }
            }
        }
    }
}

/// Products of signed bytes by signed bytes, tile of sums by tile of sums: 0 and 1 of the first 16 rows and both tiles of
/// columns, 2 and 3 of the other 16.
impl Tiles {
    /// Sums of 0.
    #[inline(always)]
    pub fn clear(&self) {
        // SAFETY: the unit is there; only tile registers change.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags)
            );
        }
    }

    /// Adds one step to sums `SUMS`. What one tile of sums loads, the next ones use: 0 comes before 1 and 2, all of them
    /// before 3.
    ///
    /// # Safety
    /// `a` is readable for 16 or 32 rows of tiles, `b` for 16 rows of 32 words at a distance of `ldb`.
    #[inline(always)]
    pub unsafe fn dot<const SUMS: usize>(&self, a: *const f32, b: *const f32, ldb: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            match SUMS {
                0 => asm!(
                    "tileloadd tmm4, [{a} + {lda}]",
                    "tileloadd tmm6, [{b} + {ldb}]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    a = in(reg) a,
                    lda = in(reg) 4 * WORDS,
                    b = in(reg) b,
                    ldb = in(reg) 4 * ldb,
                    options(nostack, readonly, preserves_flags)
                ),
                1 => asm!(
                    "tileloadd tmm7, [{b} + {ldb} + 64]",
                    "tdpbssd tmm1, tmm4, tmm7",
                    b = in(reg) b,
                    ldb = in(reg) 4 * ldb,
                    options(nostack, readonly, preserves_flags)
                ),
                2 => asm!(
                    "tileloadd tmm5, [{a} + {lda} + 1024]",
                    "tdpbssd tmm2, tmm5, tmm6",
                    a = in(reg) a,
                    lda = in(reg) 4 * WORDS,
                    options(nostack, readonly, preserves_flags)
                ),
                _ => asm!(
                    "tdpbssd tmm3, tmm5, tmm7",
                    options(nostack, nomem, preserves_flags)
                ),
            }
        }
    }

    /// Puts down sums `SUMS` at their place in `c[i · ldc + j]`.
    ///
    /// # Safety
    /// `c` is writable for 16 or 32 rows of 32 words.
    #[inline(always)]
    pub unsafe fn store<const SUMS: usize>(&self, c: *mut f32, ldc: usize) {
        macro_rules! store {
            ($tile:literal) => {
                asm!(
                    concat!("tilestored [{c} + {ldc}], ", $tile),
                    c = in(reg) c.wrapping_add(SUMS / 2 * ROWS * ldc + SUMS % 2 * WORDS),
                    ldc = in(reg) 4 * ldc,
                    options(nostack, preserves_flags)
                )
            };
        }
        // SAFETY: the caller's promise.
        unsafe {
            match SUMS {
                0 => store!("tmm0"),
                1 => store!("tmm1"),
                2 => store!("tmm2"),
                _ => store!("tmm3"),
            }
        }
    }
}

impl Tiles {
    /// Sixteen dot products on registers alone, `n` times: what the unit can do.
    #[inline(always)]
    pub fn spin(&self, words: Words, n: u64) {
        macro_rules! sixteen {
            ($dot:literal) => {
                // SAFETY: the unit is there; only tile registers change.
                unsafe {
                    asm!(
                        "2:",
                        ".rept 4",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        concat!($dot, " tmm1, tmm4, tmm7"),
                        concat!($dot, " tmm2, tmm5, tmm6"),
                        concat!($dot, " tmm3, tmm5, tmm7"),
                        ".endr",
                        "dec {n}",
                        "jnz 2b",
                        n = inout(reg) n => _,
                        options(nostack, nomem),
                    )
                }
            };
        }
        match (n, words) {
            (0, _) => {}
            (_, Words::Bf16) => sixteen!("tdpbf16ps"),
            (_, Words::Bytes) => sixteen!("tdpbsud"),
        }
    }

    /// Multiplies 16 rows, or 32 with `wide`.
    ///
    /// # Safety
    /// `tiles` is at least 1; `a` is readable for `tiles` steps of one or two tiles, `b` for `tiles · 16` rows of 32
    /// words at a distance of `ldb`, `c` is readable and writable for 16 or 32 rows of 32 words at a distance of `ldc`, and nobody else touches it.
    #[inline(always)]
    pub unsafe fn multiply(&self, words: Words, wide: bool, p: &Product) {
        debug_assert!(p.tiles > 0);
        macro_rules! asking {
            ($product:ident) => {
                match p.ask {
                    Ask::Nothing => $product::<0>(self, p),
                    Ask::Far => $product::<1>(self, p),
                    Ask::Next(_) => $product::<2>(self, p),
                }
            };
        }
        // SAFETY: the caller's promises.
        unsafe {
            match (words, wide) {
                (Words::Bf16, true) => asking!(wide_bf16),
                (Words::Bf16, false) => asking!(narrow_bf16),
                (Words::Bytes, true) => asking!(wide_bytes),
                (Words::Bytes, false) => asking!(narrow_bytes),
            }
        }
    }
}
