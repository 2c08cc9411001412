//! Dice: all the chance in a simulation, from one seed.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A source of chance whose numbers stay the same over releases of its library (ChaCha with 8 rounds).
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // A remainder, and not the library's own range, whose method may change with a release. The bias is below 2^-40
        // for the small bounds of a simulation.
        self.0.next_u64() % bound
    }

    /// Whether something happens that happens once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Maybe a value.
    pub fn maybe<T>(&mut self, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        if self.once_in(2) { Some(value(self)) } else { None }
    }
}
