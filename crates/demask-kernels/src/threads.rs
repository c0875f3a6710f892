//! How many threads work, and on what.
//!
//! All kernels run in the rayon pool of the calling thread, so nothing is oversubscribed: a kernel
//! called inside a parallel loop shares that loop's threads. Threads only ever divide *outputs*;
//! no sum is split between them.

use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n);
    // Tests force an instruction set on the threads of a call.
    #[cfg(test)]
    let pool = {
        let forced = crate::simd::forced();
        pool.start_handler(move |_| crate::simd::force(forced))
    };
    pool.build()
        .expect("threads: the system refuses to start a thread pool")
        .install(f)
}

/// Whether somebody keeps the other threads awake. One caller at a time does: what waits for one of them would
/// otherwise be found waiting for another.
static KEPT: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What will end the wait of the other threads, until they are called.
    static CALL: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// How long a thread waits awake for work that does not come.
const IDLE: Duration = Duration::from_millis(1);
/// From when on it offers its core to others meanwhile.
const POLITE: Duration = Duration::from_micros(50);

/// Runs `f`, a series of kernels, while the other threads of the pool wait for their parts awake: a thread that slept
/// takes as long to come as a small kernel takes. They are called when the first kernel has work for them; a thread that
/// finds none for a millisecond goes to sleep.
///
/// Outside a pool, in a pool of one thread, and inside another call, `f` just runs.
///
/// ```
/// use demask_kernels::threads::{awake, with_threads};
/// assert_eq!(with_threads(2, || awake(|| 2 + 2)), 4);
/// ```
pub fn awake<R>(f: impl FnOnce() -> R) -> R {
    /// Says that it is over, even when `f` panics.
    struct Over(Arc<AtomicBool>);
    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
            CALL.take();
            KEPT.store(false, Ordering::Release);
        }
    }
    if rayon::current_thread_index().is_none() || count() == 1 {
        return f();
    }
    if KEPT.swap(true, Ordering::AcqRel) {
        return f();
    }
    let over = Over(Arc::default());
    CALL.set(Some(Arc::clone(&over.0)));
    f()
}

/// Calls the other threads, if that is still to be done. Nobody waits for them: a thread may be busy elsewhere, or come
/// so late that it is over.
fn call() {
    if let Some(over) = CALL.take() {
        let caller = rayon::current_thread_index();
        rayon::spawn_broadcast(move |thread| {
            if Some(thread.index()) != caller {
                wait(&over);
            }
        });
    }
}

/// Takes work as it comes, until it is over or none has come for a while. The latter is needed: a thread may come here
/// while a part of a kernel, lower on its stack, waits for others, who wait for it.
fn wait(over: &AtomicBool) {
    let mut idle = Instant::now();
    while !over.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle = Instant::now();
            continue;
        }
        match idle.elapsed() {
            time if time > IDLE => return,
            time if time > POLITE => std::thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
}

/// Calls `f` for every task below `tasks`, in parallel when `work` (operations of all tasks) is worth it.
pub(crate) fn parallel(tasks: usize, work: usize, f: impl Fn(usize) + Sync) {
    if tasks <= 1 || work < SMALL || count() == 1 {
        (0..tasks).for_each(&f);
    } else {
        call();
        (0..tasks).into_par_iter().with_max_len(1).for_each(&f);
    }
}

/// Calls `f` for every task below `tasks`, in parallel when `work` (operations of all tasks, roughly) is worth it;
/// the results in the order of the tasks.
pub fn map<R: Send>(tasks: usize, work: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    if tasks <= 1 || work < SMALL || count() == 1 {
        (0..tasks).map(&f).collect()
    } else {
        call();
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

    /// Runs `f` on a thread of its own; a test that hangs fails.
    fn in_time(f: impl FnOnce() + Send + 'static) {
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            f();
            done.send(()).expect("somebody waits");
        });
        let outcome = finished.recv_timeout(Duration::from_secs(120));
        outcome.expect("it neither hangs nor panics");
    }

    /// Kernels of many small tasks, some of which call others.
    fn series(rounds: usize) {
        for round in 0..rounds {
            let sums = awake(|| {
                map(16, usize::MAX, |i| {
                    awake(|| map(8, usize::MAX, |j| i * j).iter().sum::<usize>())
                })
            });
            let wanted: Vec<usize> = (0..16).map(|i| 28 * i).collect();
            assert_eq!(sums, wanted, "round {round}");
        }
    }

    #[test]
    fn callers_that_keep_threads_awake_never_wait_for_each_other() {
        for threads in [1, 2, 3, 8] {
            in_time(move || {
                with_threads(threads, || {
                    rayon::join(|| series(500), || series(500));
                });
            });
        }
        // Outside a pool.
        assert_eq!(awake(|| 7), 7);
    }

    #[test]
    fn threads_are_called_once_there_is_work_for_them() {
        let to_call = || CALL.with_borrow(Option::is_some);
        with_threads(2, || {
            // No other test's call may be the one at the time.
            while !awake(to_call) {}
            while !awake(|| {
                let before = to_call();
                map(2, 0, |i| i);
                let small = to_call();
                map(2, usize::MAX, |i| i);
                assert_eq!(before, small);
                assert!(!to_call());
                before
            }) {}
            assert!(!to_call());
        });
    }

    #[test]
    fn a_panic_lets_the_others_go() {
        in_time(|| {
            with_threads(2, || {
                let fell = std::panic::catch_unwind(|| awake(|| panic!("fell")));
                assert!(fell.is_err());
                series(10);
            });
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
