//! demask-train
