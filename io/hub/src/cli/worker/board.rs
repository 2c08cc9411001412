//! Board: the operator's request (run, drain, abort), and the state of each slot.
//!
//! A slot calls [`Board::idle`] before it pulls a job, [`Board::busy`] when it has one, [`Board::delivering`] when that
//! has a result, [`Board::end`] when it ends.
//! The main thread sleeps in [`Board::wait_until_quiet`].

use crossbeam_channel::{Receiver, Sender};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long an open pull is waited for when the worker stops. A hub with a job answers at once; an older pull is parked
/// at the hub, which drops it when the connection closes.
const PULL_GRACE: Duration = Duration::from_millis(250);

/// How long results may still be delivered after the worker was asked to stop: less than what supervisors give a
/// process before they kill it, since those that are left go to a file.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);

/// How long giving killed jobs back to the hub may take.
const ABORT_MAX: Duration = Duration::from_secs(5);

/// What the operator wishes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wish {
    /// Run jobs.
    Run,
    /// Finish the running jobs.
    Drain,
    /// Kill the running jobs and give them back.
    Abort,
}

/// What came of the jobs so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Completed.
    pub done: u64,
    /// Not completed.
    pub failed: u64,
    /// Lost their lease before they ended.
    pub lost: u64,
    /// Were cancelled at the hub.
    pub cancelled: u64,
    /// Were given back because the worker stops.
    pub released: u64,
    /// Ended with a result that the hub refused.
    pub refused: u64,
    /// Ended with a result that was not delivered and went to a file.
    pub undelivered: u64,
}

/// The board.
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wish: Wish,
    drained_at: Option<Instant>,
    aborted_at: Option<Instant>,
    failure: Option<String>,
    slots: Vec<Slot>,
    tally: Tally,
    is_hub_away: bool,
    /// Why the hub gives this node no jobs.
    withheld: Option<String>,
}

/// The state of a slot.
enum Slot {
    /// It waits for a job, since then.
    Idle(Instant),
    /// It runs a job; a message on the channel kills the job.
    Busy(Sender<()>),
    /// It submits the result of a job, since then.
    Delivering(Instant),
    /// It has ended.
    Ended,
}

impl Board {
    /// A board for this many slots.
    pub fn new(slots: usize) -> Self {
        let slots = (0..slots).map(|_| Slot::Idle(Instant::now())).collect();
        let state = State {
            wish: Wish::Run,
            drained_at: None,
            aborted_at: None,
            failure: None,
            slots,
            tally: Tally::default(),
            is_hub_away: false,
            withheld: None,
        };
        Board { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.lock().slots.len()
    }

    /// How many slots have a job.
    pub fn running(&self) -> usize {
        self.lock().slots.iter().filter(|slot| matches!(slot, Slot::Busy(_))).count()
    }

    /// What came of the jobs so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Counts a job's end.
    pub fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.lock().tally);
    }

    /// What the operator wishes.
    pub fn wish(&self) -> Wish {
        self.lock().wish
    }

    /// The operator pressed ctrl-C: the first time drains, the second aborts.
    pub fn interrupt(&self) -> Wish {
        let mut state = self.lock();
        if state.wish == Wish::Run {
            state.drain();
        } else {
            state.wish = Wish::Abort;
            state.aborted_at.get_or_insert_with(Instant::now);
            for slot in &state.slots {
                if let Slot::Busy(kill) = slot {
                    // The channel holds one message, and one is enough.
                    let _ = kill.try_send(());
                }
            }
        }
        self.changed.notify_all();
        state.wish
    }

    /// Lets the worker stop when the running jobs are finished.
    pub fn drain(&self) {
        self.lock().drain();
        self.changed.notify_all();
    }

    /// Lets the worker stop like [`Board::drain`], as a failure with this reason, the first of which counts.
    pub fn fail(&self, reason: String) {
        let mut state = self.lock();
        state.failure.get_or_insert(reason);
        state.drain();
        self.changed.notify_all();
    }

    /// Why the worker stopped, if that is a failure.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Marks a slot as idle before a pull; returns whether it may pull.
    pub fn idle(&self, slot: usize) -> bool {
        let mut state = self.lock();
        state.slots[slot] = Slot::Idle(Instant::now());
        self.changed.notify_all();
        state.wish == Wish::Run
    }

    /// Marks a slot as busy; a message on the receiver kills its job.
    pub fn busy(&self, slot: usize) -> Receiver<()> {
        let (kill, killed) = crossbeam_channel::bounded(1);
        let mut state = self.lock();
        if state.wish == Wish::Abort {
            // The channel is new and holds one message.
            let _ = kill.try_send(());
        }
        state.slots[slot] = Slot::Busy(kill);
        self.changed.notify_all();
        killed
    }

    /// Marks a slot as delivering the result of its job.
    pub fn delivering(&self, slot: usize) {
        self.lock().slots[slot] = Slot::Delivering(Instant::now());
        self.changed.notify_all();
    }

    /// Marks a slot as ended.
    pub fn end(&self, slot: usize) {
        self.lock().slots[slot] = Slot::Ended;
        self.changed.notify_all();
    }

    /// Sleeps, less long if the operator's wish changes to one that is beyond `wish`.
    pub fn pause(&self, duration: Duration, wish: Wish) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, duration, |state| state.wish <= wish);
        drop(waited.expect("no thread panics while it holds the board"));
    }

    /// Records whether the hub is reachable; returns whether that changed.
    pub fn hub_is_away(&self, is_away: bool) -> bool {
        std::mem::replace(&mut self.lock().is_hub_away, is_away) != is_away
    }

    /// Records why the hub gives this node no jobs, if it does not; returns whether that changed.
    pub fn jobs_are_withheld(&self, reason: Option<&str>) -> bool {
        let withheld = &mut self.lock().withheld;
        let is_new = withheld.as_deref() != reason;
        if is_new {
            *withheld = reason.map(str::to_owned);
        }
        is_new
    }

    /// Sleeps until no job runs and none will start.
    pub fn wait_until_quiet(&self) {
        let mut state = self.lock();
        loop {
            let Some(timeout) = state.until_quiet(Instant::now()) else { return };
            state = self.changed.wait_timeout(state, timeout).expect("no thread panics while it holds the board").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the board")
    }
}

