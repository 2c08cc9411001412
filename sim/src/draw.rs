//! Draw: all chance of a run, from its seed.
//!
//! A seed is a bug report, so it must mean the same run for years: the numbers are ChaCha with 8 rounds (RFC 8439's
//! function, whose stream is fixed), and every choice is made from them here, not by a library's distributions, which
//! may change with its versions. Independent streams of one seed keep the parts of a run apart: one more draw in one
//! part does not change the others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream of numbers is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stream {
    /// The run's character.
    Profile = 1,
    /// What happens step by step.
    Traffic = 2,
    /// What a run of the mesh is like.
    Plan = 3,
    /// What nodes and clients do.
    Actors = 4,
    /// When submits come.
    Arrivals = 5,
    /// What becomes of messages.
    Network = 6,
    /// What the disk does.
    Disk = 7,
    /// What happens to the hub's processes.
    Hub = 8,
    /// What goes wrong when.
    Faults = 9,
    /// What happens to the hub's logs.
    Logs = 10,
    /// What their disk does.
    LogDisk = 11,
    /// Whether a run has an operator who acts, and how often.
    AdminPlan = 12,
    /// What this operator does.
    Admin = 13,
    /// Jobs that come in a crowd.
    Crowd = 20,
    /// The limit of bytes under lease.
    LeasedBytes = 21,
    /// Rotations of the token in the model check.
    Tokens = 22,
    /// When the jobs of a load scenario come.
    LoadArrivals = 100,
    /// What these jobs are like, and what becomes of their attempts.
    LoadJobs = 101,
    /// What its nodes are like.
    LoadNodes = 102,
    /// Which lives of a hub end before it did anything.
    Lives = 103,
}

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The choices that a seed means for one part of a run.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut numbers = ChaCha8Rng::from_seed(key);
        numbers.set_stream(stream as u64);
        Draw(numbers)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift: the bias is below bound / 2^64, which no run is long enough to notice.
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        match (last - first).checked_add(1) {
            Some(width) => first + self.below(width),
            None => self.number(),
        }
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// A number from 0 to about `max`, each order of magnitude as likely as any other.
    pub fn magnitude(&mut self, max: u64) -> u64 {
        let bits = self.below(u64::from(u64::BITS - max.leading_zeros()) + 1);
        let limit = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        self.between(0, limit.min(max))
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// The index of one of the weights, each as likely as it weighs; not all may be zero.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        for (index, weight) in weights.iter().enumerate() {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return index,
            }
        }
        unreachable!("a draw lies below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_stay_the_same_for_ever() {
        let first = |seed, stream| {
            let mut draw = Draw::new(seed, stream);
            [draw.number(), draw.number()]
        };
        assert_eq!(first(0, Stream::Profile), first(0, Stream::Profile));
        assert_ne!(first(0, Stream::Profile), first(0, Stream::Traffic));
        assert_ne!(first(0, Stream::Profile), first(1, Stream::Profile));
        assert_eq!(
            first(7, Stream::Traffic),
            [201489438803661659, 3585899453659036969],
            "a change here gives every known seed another meaning"
        );
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut draw = Draw::new(1, Stream::Traffic);
        for _ in 0..10_000 {
            assert_eq!(draw.below(0), 0);
            assert!(draw.below(3) < 3);
            assert!((5..=9).contains(&draw.between(5, 9)));
            assert!(draw.magnitude(1_000) <= 1_000);
            assert_eq!(draw.weighted(&[0, 4, 0]), 1);
            draw.between(0, u64::MAX);
            draw.magnitude(u64::MAX);
        }
    }

    #[test]
    fn weights_are_followed() {
        let mut draw = Draw::new(2, Stream::Traffic);
        let mut seen = [0u32; 3];
        for _ in 0..10_000 {
            seen[draw.weighted(&[1, 2, 7])] += 1;
        }
        assert!((800..1_200).contains(&seen[0]) && (1_700..2_300).contains(&seen[1]), "{seen:?}");
    }
}
