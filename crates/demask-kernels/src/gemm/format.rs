//! How the values of a right operand are stored, and what that means for a product.

/// The number format of a right operand. The left operand is rounded to the format's
/// partner row by row as it is packed, if it was not before; sums are `f32`.
///
/// | format | left operand | sum | bits a value |
/// |---|---|---|---|
/// | [`F32`](Self::F32) | `f32` | `f32` | 32 |
/// | [`Bf16`](Self::Bf16) | bf16 | `f32` | 16 |
/// | [`Int8`](Self::Int8) | int8, a scale for each row and group | exact, then `f32` over groups | 8 + 32 / group |
/// | [`Int4`](Self::Int4) | int8, a scale for each row and group | exact, then `f32` over groups | 4 + 32 / group |
///
/// In the integer formats a *group* is a run of inner steps that share a scale: `C[i,j] = Σ_g sa[i,g] ·
/// sb[g,j] · Σ_{k∈g} qa[i,k] · qb[k,j]`, with `qa = round(A / sa)`, `sa` the largest magnitude of the group
/// of the row divided by 127, and likewise for B (in int4 the value of largest magnitude becomes −8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Whole numbers −127..=127 and scales.
    Int8 {
        /// Inner steps that share a scale: a multiple of 8, or [`Format::WHOLE`]. A tile unit takes multiples of 64.
        group: usize,
    },
    /// Whole numbers −8..=7 and scales.
    Int4 {
        /// Inner steps that share a scale: a multiple of 8, or [`Format::WHOLE`]. A tile unit takes multiples of 64.
        group: usize,
    },
}

impl Format {
    /// One group over the whole inner dimension.
    pub const WHOLE: usize = usize::MAX;

    /// A short lower-case name: `f32`, `bf16`, `int8` or `int4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 { .. } => "int8",
            Self::Int4 { .. } => "int4",
        }
    }
}

/// What packing and the register tile need to know of a format and an inner dimension. A *word* has 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub format: Format,
    /// Inner dimension.
    pub k: usize,
    /// Words of a column of B.
    pub words: usize,
    /// Words of a row of A for a word of B.
    pub lhs: usize,
    /// Groups of a row or column; 0 without scales.
    pub groups: usize,
    /// Words of B in a group, the last of which may be shorter.
    pub group_words: usize,
}

impl Layout {
    /// # Panics
    /// When the group is neither a multiple of 8 nor [`Format::WHOLE`], or the sums of an integer format
    /// could overflow.
    pub fn new(format: Format, k: usize) -> Self {
        let (values, lhs, group) = match format {
            Format::F32 => (1, 1, None),
            Format::Bf16 => (2, 1, None),
            Format::Int8 { group } => (4, 1, Some(group)),
            Format::Int4 { group } => (8, 2, Some(group)),
        };
        let words = k.div_ceil(values);
        let (groups, group_words) = match group {
            None => (0, words),
            Some(group) => {
                assert!(
                    group > 0 && (group == Format::WHOLE || group.is_multiple_of(8)),
                    "gemm: a group of {group} values is not a multiple of 8"
                );
                let most = match group == Format::WHOLE {
                    true => MOST_IN_A_GROUP,
                    false => usize::MAX,
                };
                let whole = k.checked_next_multiple_of(8).unwrap_or(k);
                let group = group.min(most).min(whole).max(8);
                assert!(
                    group <= MOST_IN_A_GROUP,
                    "gemm: a group of {group} whole numbers may overflow; at most {MOST_IN_A_GROUP}"
                );
                (k.div_ceil(group), group / values)
            }
        };
        Self {
            format,
            k,
            words,
            lhs,
            groups,
            group_words,
        }
    }

    /// Words of a packed row of A: values, then for each group a scale and where its sum begins.
    pub fn lhs_row(&self) -> usize {
        self.words * self.lhs + 2 * self.groups
    }

    /// Words of a packed column of B: values, then a scale for each group.
    pub fn rhs_column(&self) -> usize {
        self.words + self.groups
    }
}

/// A sum of this many products of −127..=127 fits in 32 bits (on the way there it may wrap and back).
const MOST_IN_A_GROUP: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_by_hand() {
        let l = Layout::new(Format::F32, 5);
        assert_eq!((l.words, l.lhs_row(), l.rhs_column()), (5, 5, 5));
        let l = Layout::new(Format::Bf16, 5);
        assert_eq!((l.words, l.lhs_row(), l.rhs_column()), (3, 3, 3));
        let l = Layout::new(
            Format::Int8 {
                group: Format::WHOLE,
            },
            21,
        );
        assert_eq!((l.words, l.groups, l.lhs_row()), (6, 1, 8));
        let whole = Format::Int8 {
            group: Format::WHOLE,
        };
        let l = Layout::new(whole, (1 << 17) + 1);
        assert_eq!(
            (l.groups, l.group_words, l.rhs_column()),
            (2, 1 << 15, (1 << 15) + 3)
        );
        let l = Layout::new(Format::Int4 { group: 16 }, 37);
        assert_eq!((l.words, l.groups, l.group_words), (5, 3, 2));
        assert_eq!((l.lhs_row(), l.rhs_column()), (16, 8));
    }

    #[test]
    #[should_panic(expected = "a group of 12 values")]
    fn odd_groups_are_refused() {
        Layout::new(Format::Int4 { group: 12 }, 64);
    }
}
