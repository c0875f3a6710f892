//! Files as memory.

use std::fs::File;
use std::io;

pub use memmap2::Mmap;

/// The bytes of a file, mapped; an empty one can't be on every system.
///
/// # Soundness
/// Nobody may shorten the file or write to it while it is mapped, which Rust can't know: a read of what is gone ends the
/// program with a signal. A file that is written once, beside the old one, and then renamed keeps its bytes even where it is replaced.
///
/// # Errors
/// What the system says.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: as above; a checkpoint is not written to in its place, by us or by any tool that is known to us.
    unsafe { Mmap::map(file) }
}
