//! What the user sees: colours, tables, the live canvas, Ctrl-C.

pub mod interrupt;
pub mod layout;
pub mod style;
pub mod table;
pub mod view;
