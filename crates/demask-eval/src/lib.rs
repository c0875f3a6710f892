//! demask-eval
