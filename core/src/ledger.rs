//! The ledger: how many bytes clients make the hub keep, by what they are kept for.
//!
//! Every byte is on one account. A job's bytes move with its state; a move never refuses, so a lease always finds its
//! way back to the queue. What brings new bytes is refused, or makes older ones go, at the account's limit:
//!
//! | account | limit | at the limit |
//! |---|---|---|
//! | waiting, leased | `queue_bytes_max`, over both | a submit is refused |
//! | retained | `retained_bytes_max` | the oldest final jobs go |
//! | dead | `dead_bytes_max` | the oldest dead jobs go |
//! | answers | `answers_bytes_max` | the oldest answers are forgotten, their keys are kept |
//! | nodes | `nodes_bytes_max` | dead nodes go, then a heartbeat that says more is refused |
//! | shared | [`SHARED_BYTES_MAX`] | final jobs go while what only they use takes over half, then a submit is refused |
//! | waiters | [`WAITERS_MAX`], [`WAITER_PLACES_MAX`] | a long poll is answered at once |
//!
//! [`WAITERS_MAX`]: crate::limits::WAITERS_MAX
//! [`WAITER_PLACES_MAX`]: crate::limits::WAITER_PLACES_MAX
//!
//! What a job gets after it was admitted, a lease and the record of its latest attempt, is not refused: by these the
//! unfinished jobs may be beyond their limit. Then a job's earlier attempts are forgotten.
//!
//! Sizes are those in memory: constants of [`crate::limits`] for the records, which a test measures, and the texts and
//! payloads with their allocations' headers. A payload that a job and an answer share counts on both accounts.

use crate::limits::{Limits, SHARED_BYTES_MAX, WAITERS_BYTES_MAX};

/// What bytes are kept for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Account {
    /// Jobs that wait for an instant or for a node.
    Waiting,
    /// Jobs under lease.
    Leased,
    /// Final jobs that are readable, dead ones not counted.
    Retained,
    /// Dead jobs.
    Dead,
    /// Idempotency keys, and what they answer.
    Answers,
    /// What nodes say of themselves.
    Nodes,
    /// Names of kinds, zones and requirements that jobs share.
    Shared,
    /// Parked long polls.
    Waiters,
}

/// How much is on each account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    bytes: [u64; Account::ALL.len()],
}

impl Account {
    /// All accounts.
    pub const ALL: [Account; 8] = [
        Account::Waiting,
        Account::Leased,
        Account::Retained,
        Account::Dead,
        Account::Answers,
        Account::Nodes,
        Account::Shared,
        Account::Waiters,
    ];

    /// How much may be on it. Of unfinished jobs that is one limit, for those that wait and those under lease together.
    pub fn bytes_max(self, limits: &Limits) -> u64 {
        match self {
            Account::Waiting | Account::Leased => limits.queue_bytes_max,
            Account::Retained => limits.retained_bytes_max,
            Account::Dead => limits.dead_bytes_max,
            Account::Answers => limits.answers_bytes_max,
            Account::Nodes => limits.nodes_bytes_max,
            Account::Shared => SHARED_BYTES_MAX,
            Account::Waiters => WAITERS_BYTES_MAX,
        }
    }

    /// The word for it.
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
        }
    }
}

impl Ledger {
    /// Bytes on an account.
    pub fn get(&self, account: Account) -> u64 {
        self.bytes[account as usize]
    }

    /// Bytes of unfinished jobs: what `queue_bytes_max` is about.
    pub fn unfinished(&self) -> u64 {
        self.get(Account::Waiting) + self.get(Account::Leased)
    }

    /// Bytes of what survives a restart: all but the parked long polls.
    pub(crate) fn durable(&self) -> u64 {
        self.total() - self.get(Account::Waiters)
    }

    /// Bytes on all accounts.
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

    /// Takes `before` bytes off one account and puts `after` bytes on another.
    pub(crate) fn transfer(&mut self, (from, before): (Account, u64), (to, after): (Account, u64)) {
        self.release(from, before);
        self.charge(to, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_their_places() {
        for (place, account) in Account::ALL.into_iter().enumerate() {
            assert_eq!(account as usize, place);
        }
    }

    #[test]
    fn bytes_move_from_account_to_account() {
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
        assert_eq!((ledger.total(), ledger.durable()), (255, 255 - (1 << Account::Waiters as u32)));
    }

    #[test]
    fn each_account_has_its_limit() {
        let limits = Limits {
            queue_bytes_max: 10,
            retained_bytes_max: 20,
            dead_bytes_max: 30,
            answers_bytes_max: 40,
            nodes_bytes_max: 50,
            ..Limits::default()
        };
        let expected = [10, 10, 20, 30, 40, 50, SHARED_BYTES_MAX, WAITERS_BYTES_MAX];
        assert_eq!(Account::ALL.map(|account| account.bytes_max(&limits)), expected);
    }

    #[test]
    #[should_panic(expected = "was charged")]
    fn more_than_was_charged_is_not_released() {
        Ledger::default().release(Account::Dead, 1);
    }
}
