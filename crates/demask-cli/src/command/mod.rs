//! The commands, one file each.

pub mod bench;
pub mod completions;
pub mod docs;
pub mod eval;
pub mod generate;
pub mod infill;
pub mod inspect;
pub mod models;
pub mod policies;
pub mod proof;
pub mod systems;
pub mod train;