impl State {
    fn drain(&mut self) {
        self.wish = self.wish.max(Wish::Drain);
        self.drained_at.get_or_insert_with(Instant::now);
    }

    /// How long until the next check whether everything is quiet; `None` if it is.
    fn until_quiet(&self, now: Instant) -> Option<Duration> {
        const FOREVER: Duration = Duration::from_secs(3_600);
        let abort_left = self.aborted_at.map(|at| ABORT_MAX.saturating_sub(now - at));
        if abort_left == Some(Duration::ZERO) {
            return None;
        }
        let left = self.slots.iter().filter_map(|slot| match slot {
            Slot::Ended => None,
            Slot::Busy(_) => Some(FOREVER),
            Slot::Idle(_) | Slot::Delivering(_) if self.wish == Wish::Run => Some(FOREVER),
            Slot::Delivering(since) => {
                let since = self.drained_at.map_or(*since, |at| at.max(*since));
                Some(DELIVERY_GRACE.saturating_sub(now - since)).filter(|left| !left.is_zero())
            }
            Slot::Idle(since) => Some(PULL_GRACE.saturating_sub(now - *since)).filter(|left| !left.is_zero()),
        });
        left.min().map(|left| abort_left.map_or(left, |abort| abort.min(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_quiet(board: &Board, later: Duration) -> Option<Duration> {
        board.lock().until_quiet(Instant::now() + later)
    }

    #[test]
    fn a_worker_that_is_not_asked_to_stop_is_never_quiet() {
        let board = Board::new(2);
        assert!(until_quiet(&board, Duration::from_secs(60)).is_some());
        board.end(0);
        assert!(until_quiet(&board, Duration::from_secs(60)).is_some());
        board.end(1);
        assert_eq!(until_quiet(&board, Duration::ZERO), None);
    }

    #[test]
    fn draining_waits_for_running_jobs_and_for_pulls_that_were_just_sent() {
        let board = Board::new(2);
        let killed = board.busy(0);
        assert_eq!(board.interrupt(), Wish::Drain);
        assert!(killed.try_recv().is_err(), "draining kills nothing");
        assert!(!board.idle(1), "no slot may ask for another job");
        assert!(until_quiet(&board, Duration::from_secs(60)).is_some(), "one job runs");
        board.end(0);
        assert!(until_quiet(&board, Duration::ZERO).is_some(), "the other slot's pull is young");
        assert_eq!(until_quiet(&board, PULL_GRACE), None);
    }

    #[test]
    fn a_result_that_the_hub_does_not_take_is_waited_for_a_limited_time_once_the_worker_stops() {
        let board = Board::new(1);
        board.busy(0);
        board.delivering(0);
        assert!(until_quiet(&board, DELIVERY_GRACE * 1_000).is_some(), "without a request to stop it is tried on");
        board.fail("the first".to_owned());
        board.fail("the second".to_owned());
        assert_eq!((board.wish(), board.failure()), (Wish::Drain, Some("the first".to_owned())));
        assert!(until_quiet(&board, Duration::ZERO).is_some());
        assert_eq!(until_quiet(&board, DELIVERY_GRACE), None);
    }

    #[test]
    fn a_second_interrupt_kills_running_jobs_and_waits_a_limited_time() {
        let board = Board::new(1);
        let killed = board.busy(0);
        board.interrupt();
        assert_eq!(board.interrupt(), Wish::Abort);
        assert_eq!(killed.try_recv(), Ok(()));
        assert!(until_quiet(&board, Duration::ZERO).is_some());
        assert_eq!(until_quiet(&board, ABORT_MAX), None);
        assert_eq!(board.busy(0).try_recv(), Ok(()), "a job that came too late is killed too");
    }

    #[test]
    fn only_a_change_of_the_hubs_reachability_is_reported() {
        let board = Board::new(1);
        let news = [false, true, true, false].map(|is_away| board.hub_is_away(is_away));
        assert_eq!(news, [false, true, false, true]);
    }
}
