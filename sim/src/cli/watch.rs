//! Watch: which step of which seed each thread runs, to report the two failures that no run can: a panic that aborts,
//! and a step that never ends.

use super::terminal::note;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A step takes microseconds, the slowest some milliseconds: after this long it has no end.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);

/// How often the steps under way are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);

thread_local! {
    /// What this thread runs: the panic hook's only way to know.
    static CURRENT: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// The steps under way.
pub struct Watch(Arc<Mutex<UnderWay>>);

/// The step that each seed is at, and since when.
type UnderWay = BTreeMap<u64, (u64, Instant)>;

impl Watch {
    /// Watches from now on, until the program ends. Where a panic aborts it ends the program as a failure does, with
    /// the seed; and so does a step without an end. `again` is the command that runs a seed again.
    pub fn start(again: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        let again = Arc::new(again);
        if cfg!(panic = "abort") {
            let again = Arc::clone(&again);
            std::panic::set_hook(Box::new(move |panic| {
                match CURRENT.get() {
                    Some((seed, step)) => fail(seed, step, &panic.to_string(), &again(seed)),
                    None => note(panic),
                }
                process::exit(1);
            }));
        }
        let under_way = Arc::new(Mutex::new(UnderWay::new()));
        let watched = Arc::clone(&under_way);
        thread::spawn(move || {
            loop {
                thread::sleep(CHECK_EVERY);
                check(&watched.lock().expect("no thread panics with it"), &*again);
            }
        });
        Watch(under_way)
    }

    /// Notes that this thread begins a step.
    pub fn step(&self, seed: u64, step: u64) {
        CURRENT.set(Some((seed, step)));
        self.0.lock().expect("no thread panics with it").insert(seed, (step, Instant::now()));
    }

    /// Notes that a seed's run is over.
    pub fn done(&self, seed: u64) {
        CURRENT.set(None);
        self.0.lock().expect("no thread panics with it").remove(&seed);
    }
}

fn check(under_way: &UnderWay, again: &impl Fn(u64) -> String) {
    for (seed, (step, since)) in under_way {
        if since.elapsed() > STEP_TIME_MAX {
            let reason = format!("the step did not end within {} s", STEP_TIME_MAX.as_secs());
            fail(*seed, *step, &reason, &again(*seed));
        }
    }
}

fn fail(seed: u64, step: u64, reason: &str, again: &str) -> ! {
    note(format_args!("seed {seed} failed at step {step}: {reason}\nreplay it:  {again}"));
    process::exit(1);
}
