//! `--threads`: how many cores the whole program uses.

use anyhow::{Context, Result};
use demask::kernels::threads::MAX;

use crate::error::usage;

/// Limits the program to `count` threads; without a count it uses all cores. Called before any
/// work, once.
///
/// This thread is one of them: it works instead of waiting for the others, and has to wake one thread less.
pub fn limit(count: Option<usize>) -> Result<()> {
    // A flag was checked when it was read; a configuration file comes here as it is.
    if let Some(count) = count.filter(|count| !(1..=MAX).contains(count)) {
        return Err(usage(format!("threads = {count}: must be 1 to {MAX}")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.unwrap_or(0))
        .use_current_thread()
        .build_global()
        .with_context(|| match count {
            Some(count) => format!("cannot start {count} threads"),
            None => "cannot start a thread for every core".to_string(),
        })
}
