//! Orphans: results of jobs that the hub does not know. Operators list them, and adopt or discard them one by one.

use super::body::{self, Fields};
use super::problem::Problem;
use super::query::Query;
use super::{Answer, Caller, Service, corrupt, path, reply, rules};
use crate::http::{Method, Reply, Request};
use crate::object::{Object, object};
use sheratan_core::{AdoptOrphan, Command, Hub, Orphan, Outcome, Refusal, Timestamp};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// A page of orphans.
    List,
    /// One orphan, by its id.
    One(&'a str),
    /// Make one the result of a job.
    Adopt(&'a str),
}

/// The most orphans on one page.
const PAGE_ORPHANS_MAX: u64 = 1_000;

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/orphans" => Some(Route::List),
            _ => {
                let adopt = || path::parameter(path.strip_suffix("/adopt")?, "/mesh/orphans/").map(Route::Adopt);
                path::parameter(path, "/mesh/orphans/").map(Route::One).or_else(adopt)
            }
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::List => "orphans",
            Route::One(_) => "orphan",
            Route::Adopt(_) => "orphan_adopt",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::List => "GET, HEAD",
            Route::One(_) => "GET, HEAD, DELETE",
            Route::Adopt(_) => "POST",
        }
    }
}

impl Service {
    pub(super) fn handle_orphans(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::One(id) if *request.method() == Method::Delete => {
                let orphan = parse_id(id)?;
                match self.execute(now, self.asker(caller), Command::DiscardOrphan(orphan))? {
                    Outcome::Done => Ok(rules::acknowledgement(reply::ok(|out| _ = out.flag("ok", true)))),
                    outcome => Err(self.problem_of(now, outcome)),
                }
            }
            Route::Adopt(id) => self.adopt_orphan(now, caller, request, id),
            Route::List | Route::One(_) => Ok(self.show_of(now, caller, request)),
        }
    }

    pub(super) fn read_orphans(&mut self, route: Route, query: Option<&str>) -> Result<Reply, Problem> {
        match route {
            Route::List => self.list_orphans(query),
            Route::One(id) => {
                let id = parse_id(id)?;
                self.check_orphan(id)?;
                let orphan = self.hub.orphans().get(id).ok_or_else(Problem::unknown_orphan)?;
                Ok(reply::ok(|out| {
                    out.flag("ok", true).object("orphan", |out| write_orphan(out, &self.hub, orphan, Shown::All));
                }))
            }
            Route::Adopt(_) => unreachable!("it is no read"),
        }
    }

    /// The result becomes that of the job that the body names, or of the one that it was sent for.
    fn adopt_orphan(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        id: &str,
    ) -> Result<Answer, Problem> {
        let body: &[u8] = if request.body().is_empty() { b"{}" } else { request.body() };
        let fields = Fields::parse_strict(body, &["job_id"])?;
        let id = parse_id(id)?;
        // Under another job it gets a checksum of the hub's own.
        self.check_orphan(id)?;
        let orphan = self.hub.orphans().get(id).ok_or_else(Problem::unknown_orphan)?;
        let named = fields.text("job_id")?;
        let job = self.parse_job(named.as_deref().unwrap_or(&orphan.parked.job_id))?;
        match self.execute(now, self.asker(caller), Command::AdoptOrphan(AdoptOrphan { orphan: id, job }))? {
            Outcome::Completed(completed) => Ok(rules::acknowledgement(reply::ok(|out| {
                super::results::write_completed(out, &self.hub, &completed);
            }))),
            Outcome::Refused(Refusal::LeaseLost | Refusal::AlreadyFinal { .. }) => {
                let status = self.hub.queue().get(job).map_or("", |job| job.status());
                Err(Problem::adopted_by_ended(status))
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    /// Refuses to show or use an orphan that was changed where it is stored.
    fn check_orphan(&mut self, id: u64) -> Result<(), Problem> {
        let orphan = self.hub.orphans().get(id).ok_or_else(Problem::unknown_orphan)?;
        let Some(corrupt) = corrupt::of_orphan(orphan) else { return Ok(()) };
        let mut text = Vec::new();
        object(&mut text, |out| write_orphan(out, &self.hub, orphan, Shown::AllButResult));
        self.note_corrupt(Some(corrupt));
        Err(Problem::orphan_corrupt(format!(",\"orphan\":{}", String::from_utf8_lossy(&text))))
    }

    fn list_orphans(&self, query: Option<&str>) -> Result<Reply, Problem> {
        let query = Query::parse(query, &["limit", "cursor"])?;
        let limit = query.number("limit", 1..=PAGE_ORPHANS_MAX)?.unwrap_or(100) as usize;
        let from = query.number("cursor", 0..=u64::MAX)?.unwrap_or(0);
        let mut orphans = self.hub.orphans().iter_from(from);
        let page: Vec<_> = orphans.by_ref().take(limit).collect();
        let next = orphans.next().map(|orphan| orphan.id);
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("orphans", page, |out, orphan| {
                object(out, |out| write_orphan(out, &self.hub, orphan, Shown::Row));
            });
            out.number("total", self.hub.orphans().len() as u64);
            match next {
                Some(next) => out.plain("next_cursor", next),
                None => out.raw("next_cursor", b"null"),
            };
        }))
    }
}

fn parse_id(text: &str) -> Result<u64, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    body::number("the orphan's id", text.parse().ok().filter(|_| is_number), 0..=u64::MAX)
}

/// How much of an orphan is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Row,
    All,
    AllButResult,
}

fn write_orphan(out: &mut Object, hub: &Hub, orphan: &Orphan, shown: Shown) {
    let parked = &orphan.parked;
    out.number("orphan_id", orphan.id).text("job_id", &parked.job_id);
    if let Some(node) = &parked.node {
        out.text("node_id", node);
    }
    // `result_ok` and not `ok`, which says whether the request went well.
    out.flag("result_ok", parked.ok).time("received_utc", hub.calendar().utc(orphan.at));
    if shown == Shown::All {
        out.payload("result", parked.result.as_ref()).payload("error", parked.error.as_ref());
    }
    if shown != Shown::Row {
        corrupt::write_integrity(out, parked.integrity.as_deref());
    }
}
