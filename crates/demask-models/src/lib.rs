//! demask-models
