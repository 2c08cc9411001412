//! Long polls: requests that wait for a job to run, or for a job to end.
//!
//! Each has an id, an end, and the connection it came by. Unless they say otherwise operations are O(log n) in the long
//! polls. How each is answered is below, in the service's part: a pull is repeated when the hub wakes it, a read of a job is
//! answered at the job's end, and both when their time is over.

use super::leases::REPLY_HEAD;
use super::problem::Problem;
use super::route::Plane;
use super::{Service, rules};
use crate::http::{Reply, RequestId};
use sheratan_core::{Caller as Asker, EndedJob, JobSeq, Pull, Timestamp, WaiterId};
use std::collections::{BTreeMap, BTreeSet};

/// The longest long poll: below the idle limits of the proxies in common use.
pub const WAIT_MS_MAX: u64 = 60_000;

/// Where a request came from and its reply goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The connection, by a number that is never reused.
    pub connection: u64,
    /// The request on it.
    pub request: RequestId,
}

/// What a long poll waits for.
#[derive(Debug)]
pub enum WaitsFor {
    /// A job for a node. The head is what the reply says before the jobs.
    Jobs {
        /// The pull to repeat, and who asked.
        pull: Pull,
        asker: Asker,
        /// Members of the reply that are known already.
        head: Vec<u8>,
    },
    /// The end of a job.
    End(JobSeq),
}

/// One long poll.
#[derive(Debug)]
pub struct LongPoll {
    /// Where the reply goes.
    pub origin: Origin,
    /// When it is answered in any case.
    pub until: Timestamp,
    pub waits_for: WaitsFor,
}

/// All long polls, and the replies to those that were answered.
#[derive(Default, Debug)]
pub struct LongPolls {
    next_id: u64,
    polls: BTreeMap<WaiterId, LongPoll>,
    ends: BTreeSet<(Timestamp, WaiterId)>,
    by_connection: BTreeSet<(u64, WaiterId)>,
    by_job: BTreeSet<(JobSeq, WaiterId)>,
    replies: Vec<(Origin, Reply)>,
}

impl LongPolls {
    /// An id for a request that may have to wait.
    pub fn next_id(&mut self) -> WaiterId {
        self.next_id += 1;
        WaiterId(self.next_id)
    }

    /// A request waits from now on.
    pub fn insert(&mut self, id: WaiterId, poll: LongPoll) {
        self.ends.insert((poll.until, id));
        self.by_connection.insert((poll.origin.connection, id));
        if let WaitsFor::End(job) = poll.waits_for {
            self.by_job.insert((job, id));
        }
        self.polls.insert(id, poll);
    }

    /// Takes a request out; `None` if it was answered or forgotten before.
    pub fn take(&mut self, id: WaiterId) -> Option<LongPoll> {
        let poll = self.polls.remove(&id)?;
        self.ends.remove(&(poll.until, id));
        self.by_connection.remove(&(poll.origin.connection, id));
        if let WaitsFor::End(job) = poll.waits_for {
            self.by_job.remove(&(job, id));
        }
        Some(poll)
    }

