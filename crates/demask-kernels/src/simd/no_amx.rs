//! In place of `amx.rs` where there is no such unit.

pub(crate) const ROWS: usize = 16;
pub(crate) const WORDS: usize = 16;
pub(crate) const LINE: usize = 16;

/// There is no value of it.
pub(crate) enum Tiles {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Words {
    Bf16,
    Bytes,
}

#[derive(Clone, Copy)]
#[allow(dead_code, reason = "nobody multiplies without a unit")]
pub(crate) struct Product {
    pub a: *const f32,
    pub b: *const f32,
    pub ldb: usize,
    pub tiles: usize,
    pub c: *mut f32,
    pub ldc: usize,
    pub load: bool,
    pub ask: Ask,
}

#[derive(Clone, Copy)]
#[allow(dead_code, reason = "nobody multiplies without a unit")]
pub(crate) enum Ask {
    Nothing,
    Far,
    Next([*const f32; 2]),
}

pub(crate) const ASKED: usize = 4;

/// Nobody multiplies without a unit.
pub(crate) fn will_write(_: *mut f32, _: usize, _: usize) {}

/// # Safety
/// Never called, as there is no unit.
pub(crate) unsafe fn unpack(_: *const f32, _: usize, _: *mut f32) {}

impl Tiles {
    pub fn clear(&self) {
        match *self {}
    }

    /// # Safety
    /// None to keep: there is no value.
    pub unsafe fn dot<const SUMS: usize>(&self, _: *const f32, _: *const f32, _: usize) {
        match *self {}
    }

    /// # Safety
    /// None to keep: there is no value.
    pub unsafe fn store<const SUMS: usize>(&self, _: *mut f32, _: usize) {
        match *self {}
    }

    /// # Safety
    /// Never called: no machine of this kind has the unit.
    pub unsafe fn begin() -> Self {
        unreachable!("no tile unit")
    }

    /// # Safety
    /// None to keep: there is no value.
    pub unsafe fn multiply(&self, _: Words, _: bool, _: &Product) {
        match *self {}
    }
}
