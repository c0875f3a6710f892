//! How many threads work, and on what.
//!
//! All kernels run in the rayon pool of the calling thread, so nothing is oversubscribed: a kernel
//! called inside a parallel loop shares that loop's threads. Threads only ever divide *outputs*;
//! no sum is split between them.

use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Work (in floating-point operations, roughly) below which a kernel stays on the calling thread:
/// waking a thread costs about as much as this.
pub(crate) const SMALL: usize = 2_000_000;

/// The most threads that a program may ask for. A larger number is a slip: their stacks would fill the
/// memory before the work began.
pub const MAX: usize = 1024;

/// Number of threads that kernels called from here use.
pub fn count() -> usize {
    rayon::current_num_threads()
}

/// Runs `f` so that the kernels called in it use `n` threads (0: as many as the machine has).
///
/// ```
/// use demask_kernels::threads::{count, with_threads};
/// assert_eq!(with_threads(1, count), 1);
/// ```
///
/// # Panics
/// When the system refuses to start the threads.
pub fn with_threads<R: Send>(n: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build()
        .expect("threads: the system refuses to start a thread pool")
        .install(f)
}

/// Runs `f`, a series of kernels, while the other threads wait for their parts awake: a thread that slept takes as
/// long to come as a small kernel takes. They take any other work of the pool meanwhile, so several callers may wait
/// at once.
///
/// ```
/// use demask_kernels::threads::awake;
/// assert_eq!(awake(|| 2 + 2), 4);
/// ```
pub fn awake<R>(f: impl FnOnce() -> R) -> R {
    /// Says that it is over, even when `f` panics.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let Some(caller) = rayon::current_thread_index().filter(|_| count() > 1) else {
        return f();
    };
    let over = AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        let over = &over;
        scope.spawn_broadcast(move |_, thread| {
            let mut idle = 0u32;
            while thread.index() != caller && !over.load(Ordering::Acquire) {
                match rayon::yield_now() {
                    Some(rayon::Yield::Executed) => idle = 0,
                    _ => idle = idle.saturating_add(1),
                }
                // A thread that has waited long leaves its core to others that want it.
                match idle {
                    0..IDLE => std::hint::spin_loop(),
                    _ => std::thread::yield_now(),
                }
            }
        });
        let _over = Over(over);
        f()
    })
}

/// How often a waiting thread looks for work before it begins to offer its core to others.
const IDLE: u32 = 10_000;

/// Calls `f` for every task below `tasks`, in parallel when `work` (operations of all tasks) is worth it.
pub(crate) fn parallel(tasks: usize, work: usize, f: impl Fn(usize) + Sync) {
    if tasks <= 1 || work < SMALL || count() == 1 {
        (0..tasks).for_each(&f);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(&f);
    }
}

/// Calls `f` for every task below `tasks`, in parallel when `work` (operations of all tasks, roughly) is worth it;
/// the results in the order of the tasks.
pub fn map<R: Send>(tasks: usize, work: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    if tasks <= 1 || work < SMALL || count() == 1 {
        (0..tasks).map(&f).collect()
    } else {
        (0..tasks).into_par_iter().with_max_len(1).map(&f).collect()
    }
}

/// Cuts `rows` into contiguous parts and calls `f(first, end)` for each, in parallel when `work` is worth it.
pub(crate) fn over_rows(rows: usize, work: usize, f: impl Fn(usize, usize) + Sync) {
    let parts = if work < SMALL {
        1
    } else {
        (4 * count()).min(rows)
    }
    .max(1);
    parallel(parts, work, |p| f(rows * p / parts, rows * (p + 1) / parts));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn threads_that_wait_awake_do_the_same_work() {
        let sum = |threads: usize| {
            with_threads(threads, || {
                awake(|| {
                    // A second caller inside, as a forward pass inside a step of training.
                    awake(|| map(100, usize::MAX, |i| i).iter().sum::<usize>())
                })
            })
        };
        assert_eq!([1, 2, 3].map(sum), [4950; 3]);
        // Outside a pool there is nobody to keep awake.
        assert_eq!(awake(|| 7), 7);
    }

    #[test]
    fn a_panic_lets_the_others_sleep_again() {
        with_threads(2, || {
            let fell = std::panic::catch_unwind(|| awake(|| panic!("fell")));
            assert!(fell.is_err());
            assert_eq!(map(10, usize::MAX, |i| i).len(), 10);
        });
    }

    #[test]
    fn every_row_is_visited_once() {
        for (rows, threads) in [(0, 2), (1, 2), (7, 3), (1000, 2)] {
            let seen: Vec<AtomicUsize> = (0..rows).map(|_| AtomicUsize::new(0)).collect();
            with_threads(threads, || {
                over_rows(rows, usize::MAX, |a, b| {
                    for s in &seen[a..b] {
                        s.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
            assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1));
        }
    }
}
