//! Fetching results: the results of the jobs whose submits named a node as their client, in the order in which they
//! ended, from where the node stopped reading.
//!
//! A cursor is a position among the results of all clients. One that is given with the last result of a client is after
//! all that ended so far, so that what is dropped later than that, and is of others, never looks like a gap.

use crate::http::{Reply, Request};
use crate::object::object;
use crate::service::corrupt::{self, Corrupt};
use crate::service::long_polls::{self, LongPoll, Read, ResultsRead, WaitsFor};
use crate::service::problem::Problem;
use crate::service::query::{self, Query};
use crate::service::{Answer, Caller, Service, body, jobs, reply};
use sheratan_core::{FinalStatus, JobSeq, JobView, State, Timestamp};

/// The most results in one answer.
const RESULTS_MAX: u64 = 1_000;

/// Results follow until an answer has this many bytes: one of the largest results makes it longer by its own length.
const ANSWER_BYTES_MAX: usize = 1 << 20;

const QUERY: &[&str] = &["after", "limit", "wait_ms"];

impl Service {
    pub(super) fn fetch_results(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        let node = query::decode_segment(node).ok_or_else(|| Problem::bad_request("the path is not well encoded"))?;
        let client = body::name("node_id", &node)?;
        let query = Query::parse(request.query(), QUERY)?;
        let limit = query.number("limit", 1..=RESULTS_MAX)?.unwrap_or(100) as usize;
        let wait_ms = query.number("wait_ms", 0..=long_polls::WAIT_MS_MAX)?.unwrap_or(0);
        let position = query.get("after")?.map(|text| self.read_position(text)).transpose()?;
        if let Some(position) = position {
            self.hub.note_results_read(&client, position);
        }
        let read = ResultsRead { client, position: position.unwrap_or(0), limit };
        let is_empty = self.hub.queue().results_from(&read.client, read.position).next().is_none();
        if !is_empty || wait_ms == 0 || self.is_draining {
            return Ok(self.show(now, caller, Read::Results(read)));
        }
        if !self.may_wait {
            self.note_unparked(caller);
            return Err(Problem::share_is_used());
        }
        let id = self.long_polls.next_id();
        let until = long_polls::deadline(now, wait_ms);
        self.long_polls.insert(
            id,
            LongPoll { origin: caller.origin, until, token: self.token_used, waits_for: WaitsFor::Results(read) },
        );
        Ok(Answer::Parked)
    }

    /// The results that a client asks for, as they are now. `gone` is one that was dropped already.
    pub(in crate::service) fn results_reply(&mut self, read: &ResultsRead, gone: Option<JobView<'_>>) -> Reply {
        if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
            return Problem::not_durable(reason).into_reply();
        }
        let (reply, corrupt) = self.list_results(read, gone);
        corrupt.into_iter().for_each(|corrupt| self.note_corrupt(Some(corrupt)));
        reply
    }

    /// The reply, and the results in it that no longer match their checksum.
    fn list_results(&self, read: &ResultsRead, gone: Option<JobView<'_>>) -> (Reply, Vec<Corrupt>) {
        let mut all_corrupt = Vec::new();
        let ResultsRead { client, position, limit } = read;
        let queue = self.hub.queue();
        let mut jobs = gone.into_iter().chain(queue.results_from(client, *position)).peekable();
        let (mut results, mut count, mut last) = (Vec::new(), 0, None);
        while let Some(job) = jobs.next_if(|_| count < *limit && results.len() < ANSWER_BYTES_MAX) {
            if count > 0 {
                results.push(b',');
            }
            let State::Final { status, result, error, integrity, number, .. } = job.state() else {
                unreachable!("only final jobs have results")
            };
            let corrupt = corrupt::of_job(self.hub.ids(), job);
            object(&mut results, |out| {
                out.flag("ok", status == FinalStatus::Completed && corrupt.is_none());
                jobs::write_members(out, &self.hub, job);
                match corrupt {
                    None => out.payload("result", result.as_ref()).payload("error", error.as_ref()),
                    Some(_) => out.payload("result", None).plain("error", "result_corrupt").flag("corrupt", true),
                };
                corrupt::write_integrity(out, integrity.as_ref());
            });
            all_corrupt.extend(corrupt);
            (count, last) = (count + 1, Some(number + 1));
        }
        let has_more = jobs.peek().is_some();
        let end = last.filter(|_| has_more).unwrap_or_else(|| queue.results_end());
        let newest = JobSeq::new(queue.next_seq().get() - 1);
        let is_gap = gone.is_none() && queue.results_dropped_before(client) > *position;
        let reply = reply::ok(|out| {
            out.flag("ok", true).text("node_id", client).raw("results", &[b"[", &results[..], b"]"].concat());
            out.plain("cursor", self.hub.ids().result_cursor(end, newest));
            out.flag("has_more", has_more).flag("dropped", is_gap);
        });
        (reply, all_corrupt)
    }

    /// The position that a cursor names.
    fn read_position(&self, text: &str) -> Result<u64, Problem> {
        let position = self.hub.ids().parse_result_cursor(text);
        position.filter(|position| *position <= self.hub.queue().results_end()).ok_or_else(|| {
            Problem::bad_request("after must be the cursor of an earlier answer of this hub; begin again without it")
        })
    }
}
