//! demask-text
