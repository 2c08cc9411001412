//! Rows: values by small indexes. The index of a removed row is given again, the lowest first, and empty rows at the end
//! are released, so that a burst leaves nothing behind.

use std::collections::BTreeSet;

/// Values by index.
#[derive(Debug)]
pub(super) struct Rows<T> {
    rows: Vec<Option<T>>,
    free: BTreeSet<u32>,
}

/// Capacity that is kept with few rows.
const CAPACITY_MIN: usize = 64;

impl<T> Rows<T> {
    /// Stores a value; returns its index. O(log n) in the free indexes.
    pub fn insert(&mut self, row: T) -> u32 {
        let Some(index) = self.free.pop_first() else {
            self.rows.push(Some(row));
            return u32::try_from(self.rows.len() - 1).expect("rows are counted with 32 bits");
        };
        self.rows[index as usize] = Some(row);
        index
    }

    /// The value with an index that is in use.
    pub fn get(&self, index: u32) -> &T {
        self.rows[index as usize].as_ref().expect("an index that is in use has a row")
    }

    /// The value with an index that is in use.
    pub fn get_mut(&mut self, index: u32) -> &mut T {
        self.rows[index as usize].as_mut().expect("an index that is in use has a row")
    }

    /// Removes a value; its index is free then. O(1) amortised, O(log n) in the free indexes.
    pub fn remove(&mut self, index: u32) -> T {
        let row = self.rows[index as usize].take().expect("an index that is in use has a row");
        self.free.insert(index);
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
            self.free.remove(&(self.rows.len() as u32));
        }
        if self.rows.capacity() > CAPACITY_MIN && self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
        row
    }

    /// All values, by index.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().flatten()
    }
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Rows { rows: Vec::new(), free: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Beside a map: an index is the lowest that is free, and rows end with the highest in use.
        #[test]
        fn indexes_are_the_lowest_that_are_free(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..300)) {
            let (mut rows, mut map) = (Rows::default(), BTreeMap::new());
            for (number, (inserts, pick)) in steps.into_iter().enumerate() {
                if inserts || map.is_empty() {
                    let lowest = (0..).find(|index| !map.contains_key(index)).unwrap();
                    prop_assert_eq!(rows.insert(number), lowest);
                    map.insert(lowest, number);
                } else {
                    let index = *map.keys().nth(usize::from(pick) % map.len()).unwrap();
                    prop_assert_eq!(Some(rows.remove(index)), map.remove(&index));
                }
                prop_assert!(rows.iter().eq(map.values()));
                prop_assert!(map.iter().all(|(index, row)| rows.get(*index) == row));
                prop_assert_eq!(rows.rows.len(), map.last_key_value().map_or(0, |(index, _)| *index as usize + 1));
            }
        }
    }
}
