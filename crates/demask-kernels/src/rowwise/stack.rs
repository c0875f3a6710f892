//! Matrices one above the other.

use super::over_values;
use crate::memory::{MutPtr, written};

/// The values of all parts, one part after the other.
pub fn stack(parts: &[&[f32]]) -> Vec<f32> {
    let len = parts.iter().map(|part| part.len()).sum();
    let all = |y: MutPtr| {
        let mut start = 0;
        for part in parts {
            // Two passes over memory take about as long as eight operations a value.
            over_values(part.len(), 8, |from, to| {
                // SAFETY: these places are this task's alone.
                let y = unsafe { y.slice(start + from, to - from) };
                y.copy_from_slice(&part[from..to]);
            });
            start += part.len();
        }
    };
    // SAFETY: every part is written.
    unsafe { written(len, all) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_threads;

    #[test]
    fn parts_follow_each_other() {
        let large: Vec<f32> = (0..300_001).map(|i| i as f32).collect();
        let parts = [&large[..7], &[], &large, &large[..100_000]];
        for threads in [1, 3] {
            let stacked = with_threads(threads, || stack(&parts));
            assert!(stacked == parts.concat());
        }
        assert!(stack(&[]).is_empty());
    }
}
