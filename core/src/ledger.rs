//! The ledger: how many bytes clients make the hub hold, by account.
//!
//! Every byte is on one account. A job's bytes are transferred with its state; a transfer is never refused, so a job
//! whose lease ended always returns to the queue. At an account's limit new bytes are refused, or older ones are
//! dropped:
//!
//! | account | limit | at the limit |
//! |---|---|---|
//! | waiting, leased | `queue_bytes_max`, over both | a submit is refused |
//! | leased | `inflight_bytes_max` | a pull gets no job |
//! | retained | `retained_bytes_max` | the oldest final jobs are dropped |
//! | dead | `dead_bytes_max` | the oldest dead jobs are dropped |
//! | answers | `answers_bytes_max` | the oldest answers are dropped, their keys are kept |
//! | nodes | `nodes_bytes_max` | dead nodes are evicted, then a heartbeat that needs more is refused |
//! | shared | [`SHARED_BYTES_MAX`] | final jobs are dropped while they alone use over half; then a submit is refused |
//! | orphans | `orphans_bytes_max` | the oldest results are dropped |
//! | waiters | [`WAITERS_MAX`], [`WAITER_PLACES_MAX`] | a long poll is answered at once |
//!
//! [`WAITERS_MAX`]: crate::limits::WAITERS_MAX
//! [`WAITER_PLACES_MAX`]: crate::limits::WAITER_PLACES_MAX
//! An admitted job is never refused a lease for the bytes of unfinished jobs, nor the record of its latest attempt: these may
//! bring them above their limit. Then the earlier attempts of a job are dropped.
//!
//! Sizes are those in memory: constants of [`crate::limits`] for the records, which a test checks, and texts and
//! payloads with the headers of their allocations. A payload that a job and an answer share is charged to both
//! accounts.

use crate::limits::{Limits, SHARED_BYTES_MAX, WAITERS_BYTES_MAX};

/// What bytes are held for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Account {
    /// Jobs that wait for an instant or for a node.
    Waiting,
    /// Jobs under lease.
    Leased,
    /// Final jobs that are retained, dead ones not counted.
    Retained,
    /// Dead jobs that are retained.
    Dead,
    /// Idempotency keys and their answers.
    Answers,
    /// Nodes, with what they report.
    Nodes,
    /// Names of kinds, zones and requirements that jobs share.
    Shared,
    /// Parked long polls.
    Waiters,
    /// Results of unknown jobs.
    Orphans,
}

/// The bytes on each account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    bytes: [u64; Account::ALL.len()],
}

impl Account {
    pub const ALL: [Account; 9] = [
        Account::Waiting,
        Account::Leased,
        Account::Retained,
        Account::Dead,
        Account::Answers,
        Account::Nodes,
        Account::Shared,
        Account::Waiters,
        Account::Orphans,
    ];

    /// The limit of bytes on it. Waiting and leased jobs share one limit, and leased ones may have a smaller one of their own.
    pub fn bytes_max(self, limits: &Limits) -> u64 {
        match self {
            Account::Waiting => limits.queue_bytes_max,
            Account::Leased => limits.queue_bytes_max.min(limits.inflight_bytes_max),
            Account::Retained => limits.retained_bytes_max,
            Account::Dead => limits.dead_bytes_max,
            Account::Answers => limits.answers_bytes_max,
            Account::Nodes => limits.nodes_bytes_max,
            Account::Shared => SHARED_BYTES_MAX,
            Account::Waiters => WAITERS_BYTES_MAX,
            Account::Orphans => limits.orphans_bytes_max,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Account::Waiting => "waiting",
            Account::Leased => "leased",
            Account::Retained => "retained",
            Account::Dead => "dead",
            Account::Answers => "answers",
            Account::Nodes => "nodes",
            Account::Shared => "shared",
            Account::Waiters => "waiters",
            Account::Orphans => "orphans",
        }
    }
}

impl Ledger {
    pub fn get(&self, account: Account) -> u64 {
        self.bytes[account as usize]
    }

    /// Bytes of unfinished jobs, which `queue_bytes_max` limits.
    pub fn unfinished(&self) -> u64 {
        self.get(Account::Waiting) + self.get(Account::Leased)
    }

    /// Bytes of durable state: of all but the parked long polls.
    pub(crate) fn durable(&self) -> u64 {
        self.total() - self.get(Account::Waiters)
    }

    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    pub(crate) fn charge(&mut self, account: Account, bytes: u64) {
        self.bytes[account as usize] += bytes;
    }

    pub(crate) fn release(&mut self, account: Account, bytes: u64) {
        let held = &mut self.bytes[account as usize];
        *held = held.checked_sub(bytes).expect("what is released was charged");
    }

    /// Releases `before` bytes on one account and charges `after` bytes to another.
    pub(crate) fn transfer(&mut self, (from, before): (Account, u64), (to, after): (Account, u64)) {
        self.release(from, before);
        self.charge(to, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_index_is_its_place_among_all() {
        for (place, account) in Account::ALL.into_iter().enumerate() {
            assert_eq!(account as usize, place);
        }
    }

    #[test]
    fn bytes_are_transferred_between_accounts() {
        let mut ledger = Ledger::default();
        ledger.charge(Account::Waiting, 10);
        ledger.transfer((Account::Waiting, 10), (Account::Leased, 15));
        assert_eq!((ledger.get(Account::Waiting), ledger.unfinished(), ledger.total()), (0, 15, 15));
        ledger.release(Account::Leased, 15);
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn what_survives_a_restart_is_all_but_the_long_polls() {
        let mut ledger = Ledger::default();
        for account in Account::ALL {
            ledger.charge(account, 1 << account as u32);
        }
        assert_eq!((ledger.total(), ledger.durable()), (511, 511 - (1 << Account::Waiters as u32)));
    }

    #[test]
    fn each_account_has_its_limit() {
        let limits = Limits {
            queue_bytes_max: 10,
            inflight_bytes_max: 5,
            retained_bytes_max: 20,
            dead_bytes_max: 30,
            answers_bytes_max: 40,
            nodes_bytes_max: 50,
            orphans_bytes_max: 60,
            ..Limits::default()
        };
        let expected = [10, 5, 20, 30, 40, 50, SHARED_BYTES_MAX, WAITERS_BYTES_MAX, 60];
        assert_eq!(Account::ALL.map(|account| account.bytes_max(&limits)), expected);
    }

    #[test]
    #[should_panic(expected = "was charged")]
    fn to_release_more_than_was_charged_panics() {
        Ledger::default().release(Account::Dead, 1);
    }
}
