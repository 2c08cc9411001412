//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs stand in pages, in place and in order, pages in a tree by number. A page is of 64 numbers. New jobs go to the
//! last page, which has room for all of them; another one has room for the jobs that are left, at most twice as much as
//! they take, so that one old job does not hold the room of those that came with it; the page that jobs are leaving gives it
//! back when another one loses a job. The hot pages are the few at the
//! ends; a million jobs need 15,625 pages, a tree of four levels whose upper ones stay in the cache. In a page without
//! gaps a job is where its number says.

use super::job::Job;
use crate::ids::JobSeq;
use std::collections::{BTreeMap, VecDeque};

const PAGE_NUMBERS: u64 = 64;

/// All jobs that the hub knows.
#[derive(Default, Debug)]
pub(super) struct JobTable {
    pages: BTreeMap<u64, Page>,
    /// The page of the job that came last; it stays when it is empty.
    last_page: u64,
    /// The page that the latest job left; it keeps its room until another one loses a job, since mostly all of it goes.
    leaving_page: u64,
    count: usize,
    /// The room of a page that was emptied, for the next one.
    spare: VecDeque<Job>,
}

/// Jobs in the order of their numbers.
#[derive(Default, Debug)]
struct Page {
    jobs: VecDeque<Job>,
}

impl JobTable {
    /// Takes in a job whose number is above those that came before it.
    pub fn insert(&mut self, job: Job) -> &mut Job {
        self.count += 1;
        let number = page_of(job.seq);
        if number != self.last_page {
            let last_page = std::mem::replace(&mut self.last_page, number);
            self.give_room_back(last_page);
        }
        let spare = &mut self.spare;
        self.pages.entry(number).or_insert_with(|| Page { jobs: std::mem::take(spare) }).push(job)
    }

    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        let page = self.pages.get(&page_of(seq))?;
        page.jobs.get(page.find(seq)?)
    }

    pub fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let page = self.pages.get_mut(&page_of(seq))?;
        let place = page.find(seq)?;
        page.jobs.get_mut(place)
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let number = page_of(seq);
        let page = self.pages.get_mut(&number)?;
        let place = page.find(seq)?;
        let job = page.jobs.remove(place)?;
        self.count -= 1;
        let is_empty = page.jobs.is_empty();
        let left_before = std::mem::replace(&mut self.leaving_page, number);
        if left_before != number && left_before != self.last_page {
            self.give_room_back(left_before);
        }
        if is_empty && number != self.last_page {
            let page = self.pages.remove(&number).expect("it was just there");
            self.spare = page.jobs;
        }
        Some(job)
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = &Job> {
        let pages = self.pages.range(page_of(first)..).map(|(_, page)| page);
        pages.flat_map(|page| &page.jobs).skip_while(move |job| job.seq < first)
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = &Job> {
        let pages = self.pages.range(..=page_of(last)).rev().map(|(_, page)| page);
        pages.flat_map(|page| page.jobs.iter().rev()).skip_while(move |job| job.seq > last)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// No job comes into this page any more.
    fn give_room_back(&mut self, number: u64) {
        let Some(page) = self.pages.get_mut(&number) else { return };
        if page.jobs.is_empty() {
            self.pages.remove(&number);
        } else if 2 * page.jobs.len() <= page.jobs.capacity() {
            page.jobs.shrink_to_fit();
        }
    }
}

impl Page {
    fn push(&mut self, job: Job) -> &mut Job {
        assert!(self.jobs.back().is_none_or(|last| last.seq < job.seq), "sequence numbers grow");
        self.jobs.reserve_exact(PAGE_NUMBERS as usize - self.jobs.len());
        self.jobs.push_back(job);
        self.jobs.back_mut().expect("it was just put there")
    }

    /// Where a job stands: as far from the first one as its number, less those that are missing between.
    fn find(&self, seq: JobSeq) -> Option<usize> {
        let distance = seq.get().checked_sub(self.jobs.front()?.seq.get())? as usize;
        if self.jobs.get(distance).is_some_and(|job| job.seq == seq) {
            return Some(distance);
        }
        self.jobs.binary_search_by_key(&seq, |job| job.seq).ok()
    }
}

fn page_of(seq: JobSeq) -> u64 {
    seq.get() / PAGE_NUMBERS
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
