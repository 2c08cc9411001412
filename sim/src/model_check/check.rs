//! Check: runs many seeds on all cores, until one fails.

use crate::model_check::run::{Failure, Report, run_seed};
use crate::model_check::sightings::Sightings;
use crate::model_check::world::Tally;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds from the first to before the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedRange(Range<u64>);

/// The sums of many runs' numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// How many seeds ran.
    pub seeds: u64,
    /// The runs in numbers.
    pub tally: Tally,
    /// Outcomes and effects, counted by kind.
    pub sightings: Sightings,
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Jobs that were completed.
    pub completed: u64,
}

impl SeedRange {
    /// The seeds from `first` to before `end`.
    pub fn new(first: u64, end: u64) -> Self {
        SeedRange(first..end)
    }

    /// The first one.
    pub fn first(&self) -> u64 {
        self.0.start
    }

    /// The one after the last.
    pub fn end(&self) -> u64 {
        self.0.end
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.end.saturating_sub(self.0.start)
    }
}

impl FromStr for SeedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a range of seeds; write it as 0..1000, the last one excluded");
        let (first, end) = text.split_once("..").ok_or_else(wrong)?;
        let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
        if first < end { Ok(SeedRange::new(first, end)) } else { Err(wrong()) }
    }
}

/// Runs the seeds on `jobs` threads: the totals, or the lowest seed that was seen to fail. `observe` is called with
/// each seed and step number, `done` with each finished seed.
pub fn check(
    seeds: SeedRange,
    steps: u64,
    jobs: usize,
    observe: impl Fn(u64, u64) + Sync,
    done: impl Fn(u64) + Sync,
) -> Result<Totals, (u64, Box<Failure>)> {
    let next = AtomicU64::new(seeds.0.start);
    let totals = Mutex::new(Totals::default());
    let failed: Mutex<Option<(u64, Box<Failure>)>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.0.end {
                return;
            }
            match run_seed(seed, steps, |no, _| observe(seed, no)) {
                Ok(report) => totals.lock().expect("no thread panics with it").add(&report),
                Err(failure) => {
                    let mut failed = failed.lock().expect("no thread panics with it");
                    if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *failed = Some((seed, Box::new(failure)));
                    }
                    next.store(seeds.0.end, Ordering::Relaxed);
                    return;
                }
            }
            done(seed);
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
    match failed.into_inner().expect("no thread panics with it") {
        Some(failure) => Err(failure),
        None => Ok(totals.into_inner().expect("no thread panics with it")),
    }
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.accepted += report.accepted;
        self.completed += report.completed;
        self.tally.add(&report.tally);
        self.sightings.add(&report.sightings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_is_two_numbers_that_grow() {
        assert_eq!("3..7".parse::<SeedRange>().map(|range| range.count()), Ok(4));
        for text in ["", "3", "3..", "..3", "7..3", "3..3", "a..b", "0..=5"] {
            assert!(text.parse::<SeedRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn totals_do_not_depend_on_the_number_of_threads() {
        let seeds = SeedRange::new(20, 26);
        let one = check(seeds.clone(), 60, 1, |_, _| (), |_| ()).expect("these seeds are well");
        let four = check(seeds, 60, 4, |_, _| (), |_| ()).expect("these seeds are well");
        assert_eq!(one.seeds, 6);
        assert_eq!(one, four);
    }
}
