//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs stand in pages of 64 slots, in place, pages in a tree by number. New jobs go to the last page, so the hot pages are the
//! few at the ends; a million jobs need 15,625 pages, a tree of four levels whose upper ones stay in the cache. An empty
//! page goes, so that one old job holds 64 slots and not the whole stretch since it came.

use super::job::Job;
use crate::ids::JobSeq;
use std::collections::BTreeMap;

const PAGE_SLOTS: u64 = 64;

/// All jobs that the hub knows.
#[derive(Default, Debug)]
pub(super) struct JobTable {
    pages: BTreeMap<u64, Page>,
    count: usize,
}

#[derive(Debug)]
struct Page {
    slots: Box<[Option<Job>]>,
    used: u32,
}

impl JobTable {
    pub fn insert(&mut self, job: Job) -> &mut Job {
        let (page, slot) = place(job.seq);
        let page = self.pages.entry(page).or_insert_with(Page::new);
        assert!(page.slots[slot].is_none(), "a sequence number is given once");
        page.used += 1;
        self.count += 1;
        page.slots[slot].insert(job)
    }

    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        let (page, slot) = place(seq);
        self.pages.get(&page)?.slots[slot].as_ref()
    }

    pub fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let (page, slot) = place(seq);
        self.pages.get_mut(&page)?.slots[slot].as_mut()
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let (page_index, slot) = place(seq);
        let page = self.pages.get_mut(&page_index)?;
        let job = page.slots[slot].take()?;
        page.used -= 1;
        self.count -= 1;
        if page.used == 0 {
            self.pages.remove(&page_index);
        }
        Some(job)
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = &Job> {
        let (page, _) = place(first);
        self.pages
            .range(page..)
            .flat_map(|(_, page)| page.slots.iter().filter_map(|slot| slot.as_ref()))
            .skip_while(move |job| job.seq < first)
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = &Job> {
        let (page, _) = place(last);
        self.pages
            .range(..=page)
            .rev()
            .flat_map(|(_, page)| page.slots.iter().rev().filter_map(|slot| slot.as_ref()))
            .skip_while(move |job| job.seq > last)
    }

    pub fn len(&self) -> usize {
        self.count
    }
}

impl Page {
    fn new() -> Self {
        Page { slots: (0..PAGE_SLOTS).map(|_| None).collect(), used: 0 }
    }
}

fn place(seq: JobSeq) -> (u64, usize) {
    (seq.get() / PAGE_SLOTS, (seq.get() % PAGE_SLOTS) as usize)
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
        assert_eq!((table.len(), table.pages.len()), (3, 3));
        let left: Vec<_> = table.iter_from(JobSeq::new(65)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 192]);
        let left: Vec<_> = table.iter_back_from(JobSeq::new(191)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 64]);
        assert!(table.get(JobSeq::new(64)).is_some() && table.get(JobSeq::new(65)).is_none());
    }
}
