//! The chain of outcomes: one hash over all decisions, so that two runs of a journal show where they differ.
//!
//! Each outcome that changed something is folded in whole, word by word: which lease was given until when, the new end
//! of every extended lease, and how many jobs, keys and nodes there are afterwards. The words of a group are each
//! multiplied by a factor of their place, independently of each other, and summed to 128 bits. Both halves of the sum
//! are folded one after the other into two accumulators of 64 bits, by a multiplication to 128 bits whose halves are
//! combined by exclusive or (as wyhash and similar hashes do; Wang Yi, 2019): about three nanoseconds each. This does
//! not withstand an attacker and need not: who can write the journal has the hub's key. What is shown, and stored in
//! the journal at the start and end of a segment, is a keyed hash (SipHash-2-4) of both accumulators, computed once per
//! batch.

use crate::ids::JobSeq;
use crate::outcome::{Completed, CompletedStatus, Extended, Outcome, Submitted};

/// The accumulators that all outcomes so far were folded into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chain([u64; 2]);

/// Odd numbers about half of whose bits are ones: the first digits of the golden ratio and of the square root of two.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xb504_f333_f9de_6485];

/// Words of an outcome itself, its leases not counted.
const OUTCOME_WORDS: usize = 4;
/// Words of the counts after it.
pub(crate) const COUNT_WORDS: usize = 11;

/// A factor for each place in a group of words. The factors are unrelated, so that the sum changes if one count is a
/// little higher and another a little lower.
const PLACE_FACTORS: [u64; OUTCOME_WORDS + COUNT_WORDS] = {
    let mut factors = [0; OUTCOME_WORDS + COUNT_WORDS];
    let mut place = 0;
    while place < factors.len() {
        factors[place] = mix((place as u64 + 1).wrapping_mul(FACTORS[0])) | 1;
        place += 1;
    }
    factors
};

impl Chain {
    /// Before the first outcome.
    pub const START: Chain = Chain([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344]);

    /// The accumulators, for the snapshot and the keyed hash.
    pub fn words(self) -> [u64; 2] {
        self.0
    }

    /// The chain of a snapshot.
    pub fn from_words(words: [u64; 2]) -> Chain {
        Chain(words)
    }

    /// Folds in one word.
    fn fold(&mut self, word: u64) {
        let [one, other] = self.0;
        self.0 = [multiply(one ^ word, FACTORS[0]), multiply(other.rotate_left(23) ^ word, FACTORS[1]) ^ one];
    }

    /// Folds in an outcome with its leases, and the counts after it. O(leases).
    pub fn fold_outcome(&mut self, outcome: &Outcome, counts: [u64; COUNT_WORDS]) {
        let outcome_words = match outcome {
            Outcome::Done => [1, 0, 0, 0],
            Outcome::Heard { node } => [2, node.get().into(), 0, 0],
            Outcome::Submitted(Submitted::Accepted { job, supersedes, replaces }) => {
                let number = |job: &Option<JobSeq>| job.map_or(0, JobSeq::get);
                [3, job.get(), number(supersedes), number(replaces)]
            }
            Outcome::Submitted(Submitted::InProgress { job } | Submitted::Final { job, .. }) => [4, job.get(), 0, 0],
            Outcome::Pulled(pulled) => {
                for leased in &pulled.leases {
                    self.fold_all([leased.lease.job.get(), leased.lease.generation.into(), leased.until.as_millis()]);
                }
                [5, pulled.leases.len() as u64, pulled.node.map_or(0, |node| 1 + u64::from(node.get())), 0]
            }
            Outcome::Extended(extended) => {
                for lease in extended {
                    self.fold_all(match lease {
                        Extended::Until { until, .. } => [1, until.as_millis()],
                        Extended::LeaseLost => [2, 0],
                        Extended::Cancelled => [3, 0],
                        Extended::Revoked => [4, 0],
                    });
                }
                [6, extended.len() as u64, 0, 0]
            }
            Outcome::Completed(Completed { job, status, .. }) => match status {
                CompletedStatus::Final(status) => [7, job.get(), *status as u64, 0],
                CompletedStatus::RetryScheduled(at) => [8, job.get(), at.as_millis(), 0],
                CompletedStatus::Acknowledged => [13, job.get(), 0, 0],
            },
            Outcome::Refused(_) => [9, 0, 0, 0],
            Outcome::Reclaimed(jobs) => {
                jobs.iter().for_each(|job| self.fold_all([job.get()]));
                [12, jobs.len() as u64, 0, 0]
            }
            Outcome::Released(leases) => {
                leases.iter().for_each(|released| self.fold_all([*released as u64]));
                [14, leases.len() as u64, 0, 0]
            }
            Outcome::KindSet { version } => [15, *version, 0, 0],
            Outcome::ActBegun { act, matched } => [16, (*act).into(), *matched, 0],
            Outcome::Parked { orphan, .. } => [17, *orphan, 0, 0],
            Outcome::PolicyAdded { version, .. } => [18, *version, 0, 0],
            Outcome::PolicyActivated { version, previous } => [19, *version, *previous, 0],
        };
        let mut words = [0; OUTCOME_WORDS + COUNT_WORDS];
        words[..OUTCOME_WORDS].copy_from_slice(&outcome_words);
        words[OUTCOME_WORDS..].copy_from_slice(&counts);
        self.fold_all(words);
    }