    /// Takes out the requests that wait for the end of a job.
    pub fn take_for_end(&mut self, job: JobSeq) -> Vec<LongPoll> {
        let range = (job, WaiterId(0))..=(job, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_job.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Takes out a request whose time is over.
    pub fn take_ended(&mut self, now: Timestamp) -> Option<(WaiterId, LongPoll)> {
        let (until, id) = self.ends.first().copied()?;
        (until <= now).then(|| (id, self.take(id).expect("what has an end waits")))
    }

    /// Takes out the requests whose replies acknowledge a result. O(n), for the day when the disk fails.
    pub fn take_acknowledging(&mut self) -> Vec<(WaiterId, LongPoll)> {
        let acknowledges = |poll: &LongPoll| match &poll.waits_for {
            WaitsFor::Jobs { head, .. } => head != REPLY_HEAD,
            WaitsFor::End(_) => false,
        };
        let ids: Vec<_> = self.polls.iter().filter(|(_, poll)| acknowledges(poll)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// Takes out all requests of a connection.
    pub fn take_connection(&mut self, connection: u64) -> Vec<(WaiterId, LongPoll)> {
        let range = (connection, WaiterId(0))..=(connection, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_connection.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// Takes out all requests.
    pub fn take_all(&mut self) -> Vec<(WaiterId, LongPoll)> {
        let ids: Vec<_> = self.polls.keys().copied().collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.polls.len()
    }

    /// When the next one's time is over.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }
}

impl Service {
    /// Replies to requests that had to wait; the caller drains them.
    pub fn late_replies(&mut self) -> &mut Vec<(Origin, Reply)> {
        &mut self.long_polls.replies
    }

    /// There is a job for a pull that waits: repeats it.
    pub(super) fn wake(&mut self, now: Timestamp, id: WaiterId) {
        let Some(poll) = self.long_polls.take(id) else { return };
        let LongPoll { origin, until, waits_for: WaitsFor::Jobs { pull, asker, head } } = poll else {
            unreachable!("only pulls wait in the hub");
        };
        match self.repeat_pull(now, asker, &pull) {
            Some(Ok(pulled)) => {
                let reply = self.pull_reply(head, &pulled);
                self.answer_late(origin, reply);
            }
            Some(Err(problem)) => self.answer_late(origin, problem.into_reply()),
            // The job went to another, or the node changed since and may not take it.
            None if self.hub.park(id, &pull) => {
                let waits_for = WaitsFor::Jobs { pull, asker, head };
                self.long_polls.insert(id, LongPoll { origin, until, waits_for });
            }
            None => self.answer_late(origin, Self::empty_pull_reply(head)),
        }
    }

    /// A job is final: answers the requests that wait for that. The hub may not know it any more: then it is `gone`.
    pub(super) fn answer_end(&mut self, job: JobSeq, gone: Option<&EndedJob>) {
        let is_final = gone.is_some() || self.hub.queue().get(job).is_some_and(|job| job.is_final());
        if !rules::is_wait_over(is_final) {
            return;
        }
        for poll in self.long_polls.take_for_end(job) {
            let reply = gone.map_or_else(|| self.job_reply(job), |gone| self.reply_with(gone.view()));
            self.answer_late(poll.origin, reply);
        }
    }

    /// Answers the long polls whose time is over.
    pub(super) fn end_due_polls(&mut self, now: Timestamp) {
        while let Some((id, poll)) = self.long_polls.take_ended(now) {
            self.end_poll(id, poll);
        }
    }

    /// Answers the long polls of a connection as if their time were over.
    pub(super) fn end_polls_of(&mut self, connection: u64) {
        for (id, poll) in self.long_polls.take_connection(connection) {
            self.end_poll(id, poll);
        }
    }

    /// Answers all long polls as if their time were over.
    pub(super) fn end_all_polls(&mut self) {
        for (id, poll) in self.long_polls.take_all() {
            self.end_poll(id, poll);
        }
    }

    /// Drops the long polls of a connection that is gone.
    pub(super) fn drop_polls_of(&mut self, connection: u64) {
        for (id, _) in self.long_polls.take_connection(connection) {
            self.hub.unpark(id);
        }
    }

    /// The journal takes nothing: refuses the long polls that came with a result, since their replies would acknowledge it.
    pub(super) fn refuse_acknowledging_polls(&mut self, reason: &str) {
        for (id, poll) in self.long_polls.take_acknowledging() {
            self.hub.unpark(id);
            self.answer_late(poll.origin, Problem::journal_unavailable(reason).into_reply());
        }
    }

    fn end_poll(&mut self, id: WaiterId, poll: LongPoll) {
        let reply = match poll.waits_for {
            WaitsFor::Jobs { head, .. } => {
                self.hub.unpark(id);
                Self::empty_pull_reply(head)
            }
            WaitsFor::End(job) => self.job_reply(job),
        };
        self.answer_late(poll.origin, reply);
    }

    /// Only the data plane has long polls.
    fn answer_late(&mut self, origin: Origin, reply: Reply) {
        self.traffic.answered(Plane::Data, "long_poll", reply.status());
        self.long_polls.replies.push((origin, reply));
    }
}
