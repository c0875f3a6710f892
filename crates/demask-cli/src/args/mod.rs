//! Flags that several commands share, and the values they take.

pub mod input;
pub mod log;
pub mod output;
pub mod value;