    /// Folds in a group of words; their order matters.
    fn fold_all<const N: usize>(&mut self, words: [u64; N]) {
        const { assert!(N <= PLACE_FACTORS.len()) };
        let products = words.into_iter().zip(PLACE_FACTORS).map(|(word, factor)| u128::from(word) * u128::from(factor));
        let sum = products.fold(N as u128, u128::wrapping_add);
        self.fold(sum as u64);
        self.fold((sum >> 64) as u64);
    }
}

/// SplitMix64's output function (Steele, Lea, Flood, 2014).
const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

fn multiply(word: u64, factor: u64) -> u64 {
    let product = u128::from(word) * u128::from(factor);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaseRef, NodeIndex};
    use crate::outcome::{FinalStatus, Leased, Pulled, Released};
    use crate::time::{Millis, Timestamp};
    use std::collections::BTreeSet;

    fn folded(outcome: &Outcome) -> Chain {
        let mut chain = Chain::START;
        chain.fold_outcome(outcome, [0; COUNT_WORDS]);
        chain
    }

    /// Outcomes that differ from each other in one thing that a client is answered.
    #[test]
    fn every_part_of_an_outcome_changes_the_chain() {
        let leased = |job, generation, until| Leased {
            lease: LeaseRef { job: JobSeq::new(job), generation },
            until: Timestamp::from_millis(until),
        };
        let pulled = |node, leases: &[Leased]| {
            Outcome::Pulled(Pulled {
                node: Some(NodeIndex::new(node)),
                leases: leases.to_vec(),
                defer_ms: Millis::ZERO,
                withheld: None,
            })
        };
        let until = |ms| Extended::Until { until: Timestamp::from_millis(ms), is_last: false };
        let accepted = |supersedes: Option<u64>, replaces: Option<u64>| {
            let (supersedes, replaces) = (supersedes.map(JobSeq::new), replaces.map(JobSeq::new));
            Outcome::Submitted(Submitted::Accepted { job: JobSeq::new(9), supersedes, replaces })
        };
        let completed = |status| Outcome::Completed(Completed { job: JobSeq::new(1), status, is_duplicate: false });
        let retry = |ms| completed(CompletedStatus::RetryScheduled(Timestamp::from_millis(ms)));
        let outcomes = [
            Outcome::Done,
            Outcome::Heard { node: NodeIndex::new(0) },
            Outcome::Heard { node: NodeIndex::new(1) },
            accepted(None, None),
            accepted(Some(4), None),
            accepted(None, Some(4)),
            pulled(1, &[leased(1, 1, 10), leased(2, 1, 10)]),
            pulled(2, &[leased(1, 1, 10), leased(2, 1, 10)]),
            pulled(1, &[leased(2, 1, 10), leased(1, 1, 10)]),
            pulled(1, &[leased(1, 2, 10), leased(2, 1, 10)]),
            pulled(1, &[leased(1, 1, 10), leased(2, 1, 11)]),
            pulled(1, &[leased(1, 1, 10)]),
            Outcome::Reclaimed(vec![JobSeq::new(5), JobSeq::new(6)]),
            Outcome::Reclaimed(vec![JobSeq::new(6), JobSeq::new(5)]),
            Outcome::Extended(vec![until(5), until(6)]),
            Outcome::Extended(vec![until(5), until(7)]),
            Outcome::Extended(vec![until(6), until(5)]),
            Outcome::Extended(vec![until(5), Extended::LeaseLost]),
            Outcome::Extended(vec![until(5), Extended::Cancelled]),
            Outcome::Extended(vec![until(5), Extended::Revoked]),
            Outcome::Released(vec![Released::Given]),
            Outcome::Released(vec![Released::Acknowledged]),
            Outcome::KindSet { version: 1 },
            Outcome::KindSet { version: 2 },
            Outcome::ActBegun { act: 1, matched: 1 },
            Outcome::ActBegun { act: 2, matched: 1 },
            Outcome::ActBegun { act: 1, matched: 2 },
            Outcome::Parked { orphan: 1, is_duplicate: false },
            Outcome::Parked { orphan: 2, is_duplicate: false },
            Outcome::PolicyAdded { version: 2, is_duplicate: false },
            Outcome::PolicyAdded { version: 3, is_duplicate: false },
            Outcome::PolicyActivated { version: 2, previous: 1 },
            Outcome::PolicyActivated { version: 3, previous: 1 },
            Outcome::PolicyActivated { version: 2, previous: 3 },
            completed(CompletedStatus::Acknowledged),
            completed(CompletedStatus::Final(FinalStatus::Completed)),
            completed(CompletedStatus::Final(FinalStatus::Dead)),
            retry(5),
            retry(6),
        ];
        let chains: BTreeSet<_> = outcomes.iter().map(|outcome| folded(outcome).words()).collect();
        assert_eq!(chains.len(), outcomes.len());
    }

    #[test]
    fn the_order_of_words_changes_the_chain() {
        let mut chains = BTreeSet::new();
        for words in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [0, 1, 2], [0, 0, 3], [3, 0, 0]] {
            let mut chain = Chain::START;
            chain.fold_all(words);
            chains.insert(chain.words());
        }
        assert_eq!(chains.len(), 6);
    }

    /// Two runs of a journal that differ have a few jobs more in one count and a few less in another.
    #[test]
    fn a_small_difference_between_words_changes_the_chain() {
        let mut chains = BTreeSet::new();
        for digits in 0..7_usize.pow(6) {
            let words: [u64; 6] = std::array::from_fn(|place| 100 + (digits / 7_usize.pow(place as u32) % 7) as u64);
            let mut chain = Chain::START;
            chain.fold_all(words);
            chains.insert(chain.words());
        }
        assert_eq!(chains.len(), 7_usize.pow(6));
    }
}
