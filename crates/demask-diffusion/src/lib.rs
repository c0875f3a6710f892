//! The mathematics of discrete diffusion, with no networks and no files.
//!
//! Five nouns, one folder or file each:
//!
//! - a [`process`] is forward noise: what happens to a clean token as time goes on;
//! - a [`schedule`] is the noise level as a function of time, and how times are drawn;
//! - an [`objective`] is what training minimises: it corrupts a clean batch, says which logits it needs, and turns
//!   them into a loss;
//! - a [`solver`] holds reverse steps: one step back in time from a prediction;
//! - [`sampling`] holds pure functions on one row of logits or probabilities: draws, filters, confidences.
//!
//! [`Noise`] is the only source of randomness here and in what writes texts and trains; a network's initial weights and
//! dropout have streams of their own, from the same kind of seed. [`State`] and [`Time`] are what flows between the parts, and [`toy`] is an enumerable world in which every claim above can be checked against the exact answer.
//!
//! Conventions: `t` runs from 0 (clean) to 1 (noise); `alpha(t)` is the chance that a token is still itself,
//! `p = 1 - alpha`, `sigma = -ln alpha`. Everything is in nats. Host numbers are `f64`; tensors keep the dtype of the
//! logits that come in.
#![warn(missing_docs)]

mod error;
mod noise;
mod state;

pub mod objective;
pub mod process;
pub mod sampling;
pub mod schedule;
pub mod solver;
pub mod toy;

pub use error::{DiffusionError, Result};
pub use noise::Noise;
pub use objective::{Corrupted, LossInput, Objective, ObjectiveConfig, Vocabulary, Wanted};
pub use schedule::{Schedule, ScheduleConfig};
pub use state::{Ids, Part, State, Time, Value};
