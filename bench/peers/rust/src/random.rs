//! Weights that are the same in every engine, so that a test can hold their networks together.

/// Standard deviation of every weight.
pub const DEVIATION: f64 = 0.02;

/// `n` numbers around zero for the parameter of that name, evenly spread.
pub fn values(name: &str, n: usize) -> Vec<f32> {
    let mut state = hash(name);
    let half_width = DEVIATION * 3f64.sqrt();
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let unit = (mixed(state) >> 11) as f64 / (1u64 << 53) as f64;
        (half_width * (2.0 * unit - 1.0)) as f32
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_stated_spread() {
        let some = values("a", 100_000);
        let n = some.len() as f64;
        let mean = some.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let square = some.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.01, "{square}");
        assert_eq!(some[..9], values("a", 9));
        assert_ne!(some[..9], values("b", 9));
    }
}
