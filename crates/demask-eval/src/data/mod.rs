//! Evaluation data: files of text, and the windows and pairs that are measured.
//!
//! | file | part |
//! |---|---|
//! | `read.rs` | documents and prompt/answer pairs from `.txt`, `.jsonl` and both with `.gz` |
//! | `window.rs` | documents cut to windows of the model's length, with the bytes each stands for |

mod read;
mod window;

pub use read::{Pair, read_documents, read_pairs};
pub use window::{Packing, Window, WindowConfig, Wrap, windows};
