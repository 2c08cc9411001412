//! Acts on many dead letters: operators begin them, watch them and cancel them.

use crate::http::{Reply, Request};
use crate::object::{Object, object};
use crate::service::body::Fields;
use crate::service::problem::Problem;
use crate::service::{Answer, Caller, Service, letter_filter, reply, rules};
use sheratan_core::{Act, ActOn, BeginAct, Command, Hub, LetterFilter, Outcome, Timestamp};

/// The members of a request beside those of the filter.
const OWN_MEMBERS: [&str; 4] = ["rate_per_sec", "max_count", "dry_run", "all"];

/// The fastest rate that is read, in letters a second.
const RATE_MAX: u64 = 1_000_000;

impl Service {
    /// Begins an act, or with `dry_run` only counts. Unlike elsewhere an unknown member is an error: a filter that is
    /// not understood would match more than is meant.
    pub(super) fn begin_act(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        what: ActOn,
    ) -> Result<Answer, Problem> {
        if request.query().is_some() {
            return Err(Problem::bad_request(
                "an act on many has no query: its filter and dry_run are members of the body",
            ));
        }
        let members = [&letter_filter::MEMBERS[..], &OWN_MEMBERS].concat();
        let fields = Fields::parse_strict(request.body(), &members)?;
        let filter = letter_filter::of_body(&fields, self.hub.calendar())?;
        let is_all = fields.flag("all")?.unwrap_or(false);
        let has_filter = filter != LetterFilter::default();
        if has_filter == is_all {
            return Err(Problem::bad_request(if is_all {
                "all: true and a filter contradict each other: leave one out"
            } else {
                "the filter is empty: name kind, error, reason, before_utc or after_utc, or say \"all\": true"
            }));
        }
        let rate_per_sec = fields.number("rate_per_sec", 1..=RATE_MAX)?.map(|rate| rate as u32);
        let count_max = fields.number("max_count", 0..=u64::from(u32::MAX))?;
        if fields.flag("dry_run")?.unwrap_or(false) {
            if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
                return Err(Problem::not_durable(reason));
            }
            let matched = self.hub.count_letters(&filter);
            return Ok(Answer::Reply(reply::ok(|out| {
                out.flag("ok", true).flag("dry_run", true).number("matched", matched);
                out.flag("exceeds_max_count", count_max.is_some_and(|max| matched > max));
            })));
        }
        let begin = BeginAct { what, filter, rate_per_sec, count_max };
        match self.execute(now, self.asker(caller), Command::BeginAct(Box::new(begin)))? {
            Outcome::ActBegun { act, .. } => self.read_act(act).map(rules::acknowledgement),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    pub(super) fn list_acts(&self) -> Reply {
        reply::ok(|out| {
            out.flag("ok", true);
            out.array("acts", self.hub.acts().iter(), |out, act| object(out, |out| write_act(out, &self.hub, act)));
        })
    }

    pub(super) fn read_act(&self, id: u32) -> Result<Reply, Problem> {
        let act = self.hub.acts().get(id).ok_or_else(Problem::unknown_act)?;
        Ok(reply::ok(|out| {
            out.flag("ok", true).object("act", |out| write_act(out, &self.hub, act));
        }))
    }

    pub(super) fn cancel_act(&mut self, now: Timestamp, caller: &Caller, id: u32) -> Result<Answer, Problem> {
        match self.execute(now, self.asker(caller), Command::CancelAct(id))? {
            Outcome::Done => self.read_act(id).map(rules::acknowledgement),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}

fn write_act(out: &mut Object, hub: &Hub, act: &Act) {
    let (calendar, ids) = (hub.calendar(), hub.ids());
    out.number("act_id", act.id.into()).plain("act", act.what.as_str());
    out.plain(
        "status",
        match (act.ended_at, act.is_cancelled) {
            (None, _) => "running",
            (Some(_), true) => "cancelled",
            (Some(_), false) => "done",
        },
    );
    out.object("filter", |out| letter_filter::write(out, &act.filter, calendar));
    if let Some(rate) = act.rate_per_sec {
        out.number("rate_per_sec", rate.into());
    }
    out.number("matched", act.matched).number("done", act.done).number("skipped", act.skipped);
    for (key, job) in [("first_job_id", act.first), ("last_job_id", act.last)] {
        if let Some(job) = job {
            out.plain(key, ids.job_id(job));
        }
    }
    out.plain("by", act.by.as_str()).time("began_utc", calendar.utc(act.began_at));
    if let Some(at) = act.ended_at {
        out.time("ended_utc", calendar.utc(at));
    }
}
