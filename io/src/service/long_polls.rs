//! Long polls: requests that wait for a job to run, for a job or one of a client's jobs to end, or for the journal to hold
//! what they would show.
//!
//! Each has an id, a deadline, and the connection that sent it. Operations are O(log n) in the long polls unless they
//! say otherwise. The service's part below answers them: a pull is repeated when the hub wakes it, a read of a job is
//! answered at the job's end, and both are answered at their deadline.

use super::plane::Plane;
use super::problem::{AuthReason, Problem};
use super::{Service, rules};
use crate::http::{Reply, RequestId};
use sheratan_core::{Caller as Asker, EndedJob, JobSeq, Millis, Name, Pull, Timestamp, TokenVerdict, WaiterId};
use std::collections::{BTreeMap, BTreeSet};

/// The members of a pull's reply that precede the jobs. A longer head acknowledges the result that carried the pull.
pub const REPLY_HEAD: &[u8] = br#""ok":true"#;

/// The longest wait that may be asked for.
pub const WAIT_MS_MAX: u64 = 60_000;

/// How long a read waits for a journal that cannot be written: as long as a reply is held for it.
pub const HIDDEN_MS_MAX: Millis = Millis::from_secs(30);

/// When a long poll is answered at the latest: proxies in common use give up after 60 s.
const ANSWERED_WITHIN: Millis = Millis::from_secs(59);

/// When a long poll that was asked for now ends.
pub fn deadline(now: Timestamp, wait_ms: u64) -> Timestamp {
    now + Millis::new(wait_ms).min(ANSWERED_WITHIN)
}

/// The connection and request that a reply goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The connection's id, which is never reused.
    pub connection: u64,
    /// The request on it.
    pub request: RequestId,
}

/// What a long poll waits for.
#[derive(Debug)]
pub enum WaitsFor {
    /// A job for a node.
    Jobs {
        /// The pull to repeat, and its sender.
        pull: Pull,
        asker: Asker,
        /// The members of the reply that precede the jobs.
        head: Vec<u8>,
    },
    /// The end of a job.
    End(JobSeq),
    /// The end of a job of a client.
    Results(ResultsRead),
    /// The journal, which cannot be written and does not hold what this would show.
    Journal(Read),
}

/// A read of jobs, as it is repeated.
#[derive(Debug)]
pub enum Read {
    /// One job.
    Job(JobSeq),
    /// The page that this query asks for.
    Page(Option<String>),
    /// Results of a client.
    Results(ResultsRead),
    /// Any other read, by its path and query.
    Of { path: String, query: Option<String> },
}

/// What a client asks for of its results.
#[derive(Debug)]
pub struct ResultsRead {
    pub client: Name,
    /// The position from which on it has not read.
    pub position: u64,
    pub limit: usize,
}

/// A reply to a request that waited.
#[derive(Debug)]
pub struct LateReply {
    /// Where it goes.
    pub origin: Origin,
    /// The reply.
    pub reply: Reply,
    /// Whether it acknowledges a command or shows jobs: it must not be sent before that is durable.
    pub is_acknowledgement: bool,
}

/// One long poll.
#[derive(Debug)]
pub struct LongPoll {
    /// Where the reply goes.
    pub origin: Origin,
    /// The deadline, at which it is answered in any case.
    pub until: Timestamp,
    /// What the token of the request was.
    pub token: Option<TokenVerdict>,
    pub waits_for: WaitsFor,
}

/// All long polls, and the replies to those that were answered and not drained.
#[derive(Default, Debug)]
pub struct LongPolls {
    next_id: u64,
    polls: BTreeMap<WaiterId, LongPoll>,
    ends: BTreeSet<(Timestamp, WaiterId)>,
    by_connection: BTreeSet<(u64, WaiterId)>,
    by_job: BTreeSet<(JobSeq, WaiterId)>,
    by_client: BTreeSet<(Name, WaiterId)>,
    by_node: BTreeSet<(Name, WaiterId)>,
    replies: Vec<LateReply>,
}

impl LongPolls {
    /// An id for a request that may have to wait.
    pub fn next_id(&mut self) -> WaiterId {
        self.next_id += 1;
        WaiterId(self.next_id)
    }

    /// Adds a waiting request.
    pub fn insert(&mut self, id: WaiterId, poll: LongPoll) {
        self.ends.insert((poll.until, id));
        self.by_connection.insert((poll.origin.connection, id));
        match &poll.waits_for {
            WaitsFor::End(job) => _ = self.by_job.insert((*job, id)),
            WaitsFor::Results(read) => _ = self.by_client.insert((read.client.clone(), id)),
            WaitsFor::Jobs { pull, .. } => _ = self.by_node.insert((pull.node.clone(), id)),
            WaitsFor::Journal(_) => {}
        }
        self.polls.insert(id, poll);
    }

