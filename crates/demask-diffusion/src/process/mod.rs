//! Processes: forward noise.
//!
//! | name | `q(x_t | x_0)` for one token | from |
//! |---|---|---|
//! | [`absorbing`] | `alpha_t` on `x_0`, the rest on the mask | D3PM 2107.03006, MDLM 2406.07524 |
//! | [`uniform`] | `alpha_t` on `x_0`, the rest spread evenly over the vocabulary | D3PM 2107.03006, UDLM 2412.10193 |
//!
//! [`Process`] acts on a named [`State`], so that continuous and joint processes fit in; [`Discrete`] is what the two
//! token processes add: host ids and exact posteriors. Both are written in noise levels `p = 1 - alpha`, not in times,
//! so they know no schedule.

use std::fmt::Debug;

use crate::{DiffusionError, Ids, Noise, Result, State, Time};

pub mod absorbing;
pub mod uniform;

pub use absorbing::Absorbing;
pub use uniform::Uniform;

/// Forward noise on a state.
pub trait Process: Debug + Send + Sync {
    /// The name in tables and messages.
    fn name(&self) -> &'static str;

    /// The state at noise level `p` (broadcast to `[batch, length]`), from a clean one. Cells that are not `free`
    /// (`[batch * length]`: prompt, BOS, padding) stay clean. Row `b` draws from `noise.child(b)`, position by position,
    /// so a row's noise does not depend on the others.
    fn corrupt(&self, clean: &State, p: &Time, free: &[bool], noise: &Noise) -> Result<State>;
}

/// A process on token ids in which every token is hit alone.
pub trait Discrete: Process {
    /// Number of token values, mask included where there is one: the width of a posterior row.
    fn vocab(&self) -> usize;

    /// [`Process::corrupt`] on bare ids.
    fn corrupt_ids(&self, clean: &Ids, p: &Time, free: &[bool], noise: &Noise) -> Result<Ids>;

    /// `q(x_s | x_t, x_0)` averaged over a prediction of `x_0`, for one cell.
    ///
    /// `p_x0` is a distribution over `x_0` (`vocab` wide, or a one-hot for the true posterior), `present` the token
    /// that stands there now, `p_s <= p_t` the noise levels. Writes a distribution into `out` (`vocab` wide).
    /// Panics when a slice is not `vocab` wide or `present` is outside it.
    fn posterior(&self, p_x0: &[f64], present: u32, p_s: f64, p_t: f64, out: &mut [f64]);

    /// The token that stands everywhere at full noise: the mask, or a uniform draw from `noise`.
    fn prior(&self, noise: &Noise) -> u32;
}

/// Checks that `free` has one flag for each cell and `p` broadcasts.
fn check(clean: &Ids, p: &Time, free: &[bool]) -> Result<()> {
    p.check("noise level", clean.batch(), clean.length())?;
    if free.len() != clean.data().len() {
        return Err(DiffusionError::shape(
            "free cells",
            clean.data().len(),
            free.len(),
        ));
    }
    Ok(())
}

/// Corrupts the ids of a state with a discrete process.
fn corrupt_state(
    process: &dyn Discrete,
    clean: &State,
    p: &Time,
    free: &[bool],
    noise: &Noise,
) -> Result<State> {
    let noisy = process.corrupt_ids(clean.ids()?, p, free, noise)?;
    Ok(clean
        .clone()
        .with(crate::Part::Ids, crate::Value::Ids(noisy)))
}
