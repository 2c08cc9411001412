//! Dead letters: jobs that failed for good, in the order in which they ended, and by kind.
//!
//! They have limits of their own, in jobs and bytes. Beyond a limit a letter of the kind with the most goes (in letters
//! or in bytes, by the limit that is reached), its oldest one: a kind whose jobs all fail makes room for itself and
//! takes none from the others. Kinds that refuse work rather than give up letters are passed over. A letter takes about
//! 120 bytes here.

use crate::ids::JobSeq;
use crate::queue::kind::KindIndex;
use crate::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// All dead letters.
#[derive(Default, Debug)]
pub(super) struct Letters {
    /// By final number, which counts in the order of ending.
    by_number: BTreeMap<u64, Letter>,
    by_kind: BTreeMap<KindIndex, OfKind>,
    /// Kinds by how many letters they have; the one with the older first letter counts as larger, since a kind's index
    /// is not durable.
    by_count: BTreeSet<(u64, Reverse<u64>, KindIndex)>,
    /// Kinds by how many bytes their letters have.
    by_bytes: BTreeSet<(u64, Reverse<u64>, KindIndex)>,
}

/// One dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Letter {
    pub at: Timestamp,
    pub job: JobSeq,
    pub kind: KindIndex,
    pub bytes: u64,
}

#[derive(Default, Debug)]
struct OfKind {
    numbers: BTreeSet<u64>,
    bytes: u64,
}

impl Letters {
    pub fn len(&self) -> u64 {
        self.by_number.len() as u64
    }

    pub fn has(&self, number: u64) -> bool {
        self.by_number.contains_key(&number)
    }

    /// The letters of a kind.
    pub fn count_of(&self, kind: KindIndex) -> u64 {
        self.by_kind.get(&kind).map_or(0, |of_kind| of_kind.numbers.len() as u64)
    }

    pub fn insert(&mut self, number: u64, letter: Letter) {
        let old = self.by_number.insert(number, letter);
        assert!(old.is_none(), "a job ends once");
        self.change(letter.kind, |of_kind| {
            of_kind.numbers.insert(number);
            of_kind.bytes += letter.bytes;
        });
    }

    pub fn remove(&mut self, number: u64) -> Letter {
        let letter = self.by_number.remove(&number).expect("a dead job is among the letters");
        self.change(letter.kind, |of_kind| {
            of_kind.numbers.remove(&number);
            of_kind.bytes -= letter.bytes;
        });
        letter
    }

    /// A letter has another size.
    pub fn resize(&mut self, number: u64, bytes: u64) {
        let letter = self.by_number.get_mut(&number).expect("a dead job is among the letters");
        let before = std::mem::replace(&mut letter.bytes, bytes);
        let kind = letter.kind;
        self.change(kind, |of_kind| of_kind.bytes = of_kind.bytes - before + bytes);
    }

    /// The number and the instant of the one that ended first.
    pub fn oldest(&self) -> Option<(u64, Timestamp)> {
        self.by_number.first_key_value().map(|(number, letter)| (*number, letter.at))
    }

    /// The number of a kind's oldest one.
    pub fn oldest_of(&self, kind: KindIndex) -> Option<u64> {
        self.by_kind.get(&kind)?.numbers.first().copied()
    }

    /// The oldest letter of the kind that has the most letters, of those that give up letters. O(kinds that do not).
    pub fn oldest_of_most(&self, gives_up: impl Fn(KindIndex) -> bool) -> Option<u64> {
        first_of_last(&self.by_count, gives_up)
    }

    /// The oldest letter of the kind that has the most bytes, of those that give up letters. O(kinds that do not).
    pub fn oldest_of_largest(&self, gives_up: impl Fn(KindIndex) -> bool) -> Option<u64> {
        first_of_last(&self.by_bytes, gives_up)
    }