    /// Removes a request; `None` if it was answered or dropped before.
    pub fn remove(&mut self, id: WaiterId) -> Option<LongPoll> {
        let poll = self.polls.remove(&id)?;
        self.ends.remove(&(poll.until, id));
        self.by_connection.remove(&(poll.origin.connection, id));
        match &poll.waits_for {
            WaitsFor::End(job) => _ = self.by_job.remove(&(*job, id)),
            WaitsFor::Results(read) => _ = self.by_client.remove(&(read.client.clone(), id)),
            WaitsFor::Jobs { pull, .. } => _ = self.by_node.remove(&(pull.node.clone(), id)),
            WaitsFor::Journal(_) => {}
        }
        Some(poll)
    }

    /// Removes the requests that wait for the end of a job.
    pub fn remove_for_job(&mut self, job: JobSeq) -> Vec<LongPoll> {
        let range = (job, WaiterId(0))..=(job, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_job.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes the requests that wait for results of a client.
    pub fn remove_for_client(&mut self, client: &Name) -> Vec<LongPoll> {
        let range = (client.clone(), WaiterId(0))..=(client.clone(), WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_client.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes the pulls of a node that wait.
    pub fn remove_for_node(&mut self, node: &Name) -> Vec<(WaiterId, LongPoll)> {
        let range = (node.clone(), WaiterId(0))..=(node.clone(), WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_node.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Removes a request whose deadline has passed.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(WaiterId, LongPoll)> {
        let (until, id) = self.ends.first().copied()?;
        (until <= now).then(|| (id, self.remove(id).expect("each deadline belongs to a waiting request")))
    }

    /// Removes the reads that wait for the journal. O(n); used only when the journal recovers.
    pub fn remove_reads(&mut self) -> Vec<(WaiterId, LongPoll)> {
        self.remove_where(|poll| matches!(poll.waits_for, WaitsFor::Journal(_)))
    }

    /// Removes the requests that are so. O(n).
    pub fn remove_where(&mut self, is_it: impl Fn(&LongPoll) -> bool) -> Vec<(WaiterId, LongPoll)> {
        let ids: Vec<_> = self.polls.iter().filter(|(_, poll)| is_it(poll)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Removes all requests of a connection.
    pub fn remove_connection(&mut self, connection: u64) -> Vec<(WaiterId, LongPoll)> {
        let range = (connection, WaiterId(0))..=(connection, WaiterId(u64::MAX));
        let ids: Vec<_> = self.by_connection.range(range).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Removes all requests.
    pub fn remove_all(&mut self) -> Vec<(WaiterId, LongPoll)> {
        let ids: Vec<_> = self.polls.keys().copied().collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Moves all deadlines. O(n).
    pub fn postpone(&mut self, duration: Millis) {
        self.polls.values_mut().for_each(|poll| poll.until = poll.until + duration);
        self.ends = self.polls.iter().map(|(id, poll)| (poll.until, *id)).collect();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.polls.len()
    }

    /// The earliest deadline.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }
}

impl Service {
    /// Replies to requests that waited; the caller drains them.
    pub fn late_replies(&mut self) -> &mut Vec<LateReply> {
        &mut self.long_polls.replies
    }

    /// Repeats a waiting pull, for which there may be a job now.
    pub(super) fn wake(&mut self, now: Timestamp, id: WaiterId) {
        let Some(poll) = self.long_polls.remove(id) else { return };
        let LongPoll { origin, until, token, waits_for: WaitsFor::Jobs { pull, asker, head } } = poll else {
            unreachable!("only pulls wait in the hub");
        };
        let acknowledges_result = head != REPLY_HEAD;
        match self.repeat_pull(now, asker, &pull) {
            Some(Ok(pulled)) => {
                let reply = self.pull_reply(head, &pull.node, &pulled);
                self.answer_late(origin, reply, true);
            }
            // The result that carried the pull was accepted, whatever becomes of the pull.
            Some(Err(_)) if acknowledges_result => {
                let reply = self.empty_pull_reply(head, &pull.node);
                self.answer_late(origin, reply, true);
            }
            Some(Err(problem)) => self.answer_late(origin, problem.into_reply(), false),
            // Another node leased the job, or this node has changed since and may not run it.
            None if self.hub.park(id, &pull) => {
                let waits_for = WaitsFor::Jobs { pull, asker, head };
                self.long_polls.insert(id, LongPoll { origin, until, token, waits_for });
            }
            None => {
                let reply = self.empty_pull_reply(head, &pull.node);
                self.answer_late(origin, reply, acknowledges_result);
            }
        }
    }

    /// Answers the requests that wait for the end of a job, which is final. If it was dropped already, `gone` is its
    /// last state.
    pub(super) fn answer_end(&mut self, job: JobSeq, gone: Option<&EndedJob>) {
        let is_final = gone.is_some() || self.hub.queue().get(job).is_some_and(|job| job.is_final());
        if !rules::is_wait_over(is_final) {
            return;
        }
        self.answer_results(job, gone);
        for poll in self.long_polls.remove_for_job(job) {
            let read = Read::Job(job);
            if gone.is_none() && self.why_hidden(&read).is_some() {
                self.wait_for_journal((poll.origin, poll.token), poll.until, read);
                continue;
            }
            let reply = match gone {
                None => self.job_reply(job),
                Some(gone) => self.gone_reply(gone),
            };
            self.show_late(poll.origin, reply);
        }
    }

    /// Answers the clients that wait for results, if the job that ended is theirs.
    fn answer_results(&mut self, job: JobSeq, gone: Option<&EndedJob>) {
        if self.long_polls.by_client.is_empty() {
            return;
        }
        let gone = gone.map(EndedJob::view);
        let Some(client) = gone.or_else(|| self.hub.queue().get(job)).and_then(|job| job.client().cloned()) else {
            return;
        };
        for poll in self.long_polls.remove_for_client(&client) {
            let LongPoll { origin, until, token, waits_for: WaitsFor::Results(read) } = poll else {
                unreachable!("it waits for results");
            };
            if gone.is_none() && self.uncommitted.hidden_because(self.hub.ended_at()).is_some() {
                self.wait_for_journal((origin, token), until, Read::Results(read));
                continue;
            }
            let reply = self.results_reply(&read, gone);
            self.show_late(origin, reply);
        }
    }

    /// Lets a request wait for the journal, which does not hold what it would show.
    fn wait_for_journal(&mut self, (origin, token): (Origin, Option<TokenVerdict>), until: Timestamp, read: Read) {
        let id = self.long_polls.next_id();
        self.long_polls.insert(id, LongPoll { origin, until, token, waits_for: WaitsFor::Journal(read) });
    }

    /// Answers the reads that waited for the journal.
    pub(super) fn answer_reads(&mut self, now: Timestamp) {
        let reads = self.long_polls.remove_reads();
        if !reads.is_empty() {
            self.record_time(now);
        }
        for (id, poll) in reads {
            self.end_poll(id, poll);
        }
    }

    /// Answers the long polls whose deadline has passed.
    pub(super) fn end_due_polls(&mut self, now: Timestamp) {
        while let Some((id, poll)) = self.long_polls.pop_due(now) {
            self.end_poll(id, poll);
        }
    }

    /// Answers the long polls of a connection as if they timed out.
    pub(super) fn end_polls_of(&mut self, connection: u64) {
        for (id, poll) in self.long_polls.remove_connection(connection) {
            self.end_poll(id, poll);
        }
    }

    /// Answers the pulls of a node that wait as if they timed out.
    pub(super) fn end_polls_of_node(&mut self, node: &Name) {
        for (id, poll) in self.long_polls.remove_for_node(node) {
            self.end_poll(id, poll);
        }
    }

    /// Answers all long polls as if they timed out.
    pub(super) fn end_all_polls(&mut self) {
        for (id, poll) in self.long_polls.remove_all() {
            self.end_poll(id, poll);
        }
    }

    /// Drops the long polls of a closed connection.
    pub(super) fn drop_polls_of(&mut self, connection: u64) {
        for (id, _) in self.long_polls.remove_connection(connection) {
            self.hub.unpark(id);
        }
    }

    /// Refuses the long polls whose token is not accepted any more. A result that came with one was accepted. O(n).
    pub(super) fn refuse_polls(&mut self, is_over: impl Fn(TokenVerdict) -> bool, reason: AuthReason) {
        for (id, poll) in self.long_polls.remove_where(|poll| poll.token.is_some_and(&is_over)) {
            match &poll.waits_for {
                WaitsFor::Jobs { head, .. } if head == REPLY_HEAD => self.hub.unpark(id),
                WaitsFor::Jobs { .. } => {
                    self.end_poll(id, poll);
                    continue;
                }
                WaitsFor::End(_) | WaitsFor::Results(_) | WaitsFor::Journal(_) => {}
            }
            self.answer_late(poll.origin, Problem::auth_failure(reason).into_reply(), false);
        }
    }

    fn end_poll(&mut self, id: WaiterId, poll: LongPoll) {
        match poll.waits_for {
            WaitsFor::Jobs { head, pull, .. } => {
                self.hub.unpark(id);
                let acknowledges_result = head != REPLY_HEAD;
                let reply = self.empty_pull_reply(head, &pull.node);
                self.answer_late(poll.origin, reply, acknowledges_result);
            }
            WaitsFor::End(job) => {
                let reply = self.job_reply(job);
                self.show_late(poll.origin, reply);
            }
            WaitsFor::Results(read) => {
                let reply = self.results_reply(&read, None);
                self.show_late(poll.origin, reply);
            }
            WaitsFor::Journal(read) => {
                let reply = self.read_reply(&read);
                self.show_late(poll.origin, reply);
            }
        }
    }

    /// Sends a reply that shows jobs, or the problem that says why it does not.
    fn show_late(&mut self, origin: Origin, reply: Reply) {
        let is_acknowledgement = reply.status() != 503;
        self.answer_late(origin, reply, is_acknowledgement);
    }

    /// Only the data plane has long polls.
    fn answer_late(&mut self, origin: Origin, reply: Reply, is_acknowledgement: bool) {
        self.traffic.answered(Plane::Data, "long_poll", reply.status());
        self.long_polls.replies.push(LateReply { origin, reply, is_acknowledgement });
    }
}
