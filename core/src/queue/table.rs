//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs are stored in place in pages of 64 numbers, the pages in a tree by number. New jobs are added to the last page,
//! which has capacity for all 64. Any other page has capacity for at most twice the jobs that are left, so that one old
//! job does not hold the memory of its neighbours; the page that jobs are removed from is shrunk when a job of another
//! one is removed. Each block of 64 pages counts its jobs by state and knows of which kinds they may be, so that a search
//! for few of them passes the others' blocks. The hot pages are the few at the ends; a million jobs need 15,625 pages, a tree of four levels whose
//! upper ones stay in the cache. In a page without gaps the index of a job follows from its number.

use super::job::Job;
use super::kind::KindIndex;
use super::tally::{BlockTally, Status, Tally};
use crate::ids::JobSeq;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

const PAGE_NUMBERS: u64 = 64;

const BLOCK_NUMBERS: u64 = 64 * PAGE_NUMBERS;

const _: () = assert!(BLOCK_NUMBERS <= u16::MAX as u64, "a block counts its jobs with sixteen bits");

/// All jobs that the hub holds.
#[derive(Default, Debug)]
pub(super) struct JobTable {
    pages: BTreeMap<u64, Page>,
    /// The blocks that have pages.
    blocks: BTreeMap<u64, Block>,
    /// The page of the job that was added last; it is kept when it is empty.
    last_page: u64,
    /// The page of the job that was removed last. It is not shrunk yet, since mostly all of its jobs are removed in a
    /// row.
    leaving_page: u64,
    count: usize,
    /// The memory of an emptied page, for the next one.
    spare: VecDeque<Job>,
    /// Jobs by state.
    tally: Tally,
    /// Jobs that were handed out to be changed and are not counted anew.
    touched: Vec<JobSeq>,
}

/// Jobs in the order of their numbers.
#[derive(Default, Debug)]
struct Page {
    jobs: VecDeque<Job>,
}

/// Pages with adjacent numbers.
#[derive(Default, Debug)]
pub(super) struct Block {
    pages: u32,
    /// Their jobs by state.
    tally: BlockTally,
    /// A bit for each kind of the jobs that were added to them; kinds share bits.
    kinds: u64,
}

/// Capacity that is kept for touched jobs.
const TOUCHED_CAPACITY_MIN: usize = 1_024;

