use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The number type in which weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveDtype {
    /// 32-bit floats: what was trained, bit for bit.
    #[default]
    F32,
    /// bfloat16, rounded to nearest even: half the size.
    Bf16,
}

impl SaveDtype {
    /// The name safetensors gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
        }
    }

    /// Bytes of one number.
    pub fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.reserve(values.len() * self.width());
        match self {
            Self::F32 => values
                .iter()
                .for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::Bf16 => values
                .iter()
                .for_each(|v| out.extend_from_slice(&bf16::from_f32(*v).to_le_bytes())),
        }
    }
}

/// Bytes of one stored number; `None` for a number type that is not read.
pub(crate) fn width(dtype: &str) -> Option<usize> {
    match dtype {
        "F32" => Some(4),
        "F16" | "BF16" => Some(2),
        _ => None,
    }
}

/// Widens stored numbers to f32; `None` for a number type that is not read or a length that is no
/// multiple of its width.
///
/// f16 and bf16 widen exactly.
pub fn to_f32(dtype: &str, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut out = Vec::new();
    widen(dtype, bytes, &mut out)?;
    Some(out)
}

/// The same after what is in `out`.
pub(crate) fn widen(dtype: &str, bytes: &[u8], out: &mut Vec<f32>) -> Option<()> {
    if !bytes.len().is_multiple_of(width(dtype)?) {
        return None;
    }
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        "F32" => out.extend((bytes.as_chunks::<4>().0.iter()).map(|b| f32::from_le_bytes(*b))),
        "F16" => out.extend(halves().map(|b| f16::from_le_bytes(*b).to_f32())),
        _ => out.extend(halves().map(|b| bf16::from_le_bytes(*b).to_f32())),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_the_three_float_types() {
        assert_eq!(to_f32("F32", &1.5f32.to_le_bytes()), Some(vec![1.5]));
        assert_eq!(to_f32("F16", &[0x00, 0x3e]), Some(vec![1.5]));
        assert_eq!(to_f32("BF16", &[0xc0, 0x3f]), Some(vec![1.5]));
        assert_eq!(to_f32("I64", &[0; 8]), None);
        assert_eq!(to_f32("F32", &[0; 5]), None);
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        let mut out = Vec::new();
        // 1 + 2^-8 lies halfway between 1 and 1 + 2^-7; the even neighbour is 1.
        SaveDtype::Bf16.encode(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)], &mut out);
        assert_eq!(to_f32("BF16", &out), Some(vec![1.0, 1.0 + 2f32.powi(-6)]));
    }
}
