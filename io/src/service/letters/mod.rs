//! Dead letters: operators list them, look at them, requeue and discard them.

mod acts;

use super::problem::Problem;
use super::query::Query;
use super::{Answer, Caller, Service, jobs, letter_filter, path, reply, rules};
use crate::http::{Method, Reply, Request};
use crate::object::object;
use sheratan_core::{ActOn, Command, JobSeq, Outcome, Refusal, Timestamp};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// A page of dead letters.
    List,
    /// One dead letter, by its job's id.
    One(&'a str),
    /// Requeue one.
    Requeue(&'a str),
    /// Requeue or discard many.
    Many(ActOn),
    /// All acts on many.
    Acts,
    /// One act on many.
    Act(&'a str),
    /// End an act on many.
    CancelAct(&'a str),
}

/// The most letters on one page.
const PAGE_LETTERS_MAX: u64 = 1_000;

/// The most letters examined for one page, about 2 ms.
const EXAMINED_MAX: usize = 10_000;

/// The parameters of a page.
const PAGE_QUERY: &[&str] = &["kind", "error", "reason", "before_utc", "after_utc", "limit", "cursor"];

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/dlq" => Some(Route::List),
            "/mesh/dlq/requeue" => Some(Route::Many(ActOn::Requeue)),
            "/mesh/dlq/discard" => Some(Route::Many(ActOn::Discard)),
            "/mesh/dlq/acts" => Some(Route::Acts),
            _ if path.starts_with("/mesh/dlq/acts/") => {
                let cancel = || path::parameter(path.strip_suffix("/cancel")?, "/mesh/dlq/acts/").map(Route::CancelAct);
                path::parameter(path, "/mesh/dlq/acts/").map(Route::Act).or_else(cancel)
            }
            _ => {
                let requeue = || path::parameter(path.strip_suffix("/requeue")?, "/mesh/dlq/").map(Route::Requeue);
                path::parameter(path, "/mesh/dlq/").map(Route::One).or_else(requeue)
            }
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::List => "dlq",
            Route::One(_) => "dlq_one",
            Route::Requeue(_) => "dlq_requeue",
            Route::Many(ActOn::Requeue) => "dlq_requeue_many",
            Route::Many(ActOn::Discard) => "dlq_discard_many",
            Route::Acts => "dlq_acts",
            Route::Act(_) => "dlq_act",
            Route::CancelAct(_) => "dlq_act_cancel",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::List | Route::Acts | Route::Act(_) => "GET, HEAD",
            Route::One(_) => "GET, HEAD, DELETE",
            Route::Requeue(_) | Route::Many(_) | Route::CancelAct(_) => "POST",
        }
    }
}

impl Service {
    pub(super) fn handle_letters(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::One(id) if *request.method() == Method::Delete => {
                let job = self.parse_job(id)?;
                self.act_on_letter(now, caller, job, Command::Discard(job), "failed")
            }
            Route::Requeue(id) => {
                let job = self.parse_job(id)?;
                self.act_on_letter(now, caller, job, Command::Requeue(job), "queued")
            }
            Route::Many(what) => self.begin_act(now, caller, request, what),
            Route::CancelAct(id) => self.cancel_act(now, caller, parse_act(id)?),
            Route::List | Route::One(_) | Route::Acts | Route::Act(_) => Ok(self.show_of(now, caller, request)),
        }
    }

    pub(super) fn read_letters(&mut self, route: Route, query: Option<&str>) -> Result<Reply, Problem> {
        match route {
            Route::List => self.list_letters(query),
            Route::One(id) => {
                let job = self.parse_job(id)?;
                let is_dead = |job: sheratan_core::JobView<'_>| job.status() == "dead";
                if !self.hub.queue().get(job).is_some_and(is_dead) {
                    return Err(Problem::unknown_job());
                }
                Ok(self.job_reply(job))
            }
            Route::Acts => Ok(self.list_acts()),
            Route::Act(id) => self.read_act(parse_act(id)?),
            Route::Requeue(_) | Route::Many(_) | Route::CancelAct(_) => unreachable!("they are no reads"),
        }
    }

    /// The job that an id in a path names.
    pub(super) fn parse_job(&self, id: &str) -> Result<JobSeq, Problem> {
        self.hub.ids().parse_job_id(id).ok_or_else(Problem::unknown_job)
    }

    fn act_on_letter(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        job: JobSeq,
        command: Command,
        status: &str,
    ) -> Result<Answer, Problem> {
        match self.execute(now, self.asker(caller), command)? {
            Outcome::Done => Ok(rules::acknowledgement(reply::ok(|out| {
                out.flag("ok", true).plain("job_id", self.hub.ids().job_id(job)).plain("status", status);
            }))),
            // The letter stays: its payload may well be the same.
            Outcome::Refused(Refusal::KeyCollision { job: newer, .. }) => {
                Err(Problem::letter_key_taken(&self.hub, newer))
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    /// A page of letters in the order in which they ended. The cursor is a letter's final number, so it stays valid
    /// whatever leaves or comes.
    fn list_letters(&self, query: Option<&str>) -> Result<Reply, Problem> {
        let query = Query::parse(query, PAGE_QUERY)?;
        let limit = query.number("limit", 1..=PAGE_LETTERS_MAX)?.unwrap_or(100) as usize;
        let from = query.number("cursor", 0..=u64::MAX)?.unwrap_or(0);
        let filter = letter_filter::of_query(&query, self.hub.calendar())?;
        let (mut page, mut scanned, mut next) = (Vec::new(), 0_u64, None);
        for (number, letter) in self.hub.queue().letters_from(from, filter.kind.as_deref()) {
            if page.len() == limit || scanned == EXAMINED_MAX as u64 {
                next = Some(number);
                break;
            }
            scanned += 1;
            page.extend(Some(letter).filter(|letter| filter.matches(letter)));
        }
        Ok(reply::ok(|out| {
            out.flag("ok", true);
            out.array("letters", page, |out, letter| object(out, |out| jobs::write_members(out, &self.hub, letter)));
            out.number("total", self.hub.counts().dead).number("scanned", scanned);
            match next {
                Some(next) => out.plain("next_cursor", next),
                None => out.raw("next_cursor", b"null"),
            };
        }))
    }
}

/// The act that an id in a path names.
fn parse_act(text: &str) -> Result<u32, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(Problem::unknown_act)
}
