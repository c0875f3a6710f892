//! `--threads`: how many cores the whole program uses.

use anyhow::{Context, Result};

/// Limits the program to `count` threads; without a count it uses all cores. Called before any
/// work, once.
pub fn limit(count: Option<usize>) -> Result<()> {
    let Some(count) = count else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build_global()
        .with_context(|| format!("cannot start {count} threads"))
}
