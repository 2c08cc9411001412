//! Reads: while the journal cannot be written, those that would show what a crash may undo wait for it.

use super::long_polls::{self, LongPoll, Read, WaitsFor};
use super::problem::Problem;
use super::route::{self, Lookup, Route};
use super::{Answer, Caller, Plane, Service, jobs};
use crate::http::{Reply, Request};
use sheratan_core::Timestamp;

impl Service {
    /// Answers a read. While the journal cannot be written, a read that would show what a crash may undo waits.
    pub(super) fn show(&mut self, now: Timestamp, caller: &Caller, read: Read) -> Answer {
        if self.why_hidden(&read).is_none() {
            return Answer::Reply(self.read_reply(&read));
        }
        let id = self.long_polls.next_id();
        let until = now + long_polls::HIDDEN_MS_MAX;
        self.long_polls.insert(
            id,
            LongPoll { origin: caller.origin, until, token: self.token_used, waits_for: WaitsFor::Journal(read) },
        );
        Answer::Parked
    }

    /// The reply to a read, with the state as it is now.
    pub(super) fn read_reply(&mut self, read: &Read) -> Reply {
        match read {
            Read::Job(seq) => self.job_reply(*seq),
            Read::Results(read) => self.results_reply(read, None),
            Read::Page(query) => self.page_reply(query.as_deref()).unwrap_or_else(Problem::into_reply),
            Read::Of { path, query } => self.reply_of(path, query.as_deref()).unwrap_or_else(Problem::into_reply),
        }
    }

    /// Answers a read that is not of one job: it may show what any record changed.
    pub(super) fn show_of(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Answer {
        let (path, query) = (request.path().to_owned(), request.query().map(str::to_owned));
        self.show(now, caller, Read::Of { path, query })
    }

    fn reply_of(&mut self, path: &str, query: Option<&str>) -> Result<Reply, Problem> {
        if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
            return Err(Problem::not_durable(reason));
        }
        match route::find(Plane::Data, path) {
            Lookup::Found(Route::Jobs(jobs::Route::Explain(id))) => self.explain_job(id),
            Lookup::Found(Route::Kinds(route)) => self.read_kinds(route, query),
            Lookup::Found(Route::Letters(route)) => self.read_letters(route, query),
            Lookup::Found(Route::Orphans(route)) => self.read_orphans(route, query),
            Lookup::Found(Route::Weights(_)) => Ok(self.weights_reply()),
            other => unreachable!("reads of {} are made otherwise", other.name()),
        }
    }

    /// Why a read may not be answered: the journal cannot be written, and does not hold what the reply would show.
    pub(super) fn why_hidden(&self, read: &Read) -> Option<&str> {
        let ended_at = self.hub.ended_at();
        let job = match read {
            Read::Job(seq) => self.hub.queue().get(*seq),
            Read::Page(_) | Read::Results(_) | Read::Of { .. } => None,
        };
        match job {
            Some(job) => self.uncommitted.job_hidden_because(ended_at, job),
            // While commands are not durable they may be why a job is unknown: one that ends can evict another.
            None => self.uncommitted.hidden_because(ended_at),
        }
    }
}
