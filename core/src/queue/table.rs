//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs are stored in place in pages of 64 numbers, the pages in a tree by number. New jobs are added to the last page,
//! which has capacity for all 64. Any other page has capacity for at most twice the jobs that are left, so that one old
//! job does not hold the memory of its neighbours; the page that jobs are removed from is shrunk when a job of another
//! one is removed. The hot pages are the few at the ends; a million jobs need 15,625 pages, a tree of four levels whose
//! upper ones stay in the cache. In a page without gaps the index of a job follows from its number.

use super::job::Job;
use crate::ids::JobSeq;
use std::collections::{BTreeMap, VecDeque};

const PAGE_NUMBERS: u64 = 64;

/// All jobs that the hub holds.
#[derive(Default, Debug)]
pub(super) struct JobTable {
    pages: BTreeMap<u64, Page>,
    /// The page of the job that was added last; it is kept when it is empty.
    last_page: u64,
    /// The page of the job that was removed last. It is not shrunk yet, since mostly all of its jobs are removed in a
    /// row.
    leaving_page: u64,
    count: usize,
    /// The memory of an emptied page, for the next one.
    spare: VecDeque<Job>,
}

/// Jobs in the order of their numbers.
#[derive(Default, Debug)]
struct Page {
    jobs: VecDeque<Job>,
}

impl JobTable {
    /// Adds a job whose number is above all earlier ones.
    pub fn insert(&mut self, job: Job) -> &mut Job {
        self.count += 1;
        let number = page_of(job.seq);
        if number != self.last_page {
            let last_page = std::mem::replace(&mut self.last_page, number);
            self.shrink_page(last_page);
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
        let index = page.find(seq)?;
        page.jobs.get_mut(index)
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let number = page_of(seq);
        let page = self.pages.get_mut(&number)?;
        let index = page.find(seq)?;
        let job = page.jobs.remove(index)?;
        self.count -= 1;
        let is_empty = page.jobs.is_empty();
        let left_before = std::mem::replace(&mut self.leaving_page, number);
        if left_before != number && left_before != self.last_page {
            self.shrink_page(left_before);
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

    /// Shrinks a page to which no job is added any more.
    fn shrink_page(&mut self, number: u64) {
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
        self.jobs.back_mut().expect("it was just pushed")
    }

    /// The index of a job: its distance in numbers from the first one, or less if numbers between them are missing.
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
    fn jobs_are_found_across_page_borders_and_empty_pages_are_removed() {
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
