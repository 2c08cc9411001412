//! Parked requests: long polls that wait for a job to run, or for a job to end.
//!
//! Each has a number, an end, and the connection it came by. All operations are O(log n) in the requests parked.

use crate::http::RequestNo;
use sheratan_core::command::Pull;
use sheratan_core::ids::JobSeq;
use sheratan_core::queue::waiter::WaiterId;
use sheratan_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What the reply to a pull says before its jobs. A longer head acknowledges a result that the pull came with.
pub const PULL_HEAD: &[u8] = br#""ok":true"#;

/// Where a request came from and its reply goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The connection, by a number that is never reused.
    pub connection: u64,
    /// The request on it.
    pub request: RequestNo,
}

/// What a parked request waits for.
#[derive(Debug)]
pub enum Waiting {
    /// A job for a node. The head is what the reply says before the jobs.
    ForJobs {
        /// The pull to repeat.
        pull: Pull,
        /// Members of the reply that are known already.
        head: Vec<u8>,
    },
    /// The end of a job.
    ForEnd(JobSeq),
}

/// One parked request.
#[derive(Debug)]
pub struct Parked {
    /// Where the reply goes.
    pub origin: Origin,
    /// When it is answered in any case.
    pub until: Timestamp,
    /// What it waits for.
    pub waiting: Waiting,
}

/// All parked requests.
#[derive(Default, Debug)]
pub struct ParkedRequests {
    next_id: u64,
    requests: BTreeMap<WaiterId, Parked>,
    ends: BTreeSet<(Timestamp, WaiterId)>,
    by_connection: BTreeSet<(u64, WaiterId)>,
    by_job: BTreeSet<(JobSeq, WaiterId)>,
}

impl ParkedRequests {
    /// A number for a request that may be parked.
    pub fn next_id(&mut self) -> WaiterId {
        self.next_id += 1;
        WaiterId(self.next_id)
    }

    /// Parks a request.
    pub fn insert(&mut self, id: WaiterId, parked: Parked) {
        self.ends.insert((parked.until, id));
        self.by_connection.insert((parked.origin.connection, id));
        if let Waiting::ForEnd(job) = parked.waiting {
            self.by_job.insert((job, id));
        }
        self.requests.insert(id, parked);
    }

    /// Takes a request out; `None` if it was answered or forgotten before.
    pub fn take(&mut self, id: WaiterId) -> Option<Parked> {
        let parked = self.requests.remove(&id)?;
        self.ends.remove(&(parked.until, id));
        self.by_connection.remove(&(parked.origin.connection, id));
        if let Waiting::ForEnd(job) = parked.waiting {
            self.by_job.remove(&(job, id));
        }
        Some(parked)
    }

    /// Takes out who waits for the end of a job.
    pub fn take_for_end(&mut self, job: JobSeq) -> Vec<Parked> {
        let range = (job, WaiterId(0))..=(job, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_job.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Takes out a request whose time is over.
    pub fn take_ended(&mut self, now: Timestamp) -> Option<(WaiterId, Parked)> {
        let (until, id) = self.ends.first().copied()?;
        (until <= now).then(|| (id, self.take(id).expect("what has an end is parked")))
    }

    /// Takes out the requests whose replies acknowledge a result. O(n), for the day when the disk fails.
    pub fn take_acknowledging(&mut self) -> Vec<(WaiterId, Parked)> {
        let acknowledges = |parked: &Parked| match &parked.waiting {
            Waiting::ForJobs { head, .. } => head != PULL_HEAD,
            Waiting::ForEnd(_) => false,
        };
        let ids: Vec<_> = self.requests.iter().filter(|(_, parked)| acknowledges(parked)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// Takes out all requests of a connection.
    pub fn take_connection(&mut self, connection: u64) -> Vec<(WaiterId, Parked)> {
        let range = (connection, WaiterId(0))..=(connection, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_connection.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// Takes out all requests.
    pub fn take_all(&mut self) -> Vec<(WaiterId, Parked)> {
        let ids: Vec<_> = self.requests.keys().copied().collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// How many are parked.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// When the next request's time is over.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }
}
