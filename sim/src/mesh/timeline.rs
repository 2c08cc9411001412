//! Timeline: a run over time, sampled from the world between two steps. Runs without a page have none.

use super::fault::Injected;
use super::world::{Tally, World};
use crate::agenda::{Micros, SECOND};

/// Samples at most: about two for each pixel of a chart. Beyond, every second one is removed, and their distance
/// doubles.
const SAMPLES_MAX: usize = 1_200;

/// Bands at most: hundreds of hub processes. Later ones are counted only.
const BANDS_MAX: usize = 2_000;

/// One sample. Counts are totals since the start of the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Virtual time.
    pub at: Micros,
    /// Jobs that wait, in the durable state.
    pub waiting: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Submits that were acknowledged.
    pub acknowledged: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Replies with a status of 2xx, 4xx and 5xx.
    pub replies: [u64; 3],
    /// Calls that had no reply.
    pub lost: u64,
    /// Faults that were injected, by name.
    pub injected: Injected,
}

/// The state of the hub over a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A process is running, with this id.
    Up(u64),
    /// No process is running.
    Down,
    /// The journal does not accept records.
    JournalDown,
}

/// A state, and how long it lasted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Band {
    /// The state.
    pub state: State,
    /// When it began.
    pub from: Micros,
    /// When it ended.
    pub to: Micros,
}

/// A run over time: call [`Timeline::update`] after each step, [`Timeline::end`] after the last one.
#[derive(Clone, Debug)]
pub struct Timeline {
    every: Micros,
    next_at: Micros,
    samples: Vec<Sample>,
    bands: Vec<Band>,
    left_out: u64,
    held: (u64, u64),
    hub: (State, Micros),
    journal_down_from: Option<Micros>,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline {
            every: SECOND,
            next_at: 0,
            samples: Vec::new(),
            bands: Vec::new(),
            left_out: 0,
            held: (0, 0),
            hub: (State::Down, 0),
            journal_down_from: None,
        }
    }
}

impl Timeline {
    /// Notes changes of the hub's state, and takes a sample each second (less often in a long run).
    pub fn update(&mut self, world: &World) {
        let now = world.now();
        self.held = world.held();
        self.set_hub_state(now, world.process_id().map_or(State::Down, State::Up));
        self.set_journal_down(now, world.is_journal_down());
        if now >= self.next_at {
            self.next_at = (now / self.every + 1) * self.every;
            self.sample(now, world.tally());
        }
    }

    /// Ends the last band and takes the last sample.
    pub fn end(&mut self, tally: &Tally) {
        let now = tally.virtual_us;
        self.set_journal_down(now, false);
        self.band(self.hub.0, self.hub.1, now);
        self.sample(now, tally.clone());
    }

    /// The samples, in order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The hub's states, in the order of their ends.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Bands beyond the limit, which are not kept.
    pub fn bands_left_out(&self) -> u64 {
        self.left_out
    }

    fn set_hub_state(&mut self, now: Micros, state: State) {
        let (before, from) = self.hub;
        if state != before {
            self.band(before, from, now);
            self.hub = (state, now);
        }
    }

    fn set_journal_down(&mut self, now: Micros, is_down: bool) {
        match self.journal_down_from {
            None if is_down => self.journal_down_from = Some(now),
            Some(from) if !is_down => {
                self.journal_down_from = None;
                self.band(State::JournalDown, from, now);
            }
            _ => {}
        }
    }

    fn band(&mut self, state: State, from: Micros, to: Micros) {
        if self.bands.len() == BANDS_MAX {
            self.left_out += 1;
        } else if from < to {
            self.bands.push(Band { state, from, to });
        }
    }

    fn sample(&mut self, at: Micros, tally: Tally) {
        let (waiting, leased) = self.held;
        let replies = |first: &str| {
            let is_of = |mark: &str| mark.strip_prefix("status ").is_some_and(|status| status.starts_with(first));
            tally.marks.iter().filter(|(mark, _)| is_of(mark)).map(|(_, count)| count).sum()
        };
        self.samples.push(Sample {
            at,
            waiting,
            leased,
            acknowledged: tally.acknowledged,
            ended: tally.ended,
            replies: ["2", "4", "5"].map(replies),
            lost: tally.marks.get("reply lost").copied().unwrap_or(0),
            injected: tally.injected,
        });
        if self.samples.len() > SAMPLES_MAX {
            self.every *= 2;
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(seconds: u64, ended: u64) -> Tally {
        let marks = [("status 200", 3), ("status 404", 1), ("status 429", 4), ("reply lost", 5)].into();
        Tally { virtual_us: seconds * SECOND, ended, marks, ..Tally::default() }
    }

    #[test]
    fn bands_follow_each_other_and_the_last_ends_with_the_run() {
        let mut timeline = Timeline::default();
        for (now, state) in [(0, State::Up(1)), (5, State::Up(1)), (7, State::Down), (9, State::Up(2))] {
            timeline.set_hub_state(now * SECOND, state);
            timeline.set_journal_down(now * SECOND, now == 5);
        }
        timeline.end(&tally(20, 1));
        let bands: Vec<_> =
            timeline.bands().iter().map(|band| (band.state, band.from / SECOND, band.to / SECOND)).collect();
        let expected = [(State::Up(1), 0, 7), (State::JournalDown, 5, 7), (State::Down, 7, 9), (State::Up(2), 9, 20)];
        assert_eq!(bands, expected);
    }

    #[test]
    fn replies_are_counted_by_the_class_of_their_status() {
        let mut timeline = Timeline::default();
        timeline.end(&tally(20, 1));
        let [sample] = timeline.samples() else { panic!("there is one") };
        assert_eq!((sample.replies, sample.lost), ([3, 5, 0], 5));
    }

    #[test]
    fn a_long_run_has_as_many_points_as_a_short_one_further_apart() {
        let mut timeline = Timeline::default();
        for second in 0..10 * SAMPLES_MAX as u64 {
            timeline.sample(second * SECOND, tally(second, second));
        }
        let samples = timeline.samples();
        assert!(samples.len() <= SAMPLES_MAX, "{}", samples.len());
        assert!(samples.is_sorted_by_key(|sample| sample.at) && samples[0].at == 0);
        assert!(samples.iter().all(|sample| sample.ended == sample.at / SECOND), "each is of its own instant");
    }
}