impl JobTable {
    /// Adds a job whose number is above all earlier ones.
    pub fn insert(&mut self, job: Job) -> &mut Job {
        self.count += 1;
        self.touched.push(job.seq);
        let number = page_of(job.seq);
        if number != self.last_page {
            let last_page = std::mem::replace(&mut self.last_page, number);
            self.shrink_page(last_page);
        }
        let spare = &mut self.spare;
        let block = self.blocks.entry(block_of(job.seq)).or_default();
        block.kinds |= kind_bit(job.kind);
        let new = || {
            block.pages += 1;
            Page { jobs: std::mem::take(spare) }
        };
        self.pages.entry(number).or_insert_with(new).push(job)
    }

    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        let page = self.pages.get(&page_of(seq))?;
        page.jobs.get(page.find(seq)?)
    }

    pub fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let page = self.pages.get_mut(&page_of(seq))?;
        let index = page.find(seq)?;
        if self.touched.last() != Some(&seq) {
            self.touched.push(seq);
        }
        page.jobs.get_mut(index)
    }

    /// Counts the jobs whose states changed since the last call; `count` is called with the kind of each, the state that
    /// it was counted under and the one that it is in. O(log n) for each job that was handed out to be changed.
    pub fn count_changes(&mut self, mut count: impl FnMut(KindIndex, Option<Status>, Option<Status>)) {
        for seq in self.touched.drain(..) {
            let Some(page) = self.pages.get_mut(&page_of(seq)) else { continue };
            let Some(job) = page.find(seq).and_then(|index| page.jobs.get_mut(index)) else { continue };
            let (before, after) = (job.counted, Some(job.status()));
            if before != after {
                job.counted = after;
                let block = self.blocks.get_mut(&block_of(seq)).expect("a page is in a block");
                block.tally.count(before, after);
                self.tally.count(before, after);
                count(job.kind, before, after);
            }
        }
        if self.touched.capacity() > TOUCHED_CAPACITY_MIN {
            self.touched.shrink_to(TOUCHED_CAPACITY_MIN);
        }
    }

    /// Jobs by state.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Checks the counts of pages and of the table against the jobs. O(n).
    pub fn check_tallies(&self) {
        let mut all = Tally::default();
        let mut blocks: BTreeMap<_, (u32, BlockTally)> = BTreeMap::new();
        for (number, page) in &self.pages {
            let (pages, tally) = blocks.entry(*number / (BLOCK_NUMBERS / PAGE_NUMBERS)).or_default();
            *pages += 1;
            for job in &page.jobs {
                tally.count(None, Some(job.status()));
                all.count(None, Some(job.status()));
                assert!(self.blocks[&block_of(job.seq)].may_have(None, Some(job.kind)), "a block knows its kinds");
            }
        }
        assert_eq!(all, self.tally, "the table counts its jobs");
        let counted = self.blocks.iter().map(|(number, block)| (*number, (block.pages, block.tally)));
        assert!(counted.eq(blocks), "each block counts its pages and jobs");
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let number = page_of(seq);
        let page = self.pages.get_mut(&number)?;
        let index = page.find(seq)?;
        let job = page.jobs.remove(index)?;
        let block = self.blocks.get_mut(&block_of(seq)).expect("a page is in a block");
        block.tally.count(job.counted, None);
        self.tally.count(job.counted, None);
        self.count -= 1;
        let is_empty = page.jobs.is_empty();
        let left_before = std::mem::replace(&mut self.leaving_page, number);
        if left_before != number && left_before != self.last_page {
            self.shrink_page(left_before);
        }
        if is_empty && number != self.last_page {
            let page = self.pages.remove(&number).expect("it was just there");
            self.spare = page.jobs;
            self.leave_block(number);
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

    /// The blocks with jobs from `oldest` to `newest`, newest first, each with the numbers of the first and the last job
    /// that it may have.
    pub fn blocks_back(&self, newest: JobSeq, oldest: JobSeq) -> impl Iterator<Item = ((JobSeq, JobSeq), &Block)> {
        let range = (oldest <= newest).then(|| self.blocks.range(block_of(oldest)..=block_of(newest)));
        range.into_iter().flatten().rev().map(move |(number, block)| {
            let first = number * BLOCK_NUMBERS;
            ((JobSeq::new(first).max(oldest), JobSeq::new(first + BLOCK_NUMBERS - 1).min(newest)), block)
        })
    }

    /// The first job that was submitted at an instant or later; `None` if there is none. O(log² n).
    pub fn first_since(&self, at: Timestamp) -> Option<JobSeq> {
        let (mut low, mut high) = (*self.pages.keys().next()?, *self.pages.keys().next_back()?);
        // The page is the last whose first job is older than the instant, or the first of all.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let found = self.pages.range(middle..).find_map(|(number, page)| Some((*number, page.jobs.front()?)));
            match found.filter(|(_, first)| first.submitted_at < at) {
                Some((number, _)) => low = number.max(middle),
                None => high = middle - 1,
            }
        }
        self.pages.range(low..).flat_map(|(_, page)| &page.jobs).find(|job| job.submitted_at >= at).map(|job| job.seq)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// A page was removed.
    fn leave_block(&mut self, page: u64) {
        let number = page / (BLOCK_NUMBERS / PAGE_NUMBERS);
        let block = self.blocks.get_mut(&number).expect("a page is in a block");
        block.pages -= 1;
        if block.pages == 0 {
            self.blocks.remove(&number);
        }
    }

    /// Shrinks a page to which no job is added any more.
    fn shrink_page(&mut self, number: u64) {
        let Some(page) = self.pages.get_mut(&number) else { return };
        if page.jobs.is_empty() {
            self.pages.remove(&number);
            self.leave_block(number);
        } else if 2 * page.jobs.len() <= page.jobs.capacity() {
            page.jobs.shrink_to_fit();
        }
    }
}

impl Block {
    /// Whether it may have a job in this state, and one of this kind.
    pub fn may_have(&self, status: Option<Status>, kind: Option<KindIndex>) -> bool {
        status.is_none_or(|status| self.tally.get(status) > 0)
            && kind.is_none_or(|kind| self.kinds & kind_bit(kind) != 0)
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

fn kind_bit(kind: KindIndex) -> u64 {
    1 << (kind.0 % u64::BITS)
}

fn block_of(seq: JobSeq) -> u64 {
    seq.get() / BLOCK_NUMBERS
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
