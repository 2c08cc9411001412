//! The table of jobs: by sequence number, which only grows.
//!
//! Jobs are stored in place in pages of 64 numbers, pages in blocks of 64 numbers of pages, and the blocks in a tree by
//! number. New jobs are added to the last page, which has capacity for all 64. Any other page has capacity for at most twice
//! the jobs that are left, so that one old job does not hold the memory of its neighbours; the page that jobs are removed
//! from is shrunk when a job of another one is removed. Each block counts its jobs by state and knows of which kinds they
//! may be, so that a search for few of them passes the others' blocks. The hot pages are the few at the ends; a million jobs
//! need 245 blocks, a tree of two or three levels which stays in the cache. In a block or a page without gaps an index follows
//! from the number.

use super::job::Job;
use super::kind::KindIndex;
use super::tally::{BlockTally, Status, Tally};
use crate::ids::JobSeq;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

const PAGE_NUMBERS: u64 = 64;

const BLOCK_PAGES: u64 = 64;

const BLOCK_NUMBERS: u64 = BLOCK_PAGES * PAGE_NUMBERS;

const _: () = assert!(BLOCK_NUMBERS <= u16::MAX as u64, "a block counts its jobs with sixteen bits");

/// All jobs that the hub holds.
#[derive(Default, Debug)]
pub(super) struct JobTable {
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
#[derive(Debug)]
struct Page {
    number: u64,
    /// The number of the first job, so that a search does not read that job.
    first: JobSeq,
    jobs: VecDeque<Job>,
}

/// Pages with adjacent numbers, in their order.
#[derive(Default, Debug)]
pub(super) struct Block {
    pages: VecDeque<Page>,
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
        let block = self.blocks.entry(block_of(number)).or_default();
        block.kinds |= kind_bit(job.kind);
        if block.pages.back().is_none_or(|last| last.number != number) {
            block.pages.push_back(Page { number, first: job.seq, jobs: std::mem::take(&mut self.spare) });
        }
        block.pages.back_mut().expect("it was just pushed").push(job)
    }

    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        self.blocks.get(&block_of(page_of(seq)))?.page(page_of(seq))?.get(seq)
    }

    pub fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let job = self.blocks.get_mut(&block_of(page_of(seq)))?.page_mut(page_of(seq))?.get_mut(seq)?;
        if self.touched.last() != Some(&seq) {
            self.touched.push(seq);
        }
        Some(job)
    }

    /// Counts the jobs whose states changed since the last call; `count` is called with the kind of each, the state that
    /// it was counted under and the one that it is in. O(log n) for each job that was handed out to be changed.
    pub fn count_changes(&mut self, mut count: impl FnMut(KindIndex, Option<Status>, Option<Status>)) {
        for seq in self.touched.drain(..) {
            let Some(block) = self.blocks.get_mut(&block_of(page_of(seq))) else { continue };
            let Some(job) = block.page_mut(page_of(seq)).and_then(|page| page.get_mut(seq)) else { continue };
            let (kind, before, after) = (job.kind, job.counted, Some(job.status()));
            if before != after {
                job.counted = after;
                block.tally.count(before, after);
                self.tally.count(before, after);
                count(kind, before, after);
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

    /// Checks the counts of blocks and of the table against the jobs. O(n).
    pub fn check_tallies(&self) {
        let mut all = Tally::default();
        for block in self.blocks.values() {
            let mut tally = BlockTally::default();
            for job in block.pages.iter().flat_map(|page| &page.jobs) {
                tally.count(None, Some(job.status()));
                all.count(None, Some(job.status()));
                assert!(block.may_have(None, Some(job.kind)), "a block knows its kinds");
            }
            assert_eq!(tally, block.tally, "each block counts its jobs");
        }
        assert_eq!(all, self.tally, "the table counts its jobs");
    }

    pub fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let number = page_of(seq);
        let block = self.blocks.get_mut(&block_of(number))?;
        let page = block.page_mut(number)?;
        let job = page.remove(seq)?;
        let is_empty = page.jobs.is_empty();
        block.tally.count(job.counted, None);
        self.tally.count(job.counted, None);
        self.count -= 1;
        let left_before = std::mem::replace(&mut self.leaving_page, number);
        if left_before != number && left_before != self.last_page {
            self.shrink_page(left_before);
        }
        if is_empty && number != self.last_page {
            self.spare = self.remove_page(number);
        }
        Some(job)
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = &Job> {
        let number = page_of(first);
        let pages = self.blocks.range(block_of(number)..).flat_map(|(_, block)| &block.pages);
        let pages = pages.skip_while(move |page| page.number < number);
        pages.flat_map(|page| &page.jobs).skip_while(move |job| job.seq < first)
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = &Job> {
        let number = page_of(last);
        let pages = self.blocks.range(..=block_of(number)).rev().flat_map(|(_, block)| block.pages.iter().rev());
        let pages = pages.skip_while(move |page| page.number > number);
        pages.flat_map(|page| page.jobs.iter().rev()).skip_while(move |job| job.seq > last)
    }

    /// The blocks with jobs from `oldest` to `newest`, newest first, each with the numbers of the first and the last job
    /// that it may have.
    pub fn blocks_back(&self, newest: JobSeq, oldest: JobSeq) -> impl Iterator<Item = ((JobSeq, JobSeq), &Block)> {
        let [first, last] = [oldest, newest].map(|seq| block_of(page_of(seq)));
        let range = (oldest <= newest).then(|| self.blocks.range(first..=last));
        range.into_iter().flatten().rev().map(move |(number, block)| {
            let first = number * BLOCK_NUMBERS;
            ((JobSeq::new(first).max(oldest), JobSeq::new(first + BLOCK_NUMBERS - 1).min(newest)), block)
        })
    }

    /// The first job that was submitted at an instant or later; `None` if there is none. O(log² n).
    pub fn first_since(&self, at: Timestamp) -> Option<JobSeq> {
        let (mut low, mut high) = (*self.blocks.keys().next()?, *self.blocks.keys().next_back()?);
        // The block is the last whose first job is older than the instant, or the first of all.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let found = self.blocks.range(middle..).find_map(|(number, block)| Some((*number, block.first()?)));
            match found.filter(|(_, first)| first.submitted_at < at) {
                Some((number, _)) => low = number.max(middle),
                None => high = middle - 1,
            }
        }
        let blocks = self.blocks.range(low..).map(|(_, block)| block);
        blocks.flat_map(|block| block.jobs_since(at)).next().map(|job| job.seq)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Removes an empty page; returns its memory.
    fn remove_page(&mut self, number: u64) -> VecDeque<Job> {
        let block = self.blocks.get_mut(&block_of(number)).expect("a page is in a block");
        let index = block.index_of(number).expect("it is there");
        let page = block.pages.remove(index).expect("it was just found");
        if block.pages.is_empty() {
            self.blocks.remove(&block_of(number));
        } else if 4 * block.pages.len() < block.pages.capacity() {
            block.pages.shrink_to(2 * block.pages.len());
        }
        page.jobs
    }

    /// Shrinks a page to which no job is added any more.
    fn shrink_page(&mut self, number: u64) {
        let block = self.blocks.get_mut(&block_of(number));
        let Some(page) = block.and_then(|block| block.page_mut(number)) else { return };
        if page.jobs.is_empty() {
            self.remove_page(number);
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

    /// The index of a page: its distance from the first one, or less if pages between them are missing.
    fn index_of(&self, number: u64) -> Option<usize> {
        let distance = number.checked_sub(self.pages.front()?.number)? as usize;
        if self.pages.get(distance).is_some_and(|page| page.number == number) {
            return Some(distance);
        }
        self.pages.binary_search_by_key(&number, |page| page.number).ok()
    }

    fn page(&self, number: u64) -> Option<&Page> {
        self.pages.get(self.index_of(number)?)
    }

    fn page_mut(&mut self, number: u64) -> Option<&mut Page> {
        let index = self.index_of(number)?;
        self.pages.get_mut(index)
    }

    fn first(&self) -> Option<&Job> {
        self.pages.iter().find_map(|page| page.jobs.front())
    }

    /// Its jobs that were submitted at an instant or later, from the first of a page on that may have the first.
    fn jobs_since(&self, at: Timestamp) -> impl Iterator<Item = &Job> {
        let is_older = |page: &Page| page.jobs.back().is_none_or(|last| last.submitted_at < at);
        let older = self.pages.iter().take_while(|page| is_older(page)).count();
        let jobs = self.pages.range(older..).flat_map(|page| &page.jobs);
        jobs.skip_while(move |job| job.submitted_at < at)
    }
}

impl Page {
    fn push(&mut self, job: Job) -> &mut Job {
        assert!(self.jobs.back().is_none_or(|last| last.seq < job.seq), "sequence numbers grow");
        if self.jobs.is_empty() {
            self.first = job.seq;
        }
        self.jobs.reserve_exact(PAGE_NUMBERS as usize - self.jobs.len());
        self.jobs.push_back(job);
        self.jobs.back_mut().expect("it was just pushed")
    }

    fn get(&self, seq: JobSeq) -> Option<&Job> {
        self.jobs.get(self.find(seq)?)
    }

    fn get_mut(&mut self, seq: JobSeq) -> Option<&mut Job> {
        let index = self.find(seq)?;
        self.jobs.get_mut(index)
    }

    fn remove(&mut self, seq: JobSeq) -> Option<Job> {
        let job = self.jobs.remove(self.find(seq)?)?;
        self.first = self.jobs.front().map_or(self.first, |first| first.seq);
        Some(job)
    }

    /// The index of a job: its distance in numbers from the first one, or less if numbers between them are missing.
    fn find(&self, seq: JobSeq) -> Option<usize> {
        let distance = seq.get().checked_sub(self.first.get())? as usize;
        if self.jobs.get(distance).is_some_and(|job| job.seq == seq) {
            return Some(distance);
        }
        self.jobs.binary_search_by_key(&seq, |job| job.seq).ok()
    }
}

fn kind_bit(kind: KindIndex) -> u64 {
    1 << (kind.0 % u64::BITS)
}

fn block_of(page: u64) -> u64 {
    page / BLOCK_PAGES
}

fn page_of(seq: JobSeq) -> u64 {
    seq.get() / PAGE_NUMBERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::tests::a_job;
    use proptest::prelude::*;

    impl JobTable {
        fn pages(&self) -> usize {
            self.blocks.values().map(|block| block.pages.len()).sum()
        }
    }

    proptest! {
        /// Numbers with gaps are added and removed in any order: the table has what a map has.
        #[test]
        fn the_table_has_the_jobs_of_a_map(
            steps in prop::collection::vec((1_u64..200, prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..200),
            since in 0_u64..20_000,
        ) {
            let (mut table, mut map, mut seq) = (JobTable::default(), BTreeMap::new(), 0);
            for (gap, removed) in steps {
                seq += gap;
                let job = Job { submitted_at: Timestamp::from_millis(seq / 10), ..a_job(seq) };
                map.insert(seq, job.submitted_at);
                table.insert(job);
                for index in removed {
                    if map.is_empty() {
                        break;
                    }
                    let gone = *map.keys().nth(index.index(map.len())).expect("it is within");
                    map.remove(&gone);
                    prop_assert_eq!(table.remove(JobSeq::new(gone)).map(|job| job.seq.get()), Some(gone));
                }
                table.count_changes(|_, _, _| ());
            }
            table.check_tallies();
            prop_assert_eq!(table.len(), map.len());
            for number in 0..=seq + 1 {
                prop_assert_eq!(table.get(JobSeq::new(number)).is_some(), map.contains_key(&number));
            }
            let seqs = |jobs: &mut dyn Iterator<Item = &Job>| jobs.map(|job| job.seq.get()).collect::<Vec<_>>();
            let from = seqs(&mut table.iter_from(JobSeq::new(since)));
            prop_assert_eq!(from, map.range(since..).map(|(seq, _)| *seq).collect::<Vec<_>>());
            let back = seqs(&mut table.iter_back_from(JobSeq::new(since)));
            prop_assert_eq!(back, map.range(..=since).rev().map(|(seq, _)| *seq).collect::<Vec<_>>());
            let at = Timestamp::from_millis(since / 10);
            let first = map.iter().find(|(_, submitted_at)| **submitted_at >= at).map(|(seq, _)| *seq);
            prop_assert_eq!(table.first_since(at).map(JobSeq::get), first);
            // One page more may be kept for the last job, and one that is empty for now.
            let pages = map.keys().map(|seq| seq / PAGE_NUMBERS).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(table.pages() <= pages.len() + 1);
        }
    }

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
        assert_eq!((table.len(), table.pages()), (3, 3));
        let left: Vec<_> = table.iter_from(JobSeq::new(65)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 192]);
        let left: Vec<_> = table.iter_back_from(JobSeq::new(191)).map(|job| job.seq.get()).collect();
        assert_eq!(left, [128, 64]);
        assert!(table.get(JobSeq::new(64)).is_some() && table.get(JobSeq::new(65)).is_none());
    }
}
