//! Flags that several commands share, and the values they take.

pub mod config;
pub mod decode;
pub mod input;
pub mod listing;
pub mod log;
pub mod model;
pub mod output;
pub mod value;
