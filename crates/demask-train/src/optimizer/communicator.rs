//! Sums over the processes of a training.

use crate::TrainError;

/// What data-parallel training needs of other processes. The default is a process alone.
pub trait Communicator: Send {
    /// Number of processes.
    fn world_size(&self) -> usize;

    /// Number of this process, below [`world_size`](Self::world_size).
    fn rank(&self) -> usize;

    /// Replaces `values` by their sum over all processes, in a fixed order of processes.
    ///
    /// # Errors
    /// When another process is gone.
    fn all_reduce_sum(&mut self, values: &mut [f32]) -> Result<(), TrainError>;
}

/// A process alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

impl Communicator for Single {
    fn world_size(&self) -> usize {
        1
    }

    fn rank(&self) -> usize {
        0
    }

    fn all_reduce_sum(&mut self, _values: &mut [f32]) -> Result<(), TrainError> {
        Ok(())
    }
}