    /// The letters from a number on, in the order of ending; of one kind, or of all. O(log n), and O(log n) for each.
    pub fn from(&self, number: u64, kind: Option<KindIndex>) -> Box<dyn Iterator<Item = (u64, &Letter)> + '_> {
        match kind {
            None => Box::new(self.by_number.range(number..).map(|(number, letter)| (*number, letter))),
            Some(kind) => {
                let numbers = self.by_kind.get(&kind).into_iter().flat_map(move |of| of.numbers.range(number..));
                Box::new(numbers.map(|number| (*number, &self.by_number[number])))
            }
        }
    }

    fn change(&mut self, kind: KindIndex, change: impl FnOnce(&mut OfKind)) {
        let of_kind = self.by_kind.entry(kind).or_default();
        if let Some(first) = of_kind.numbers.first() {
            self.by_count.remove(&(of_kind.numbers.len() as u64, Reverse(*first), kind));
            self.by_bytes.remove(&(of_kind.bytes, Reverse(*first), kind));
        }
        change(of_kind);
        match of_kind.numbers.first() {
            Some(first) => {
                self.by_count.insert((of_kind.numbers.len() as u64, Reverse(*first), kind));
                self.by_bytes.insert((of_kind.bytes, Reverse(*first), kind));
            }
            None => _ = self.by_kind.remove(&kind),
        }
    }
}

fn first_of_last(
    kinds: &BTreeSet<(u64, Reverse<u64>, KindIndex)>,
    gives_up: impl Fn(KindIndex) -> bool,
) -> Option<u64> {
    kinds.iter().rev().find(|(_, _, kind)| gives_up(*kind)).map(|(_, Reverse(first), _)| *first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kind_with_the_most_makes_room_first() {
        let mut letters = Letters::default();
        let letter = |kind, bytes| Letter { at: Timestamp::ZERO, job: JobSeq::FIRST, kind: KindIndex(kind), bytes };
        for (number, kind, bytes) in [(1, 7, 10), (2, 7, 10), (3, 8, 50), (4, 9, 10), (5, 9, 10)] {
            letters.insert(number, letter(kind, bytes));
        }
        let all = |_| true;
        let oldest = (letters.oldest_of_most(all), letters.oldest_of_largest(all));
        assert_eq!(oldest, (Some(1), Some(3)), "7 began before 9");
        assert_eq!(letters.oldest_of_most(|kind| kind != KindIndex(7)), Some(4));
        assert_eq!(letters.oldest_of_largest(|_| false), None);
        letters.remove(1);
        assert_eq!(letters.oldest_of_most(all), Some(4));
        letters.resize(5, 100);
        assert_eq!(letters.oldest_of_largest(all), Some(4));
    }

    proptest! {
        /// Beside a list.
        #[test]
        fn letters_are_those_that_were_not_removed(steps in prop::collection::vec((0..4_u32, 0..3_u8, any::<u16>()), 1..200)) {
            let (mut letters, mut list) = (Letters::default(), Vec::<(u64, Letter)>::new());
            for (number, (kind, step, pick)) in steps.into_iter().enumerate() {
                if step == 0 && !list.is_empty() {
                    let (number, letter) = list.remove(usize::from(pick) % list.len());
                    prop_assert_eq!(letters.remove(number), letter);
                } else {
                    let (number, kind) = (number as u64, KindIndex(kind));
                    let letter =
                        Letter { at: Timestamp::from_millis(number), job: JobSeq::new(number + 1), kind, bytes: u64::from(pick) };
                    letters.insert(number, letter);
                    list.push((number, letter));
                }
                prop_assert_eq!(letters.len(), list.len() as u64);
                prop_assert!(letters.from(0, None).map(|(number, _)| number).eq(list.iter().map(|(number, _)| *number)));
                let of = |kind: KindIndex| list.iter().filter(move |(_, letter)| letter.kind == kind);
                for kind in (0..4).map(KindIndex) {
                    prop_assert_eq!(letters.count_of(kind), of(kind).count() as u64);
                    prop_assert_eq!(letters.oldest_of(kind), of(kind).next().map(|(number, _)| *number));
                }
                let most = (0..4).map(KindIndex).filter(|kind| of(*kind).next().is_some());
                let most = most.max_by_key(|kind| (of(*kind).count(), Reverse(of(*kind).next().unwrap().0)));
                prop_assert_eq!(letters.oldest_of_most(|_| true), most.map(|kind| of(kind).next().unwrap().0));
            }
        }
    }
}
