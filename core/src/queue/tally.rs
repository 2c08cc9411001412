//! Tallies: how many jobs are in which state, of one kind or of a block of the table.
//!
//! They are not changed where a job's state is: the table notes which jobs are handed out to be changed, and after each
//! transition compares their states with those that they were counted under. So no transition can forget to count.

use crate::outcome::FinalStatus;

/// The state of a job, without what belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// It waits for an instant.
    Scheduled,
    /// It waits for a node.
    Queued,
    Leased,
    Final(FinalStatus),
}

/// Numbers of jobs by state.
pub type Tally = Counted<u32>;

/// Numbers of the jobs of one block of the table by state.
pub(super) type BlockTally = Counted<u16>;

/// Numbers of jobs by state, each of type `N`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counted<N>([N; Status::ALL.len()]);

impl Status {
    pub const ALL: [Status; 9] = [
        Status::Scheduled,
        Status::Queued,
        Status::Leased,
        Status::Final(FinalStatus::Completed),
        Status::Final(FinalStatus::Failed),
        Status::Final(FinalStatus::Dead),
        Status::Final(FinalStatus::Cancelled),
        Status::Final(FinalStatus::Expired),
        Status::Final(FinalStatus::Superseded),
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Scheduled => "scheduled",
            Status::Queued => "queued",
            Status::Leased => "leased",
            Status::Final(status) => status.as_str(),
        }
    }

    /// The inverse of [`Status::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Status::ALL.into_iter().find(|status| status.as_str() == word)
    }

    const fn index(self) -> usize {
        match self {
            Status::Scheduled => 0,
            Status::Queued => 1,
            Status::Leased => 2,
            Status::Final(status) => 3 + status as usize,
        }
    }
}

impl<N: Copy + TryFrom<u64> + Into<u64>> Counted<N> {
    pub fn get(&self, status: Status) -> u64 {
        self.0[status.index()].into()
    }

    /// Jobs in any state.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| (*count).into()).sum()
    }

    /// Moves a job from the state that it was counted under, if it was, to the one that it is in, if it is held.
    pub(super) fn count(&mut self, before: Option<Status>, after: Option<Status>) {
        if let Some(before) = before {
            let count = self.get(before).checked_sub(1).expect("it was counted under this state");
            self.set(before, count);
        }
        if let Some(after) = after {
            self.set(after, self.get(after) + 1);
        }
    }

    fn set(&mut self, status: Status, count: u64) {
        self.0[status.index()] = N::try_from(count).ok().expect("the type has room for all jobs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_number_and_a_word_of_its_own() {
        let mut tally = Tally::default();
        for (index, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status.index(), index);
            assert_eq!(Status::from_word(status.as_str()), Some(status));
            tally.count(None, Some(status));
        }
        assert!(Status::ALL.into_iter().all(|status| tally.get(status) == 1) && tally.total() == 9);
        assert!(FinalStatus::ALL.into_iter().all(|status| Status::ALL.contains(&Status::Final(status))));
        assert_eq!(Status::from_word("final"), None);
    }

    #[test]
    #[should_panic(expected = "was counted")]
    fn a_job_that_was_not_counted_cannot_leave() {
        Tally::default().count(Some(Status::Leased), None);
    }
}
