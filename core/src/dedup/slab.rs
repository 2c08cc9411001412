//! The slab of keys: entries in pages; an entry keeps its place for as long as its key is held.
//!
//! Pages do not move, so the slab grows without a copy. A page that holds nothing is freed, so that keys that are gone take
//! no more than the versions of their places and their places in the list of free ones: 8 bytes each, of more than 100, and
//! what two vectors have to spare.

use super::Entry;
use crate::timers::Timer;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

/// An entry's place in the slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KeyPlace(NonZeroU32);

/// Entries by their places.
#[derive(Default, Debug)]
pub(super) struct Slab {
    pages: Vec<Option<Box<Page>>>,
    /// How many entries each place has had: an old reference is told from a new one by it.
    versions: Vec<u32>,
    /// The lowest is taken first, so that few keys are in few pages.
    free: BinaryHeap<Reverse<KeyPlace>>,
    /// A page that holds nothing, for the next one that is needed.
    spare: Option<Box<Page>>,
}

#[derive(Debug)]
struct Page {
    entries: [Option<Entry>; PAGE_ENTRIES],
    taken: usize,
}

const PAGE_ENTRIES: usize = 256;

impl KeyPlace {
    /// The place with this index.
    pub fn new(index: usize) -> KeyPlace {
        let number = u32::try_from(index + 1).expect("keys are fewer than four billion");
        KeyPlace(NonZeroU32::new(number).expect("it is one more than something"))
    }

    /// The timer of the key in this place.
    pub fn timer(self) -> Timer {
        Timer::KeyExpires(self.0.get() - 1)
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Slab {
    /// The entry in a place that is taken.
    pub fn get(&self, place: KeyPlace) -> &Entry {
        let (page, index) = split(place);
        let entry = self.pages[page].as_ref().and_then(|page| page.entries[index].as_ref());
        entry.expect("a place that is named is taken")
    }

    /// The entry in a place that is taken.
    pub fn get_mut(&mut self, place: KeyPlace) -> &mut Entry {
        let (page, index) = split(place);
        let entry = self.pages[page].as_mut().and_then(|page| page.entries[index].as_mut());
        entry.expect("a place that is named is taken")
    }

    /// How many entries a place had before the one that it has now, or gets next.
    pub fn version(&self, place: KeyPlace) -> u32 {
        self.versions[place.index()]
    }

    /// All entries with their places, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (KeyPlace, &Entry)> {
        let pages = self.pages.iter().enumerate();
        let pages = pages.filter_map(|(index, page)| Some((index * PAGE_ENTRIES, page.as_deref()?)));
        pages.flat_map(|(first, page)| {
            let entries = page.entries.iter().enumerate();
            entries.filter_map(move |(index, entry)| Some((KeyPlace::new(first + index), entry.as_ref()?)))
        })
    }

    /// Puts an entry into a free place.
    pub fn insert(&mut self, entry: Entry) -> KeyPlace {
        let place = self.free.pop().map_or_else(
            || {
                self.versions.push(0);
                KeyPlace::new(self.versions.len() - 1)
            },
            |Reverse(place)| place,
        );
        let (page, index) = split(place);
        if page == self.pages.len() {
            self.pages.push(None);
        }
        let spare = &mut self.spare;
        let page = self.pages[page].get_or_insert_with(|| spare.take().unwrap_or_default());
        page.entries[index] = Some(entry);
        page.taken += 1;
        place
    }

    /// Takes the entry out of its place, which is free then.
    pub fn remove(&mut self, place: KeyPlace) -> Entry {
        let (page, index) = split(place);
        let stand = &mut self.pages[page];
        let page = stand.as_mut().expect("a place that is named is taken");
        let entry = page.entries[index].take().expect("a place that is named is taken");
        page.taken -= 1;
        if page.taken == 0 {
            self.spare = stand.take();
        }
        let version = &mut self.versions[place.index()];
        *version = version.wrapping_add(1);
        self.free.push(Reverse(place));
        entry
    }
}

impl Default for Page {
    fn default() -> Self {
        Page { entries: [const { None }; PAGE_ENTRIES], taken: 0 }
    }
}

fn split(place: KeyPlace) -> (usize, usize) {
    (place.index() / PAGE_ENTRIES, place.index() % PAGE_ENTRIES)
}
