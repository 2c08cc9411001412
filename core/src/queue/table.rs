//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs stand in pages of 64 slots, in place, pages in books of 64, and books in a tree by number. New jobs go to the last
//! page, so the hot pages are the few at the ends; a million jobs need 245 books, a tree of three levels whose upper ones
//! stay in the cache. An empty page goes, and so does an empty book: one old job holds 64 slots and 64 places of pages, and
//! not the whole stretch since it came.

use super::job::Job;
use crate::ids::JobSeq;
use std::collections::BTreeMap;

const PAGE_SLOTS: u64 = 64;
const BOOK_PAGES: u64 = 64;
/// Some 90 kB.
const SPARE_PAGES_MAX: usize = 16;

/// All jobs that the hub knows.
#[derive(Default, Debug)]
pub(super) struct JobTable {
    books: BTreeMap<u64, Book>,
    count: usize,
    /// Emptied pages for the next ones.
    spare: Vec<Page>,
}

#[derive(Debug)]
struct Book {
    pages: Box<[Option<Page>]>,
    used: u32,
}

#[derive(Debug)]
struct Page {
    slots: Box<[Option<Job>]>,
    used: u32,
}

/// Where a job stands.
struct Place {
    book: u64,
    page: usize,
    slot: usize,
}

impl JobTable {
    pub fn insert(&mut self, job: Job) -> &mut Job {
        let Place { book, page, slot } = Place::of(job.seq);
        let book = self.books.entry(book).or_insert_with(Book::new);
        let page = &mut book.pages[page];
        book.used += u32::from(page.is_none());
        let page = page.get_or_insert_with(|| self.spare.pop().unwrap_or_else(Page::new));
        assert!(page.slots[slot].is_none(), "a sequence number is given once");
        page.used += 1;
        self.count += 1;
        page.slots[slot].insert(job)
    }

    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        let Place { book, page, slot } = Place::of(seq);
        self.books.get(&book)?.pages[page].as_ref()?.slots[slot].as_ref()
    }

    pub fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let Place { book, page, slot } = Place::of(seq);
        self.books.get_mut(&book)?.pages[page].as_mut()?.slots[slot].as_mut()
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let Place { book: number, page: index, slot } = Place::of(seq);
        let book = self.books.get_mut(&number)?;
        let page = book.pages[index].as_mut()?;
        let job = page.slots[slot].take()?;
        page.used -= 1;
        self.count -= 1;
        if page.used == 0 {
            let page = book.pages[index].take().filter(|_| self.spare.len() < SPARE_PAGES_MAX);
            self.spare.extend(page);
            book.used -= 1;
            if book.used == 0 {
                self.books.remove(&number);
            }
        }
        Some(job)
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = &Job> {
        let place = Place::of(first);
        // Pages before the first one are skipped whole.
        let pages = self.books.range(place.book..).flat_map(move |(number, book)| {
            let from = if *number == place.book { place.page } else { 0 };
            book.pages[from..].iter().flatten()
        });
        pages.flat_map(|page| page.slots.iter().flatten()).skip_while(move |job| job.seq < first)
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = &Job> {
        let place = Place::of(last);
        let pages = self.books.range(..=place.book).rev().flat_map(move |(number, book)| {
            let to = if *number == place.book { place.page + 1 } else { BOOK_PAGES as usize };
            book.pages[..to].iter().rev().flatten()
        });
        pages.flat_map(|page| page.slots.iter().rev().flatten()).skip_while(move |job| job.seq > last)
    }

    pub fn len(&self) -> usize {
        self.count
    }
}

impl Book {
    fn new() -> Self {
        Book { pages: (0..BOOK_PAGES).map(|_| None).collect(), used: 0 }
    }
}

impl Page {
    fn new() -> Self {
        Page { slots: (0..PAGE_SLOTS).map(|_| None).collect(), used: 0 }
    }
}

impl Place {
    fn of(seq: JobSeq) -> Place {
        let page = seq.get() / PAGE_SLOTS;
        Place { book: page / BOOK_PAGES, page: (page % BOOK_PAGES) as usize, slot: (seq.get() % PAGE_SLOTS) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::tests::a_job;

    #[test]
    fn jobs_are_found_over_page_borders_and_empty_pages_go() {
        let mut table = JobTable::default();
        for seq in 1..=200 {
            table.insert(a_job(seq));
        }
        for seq in (1..=200).filter(|seq| seq % 64 != 0) {
            assert_eq!(table.remove(JobSeq::new(seq)).map(|job| job.seq.get()), Some(seq));
            assert!(table.remove(JobSeq::new(seq)).is_none());
        }
        let pages =
            |table: &JobTable| table.books.values().map(|book| book.pages.iter().flatten().count()).sum::<usize>();
        assert_eq!((table.len(), pages(&table)), (3, 3));
        let left: Vec<_> = table.iter_from(JobSeq::new(65)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 192]);
        let left: Vec<_> = table.iter_back_from(JobSeq::new(191)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 64]);
        assert!(table.get(JobSeq::new(64)).is_some() && table.get(JobSeq::new(65)).is_none());
    }

    #[test]
    fn jobs_are_found_over_the_borders_of_books_and_empty_books_go() {
        let mut table = JobTable::default();
        let border = PAGE_SLOTS * BOOK_PAGES;
        let seqs = [1, border - 1, border, border + 65, 5 * border + 3];
        seqs.iter().for_each(|seq| _ = table.insert(a_job(*seq)));
        let from = |first| table.iter_from(JobSeq::new(first)).map(|job| job.seq.get()).collect::<Vec<_>>();
        assert_eq!(from(2), seqs[1..]);
        assert_eq!(from(border + 66), seqs[4..]);
        let back: Vec<_> = table.iter_back_from(JobSeq::new(border + 64)).map(|job| job.seq.get()).collect();
        assert_eq!(back, [border, border - 1, 1]);
        for seq in &seqs[..4] {
            assert!(table.remove(JobSeq::new(*seq)).is_some());
        }
        assert_eq!((table.len(), table.books.len()), (1, 1));
        assert!(table.get(JobSeq::new(5 * border + 3)).is_some() && table.get(JobSeq::new(border)).is_none());
    }
}
