//! `--threads`: how many cores the whole program uses.

use anyhow::{Context, Result};
use demask::kernels::threads::MAX;

use crate::error::usage;

/// Limits the program to `count` threads; without a count it uses all cores. Called before any
/// work, once.
pub fn limit(count: Option<usize>) -> Result<()> {
    let Some(count) = count else { return Ok(()) };
    // A flag was checked when it was read; a configuration file comes here as it is.
    if !(1..=MAX).contains(&count) {
        return Err(usage(format!("threads = {count}: must be 1 to {MAX}")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build_global()
        .with_context(|| format!("cannot start {count} threads"))
}
