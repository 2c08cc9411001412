//! Stalls: writes that do not return, as other threads see them. A write costs two stores and two readings of the clock.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whether a thread's write is under way, and since when.
#[derive(Clone, Default, Debug)]
pub struct WriteWatch {
    /// Microseconds of the process's stopwatch, plus one; 0 while no write is under way.
    began_at: Arc<AtomicU64>,
}

impl WriteWatch {
    /// Runs a write.
    pub fn watch<T>(&self, write: impl FnOnce() -> T) -> T {
        self.began_at.store(stopwatch_us() + 1, Ordering::Relaxed);
        let written = write();
        self.began_at.store(0, Ordering::Relaxed);
        written
    }

    /// How long the write has been under way; zero if there is none.
    pub fn age(&self) -> Duration {
        match self.began_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began_at => Duration::from_micros((stopwatch_us() + 1).saturating_sub(began_at)),
        }
    }
}

/// The watches of everything that is written beside the journal.
#[derive(Clone, Default, Debug)]
pub struct Watches {
    pub audit: WriteWatch,
    pub alerts: WriteWatch,
    /// The log file.
    pub log: WriteWatch,
    /// The log on standard error.
    pub stderr: WriteWatch,
}

impl Watches {
    /// How long a write of each has been under way, in the order of [`WATCHED`](crate::service::WATCHED).
    pub fn ages(&self) -> [Duration; 4] {
        [&self.audit, &self.alerts, &self.log, &self.stderr].map(WriteWatch::age)
    }
}

fn stopwatch_us() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_an_age_only_while_it_is_under_way() {
        let watch = WriteWatch::default();
        assert_eq!(watch.age(), Duration::ZERO);
        watch.watch(|| {
            let before = watch.age();
            while watch.age() <= before {}
        });
        assert_eq!(watch.age(), Duration::ZERO);
    }
}
