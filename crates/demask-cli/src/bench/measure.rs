//! Turns with the clock.
//!
//! Machines change their speed from second to second, so what is compared is measured in turns: ours,
//! the first peer's, the second's, and again. A turn is several runs where that does not take long, for
//! the first run after another program finds the caches full of that one's data, which no step of a
//! denoising or a training does; medians pass over it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::error::Interrupted;
use crate::terminal::interrupt;

/// Fewest runs that a median is taken of.
const FEWEST: usize = 3;
/// Most runs of a row.
const MOST: usize = 10_000;
/// Seconds that a turn takes at least, where more than one party has turns.
const TURN: f64 = 0.06;
/// Most runs of a turn.
const RUNS: usize = 32;
/// Fewest runs of a turn, if one takes no longer than so many seconds.
const WARM: (usize, f64) = (3, 1.0);
/// Between turns: threads that wait for more work by spinning give up in this time.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a row is measured.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// So many runs of ours; as many as fit when left out.
    pub repeat: Option<usize>,
    /// Seconds for each party.
    pub seconds: f64,
}

/// The seconds of all runs of one party.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Number of runs.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The run in the middle; the mean of two where there are two. Not a number without runs.
    pub fn median(&self) -> f64 {
        median(&self.0)
    }

    /// The fastest run.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// The middle of some numbers; the mean of two where there are two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => (sorted[half - 1] + sorted[half]) / 2.0,
        _ => sorted[half],
    }
}

/// Somebody who does the work once and says how many seconds it took.
pub type Party<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// What has come of a party so far.
#[derive(Default)]
struct Turns {
    /// Runs of a turn.
    runs: usize,
    sample: Sample,
    failed: Option<anyhow::Error>,
}

impl Turns {
    /// The seconds of a run; nothing of a party that fails, unless it `must` not.
    fn run(&mut self, party: &mut Party<'_>, must: bool) -> Result<Option<f64>> {
        if interrupt::pressed() {
            return Err(Interrupted.into());
        }
        match party() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(error) if must || interrupt::pressed() => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Ok(None)
            }
        }
    }
}

/// Lets every party work once without counting, then in turns until the budget is used up. The first
/// party is the one whose runs `repeat` counts. Another one that fails has no more turns and gives its
/// error: what the first one did is not lost with it.
///
/// # Errors
/// What the first party says, or that the user asked to stop.
pub fn alternate(budget: &Budget, parties: &mut [Party<'_>]) -> Result<Vec<Result<Sample>>> {
    let alone = parties.len() == 1;
    let mut all: Vec<Turns> = Vec::new();
    for party in parties.iter_mut() {
        let mut turns = Turns::default();
        let took = turns.run(party, all.is_empty())?.unwrap_or(0.0);
        let least = if took <= WARM.1 { WARM.0 } else { 1 };
        let fit = ((TURN / took.max(1e-9)).ceil() as usize).clamp(least, RUNS);
        turns.runs = if alone { 1 } else { fit };
        all.push(turns);
    }
    let begin = Instant::now();
    let limit = budget.seconds * parties.len() as f64;
    loop {
        let done = all[0].sample.count();
        let enough = match budget.repeat {
            Some(repeat) => done >= repeat,
            None => done >= FEWEST && begin.elapsed().as_secs_f64() >= limit || done >= MOST,
        };
        if enough {
            let taken = all.into_iter();
            return Ok(taken
                .map(|turns| turns.failed.map_or(Ok(turns.sample), Err))
                .collect());
        }
        let left = budget.repeat.map_or(usize::MAX, |repeat| repeat - done);
        for (i, (party, turns)) in parties.iter_mut().zip(&mut all).enumerate() {
            if turns.failed.is_some() {
                continue;
            }
            if !alone {
                std::thread::sleep(PAUSE);
            }
            // The last turn of another one is as warm as those before.
            let most = if i == 0 { left } else { usize::MAX };
            for _ in 0..turns.runs.min(most) {
                match turns.run(party, i == 0)? {
                    Some(seconds) => turns.sample.0.push(seconds),
                    None => break,
                }
            }
        }
    }
}

/// The seconds that `f` takes, and what it gives.
pub fn timed<T>(f: impl FnOnce() -> T) -> (f64, T) {
    let begin = Instant::now();
    let value = f();
    (begin.elapsed().as_secs_f64(), value)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn medians_and_minima_by_hand() {
        let sample = Sample(vec![3.0, 1.0, 10.0]);
        assert_eq!(
            (sample.median(), sample.min(), sample.count()),
            (3.0, 1.0, 3)
        );
        assert_eq!(Sample(vec![4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert!(Sample::default().median().is_nan());
    }

    #[test]
    fn parties_take_turns_after_a_run_that_does_not_count() {
        let order = RefCell::new(String::new());
        let party = |name: char, seconds: f64| -> Party<'_> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(seconds)
            })
        };
        let budget = Budget {
            repeat: Some(11),
            seconds: 0.0,
        };
        // Five runs of ours fill a turn; the second takes longer than one, the third is worth some to be warm.
        let mut parties = [party('a', 0.012), party('b', 9.0), party('c', 0.5)];
        let samples = alternate(&budget, &mut parties).unwrap();
        drop(parties);
        assert_eq!(*order.borrow(), "abcaaaaabcccaaaaabcccabccc");
        let samples: Vec<_> = samples.into_iter().map(Result::unwrap).collect();
        let wanted = [vec![0.012; 11], vec![9.0; 3], vec![0.5; 9]].map(Sample);
        assert_eq!(samples, wanted);
    }

    #[test]
    fn without_a_number_of_runs_there_are_three_at_least() {
        let budget = Budget {
            repeat: None,
            seconds: 0.0,
        };
        let samples = alternate(&budget, &mut [Box::new(|| Ok(1.0)) as Party<'_>]).unwrap();
        assert_eq!(samples[0].as_ref().unwrap().count(), 3);
    }

    #[test]
    fn another_party_that_fails_costs_only_its_own_runs() {
        let budget = Budget {
            repeat: Some(3),
            seconds: 0.0,
        };
        let mut left = 2;
        let dies = move || {
            left -= 1;
            if left == 0 {
                return Err(anyhow::Error::msg("gone"));
            }
            Ok(1.0)
        };
        let never = || Err(anyhow::Error::msg("never there"));
        let mut parties: [Party<'_>; 3] = [Box::new(|| Ok(1.0)), Box::new(dies), Box::new(never)];
        let samples = alternate(&budget, &mut parties).unwrap();
        assert_eq!(samples[0].as_ref().unwrap().count(), 3);
        let said = |i: usize| samples[i].as_ref().unwrap_err().to_string();
        assert_eq!([said(1), said(2)], ["gone", "never there"]);
    }

    #[test]
    fn what_the_first_party_says_ends_the_row() {
        let budget = Budget {
            repeat: Some(1),
            seconds: 0.0,
        };
        let mut parties = [Box::new(|| Err(anyhow::Error::msg("gone"))) as Party<'_>];
        let error = alternate(&budget, &mut parties).unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
