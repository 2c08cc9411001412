//! Checks of many seeds, side by side.

use crate::world::{self, Broken, Report};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const NO_PANIC: &str = "no thread panics while it holds a lock";

/// Runs each seed for so many steps on so many threads; `progress` is told after each. The first that breaks ends it.
pub fn check(seeds: Range<u64>, steps: u64, threads: usize, progress: impl Fn(u64) + Sync) -> Result<Report, Broken> {
    let next = AtomicU64::new(seeds.start);
    let broken: Mutex<Option<Broken>> = Mutex::new(None);
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match world::run(seed, steps) {
                        Ok(report) => add(&mut total.lock().expect(NO_PANIC), &report),
                        Err(found) => {
                            let mut broken = broken.lock().expect(NO_PANIC);
                            // Of several the smallest, so that the same seeds always say the same.
                            if broken.as_ref().is_none_or(|known| found.seed < known.seed) {
                                *broken = Some(found);
                            }
                            next.store(seeds.end, Ordering::Relaxed);
                            return;
                        }
                    }
                    progress(seed);
                }
            });
        }
    });
    match broken.into_inner().expect("all threads have ended") {
        Some(broken) => Err(broken),
        None => Ok(total.into_inner().expect("all threads have ended")),
    }
}

fn add(total: &mut Report, report: &Report) {
    total.commands += report.commands;
    total.records += report.records;
    total.crashes += report.crashes;
    total.submitted += report.submitted;
    total.leased += report.leased;
    total.ended += report.ended;
}
