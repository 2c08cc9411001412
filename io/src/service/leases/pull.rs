//! Pulling: a node asks for jobs and may wait for them. A request with a result may carry the pull for the next jobs.

use super::{LEASE_SECS, read_lease_duration};
use crate::http::{Reply, Request};
use crate::object::{Object, object};
use crate::service::body::{self, Fields};
use crate::service::long_polls::{self, LongPoll, REPLY_HEAD, WaitsFor};
use crate::service::problem::Problem;
use crate::service::query::{self, Query};
use crate::service::{Answer, Caller, Overload, Service, reply};
use sheratan_core::limits::{DEFER_MS, PULL_JOBS_MAX, PULL_KINDS_MAX};
use sheratan_core::telemetry::Observation;
use sheratan_core::{
    Caller as Asker, Command, Gate, Hub, Leased, Millis, Name, NameSet, Outcome, Pull, Pulled, Timestamp,
};

/// The parameters of a pull, in its query or as members.
const PARAMETERS: &[&str] = &["node_id", "max", "kinds", "wait_ms", "lease_sec"];

const NO_JOBS: Pulled = Pulled { node: None, leases: Vec::new(), defer_ms: Millis::ZERO, withheld: None };

/// A pull, and how long it may wait.
pub struct PullRequest {
    pull: Pull,
    wait_ms: u64,
}

impl PullRequest {
    /// The pull that a result may carry.
    pub fn of_result(fields: &Fields) -> Result<Option<PullRequest>, Problem> {
        let Some(pull) = fields.object("pull", PARAMETERS)? else { return Ok(None) };
        let node = match pull.name("node_id")? {
            Some(node) => node,
            None => fields.required_name("node_id")?,
        };
        let asked = read_asked(&pull)?;
        let Asked { jobs_max, kinds, lease_duration_ms, wait_ms } = asked;
        let pull = Pull { node, jobs_max: jobs_max.unwrap_or(1) as u32, kinds, lease_duration_ms };
        Ok(Some(PullRequest { pull, wait_ms: wait_ms.unwrap_or(0) }))
    }
}

impl Service {
    pub(super) fn pull(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: Option<&str>,
    ) -> Result<Answer, Problem> {
        let asked = read_pull(request, node)?;
        self.pull_or_wait(now, caller, asked, REPLY_HEAD.to_vec())
    }

    /// Repeats the pull of a long poll: `Some` answers it.
    pub(in crate::service) fn repeat_pull(
        &mut self,
        now: Timestamp,
        asker: Asker,
        pull: &Pull,
    ) -> Option<Result<Pulled, Problem>> {
        match self.lease(now, asker, pull.clone()) {
            Ok(pulled) if pulled.leases.is_empty() && pulled.defer_ms == Millis::ZERO => None,
            answer => Some(answer),
        }
    }

    /// The reply to a pull of a node; `head` holds the members that precede the jobs.
    pub(in crate::service) fn pull_reply(&mut self, head: Vec<u8>, node: &Name, pulled: &Pulled) -> Reply {
        self.note_told(node);
        let mut rest = Vec::new();
        object(&mut rest, |out| {
            write_pulled(out, &self.hub, pulled);
            self.write_cancelled(out, node);
        });
        reply::joined(head, &rest).with_leases(pulled.leases.iter().map(|leased| leased.lease))
    }

    /// The reply to a pull of a node that timed out without a job.
    pub(in crate::service) fn empty_pull_reply(&mut self, head: Vec<u8>, node: &Name) -> Reply {
        self.pull_reply(head, node, &NO_JOBS)
    }

    fn pull_or_wait(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        asked: PullRequest,
        head: Vec<u8>,
    ) -> Result<Answer, Problem> {
        let PullRequest { pull, wait_ms } = asked;
        self.note_token_of_node(now, caller, &pull.node);
        let asker = self.asker(caller);
        match self.repeat_pull(now, asker, &pull) {
            Some(pulled) => {
                let pulled = pulled?;
                Ok(Answer::Reply(self.pull_reply(head, &pull.node, &pulled)))
            }
            None if wait_ms == 0 => {
                self.refusals += 1;
                let defer_ms = self.hub.defer_for_kinds(now, &pull.kinds, self.refusals).unwrap_or(Millis::ZERO);
                self.note_full_kinds(now, &pull);
                Ok(Answer::Reply(self.pull_reply(head, &pull.node, &Pulled { defer_ms, ..NO_JOBS })))
            }
            None => {
                if self.is_draining || self.has_untold(&pull.node) {
                    return Ok(Answer::Reply(self.empty_pull_reply(head, &pull.node)));
                }
                if !self.may_wait {
                    self.note_unparked(caller);
                    return Err(Problem::share_is_used());
                }
                let id = self.long_polls.next_id();
                if !self.hub.park(id, &pull) {
                    // Without a pause the node would ask again at once.
                    self.note_overload(Overload::LongPolls, caller.ip);
                    self.refusals += 1;
                    let defer_ms = self.hub.defer_unparked(self.refusals);
                    let pulled = Pulled { defer_ms, ..NO_JOBS };
                    return Ok(Answer::Reply(self.pull_reply(head, &pull.node, &pulled)));
                }
                let until = long_polls::deadline(now, wait_ms);
                let waits_for = WaitsFor::Jobs { pull, asker, head };
                self.long_polls
                    .insert(id, LongPoll { origin: caller.origin, until, token: self.token_used, waits_for });
                Ok(Answer::Parked)
            }
        }
    }

    /// Adds an event for each kind that a pull without a job named, and of which as many are under lease as may be.
    fn note_full_kinds(&mut self, now: Timestamp, pull: &Pull) {
        let mut is_any = false;
        for kind in pull.kinds.iter() {
            if self.hub.queue().kind_gate(now, kind) != Gate::Full {
                continue;
            }
            let inflight = self.hub.queue().leases_of_kind(kind);
            let max = self.hub.queue().kind_rules(kind).0.inflight_max.unwrap_or(0);
            let (node, kind) = (pull.node.clone(), kind.clone());
            is_any = true;
            self.audit(now, "INFLIGHT_SATURATED", |out| {
                out.text("node_id", &node).text("kind", &kind).number("inflight", inflight).number("max", max);
            });
        }
        if is_any {
            self.hub.observe(now, Observation::KindSaturated);
        }
    }

    /// Answers an accepted result and the pull that it carried in one reply, even if the pull is refused.
    pub(in crate::service) fn answer_then_pull(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        body: Vec<u8>,
        then_pull: Option<PullRequest>,
    ) -> Result<Answer, Problem> {
        let Some(asked) = then_pull else { return Ok(Answer::Reply(Reply::json(200, body))) };
        let head = body[1..body.len() - 1].to_vec();
        let node = asked.pull.node.clone();
        let answer = self.pull_or_wait(now, caller, asked, head);
        answer.or_else(|_| Ok(Answer::Reply(self.empty_pull_reply(body[1..body.len() - 1].to_vec(), &node))))
    }

    fn lease(&mut self, now: Timestamp, asker: Asker, pull: Pull) -> Result<Pulled, Problem> {
        let node = pull.node.clone();
        match self.execute(now, asker, Command::Pull(pull))? {
            Outcome::Pulled(mut pulled) => {
                if pulled.defer_ms == DEFER_MS {
                    self.refusals += 1;
                    pulled.defer_ms = self.hub.defer_for(now, &node, self.refusals);
                }
                if pulled.leases.is_empty() {
                    self.note_liveness(now, &node);
                }
                Ok(pulled)
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}

/// Reads a pull from path, query and body; what is in two of them must be the same in both.
fn read_pull(request: &Request, path_node: Option<&str>) -> Result<PullRequest, Problem> {
    let query = Query::parse(request.query(), PARAMETERS)?;
    let body = if request.body().is_empty() { b"{}" } else { request.body() };
    let fields = Fields::parse(body, PARAMETERS)?;
    let of_path = path_node.map(|encoded| {
        let text = query::decode_segment(encoded);
        body::name("node_id", &text.ok_or_else(|| Problem::bad_request("the path is not well encoded"))?)
    });
    let of_both = agreed("node_id", query.name("node_id")?, fields.name("node_id")?)?;
    let node = agreed("node_id", of_path.transpose()?, of_both)?.ok_or_else(|| body::missing("node_id"))?;
    let asked = read_asked(&fields)?;
    let jobs_max = agreed("max", query.number("max", 1..=u64::from(PULL_JOBS_MAX))?, asked.jobs_max)?;
    let wait_ms = agreed("wait_ms", query.number("wait_ms", 0..=long_polls::WAIT_MS_MAX)?, asked.wait_ms)?;
    let lease_duration = query.number("lease_sec", LEASE_SECS)?.map(Millis::from_secs);
    let lease_duration_ms = agreed("lease_sec", lease_duration, asked.lease_duration_ms)?;
    let is_named = |kinds: NameSet| Some(kinds).filter(|kinds| !kinds.is_empty());
    let kinds = agreed("kinds", is_named(query.names("kinds", PULL_KINDS_MAX)?), is_named(asked.kinds))?;
    let kinds = kinds.unwrap_or(NameSet::EMPTY);
    let pull = Pull { node, jobs_max: jobs_max.unwrap_or(1) as u32, kinds, lease_duration_ms };
    Ok(PullRequest { pull, wait_ms: wait_ms.unwrap_or(0) })
}

/// The value of a parameter that may come in two places.
fn agreed<T: PartialEq>(key: &str, one: Option<T>, other: Option<T>) -> Result<Option<T>, Problem> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err(Problem::bad_request(format!("{key} is given more than once, and the values differ")))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The members of a pull's body.
struct Asked {
    jobs_max: Option<u64>,
    kinds: NameSet,
    lease_duration_ms: Option<Millis>,
    wait_ms: Option<u64>,
}

fn read_asked(fields: &Fields) -> Result<Asked, Problem> {
    Ok(Asked {
        jobs_max: fields.number("max", 1..=u64::from(PULL_JOBS_MAX))?,
        kinds: fields.names("kinds", PULL_KINDS_MAX)?,
        lease_duration_ms: read_lease_duration(fields)?,
        wait_ms: fields.number("wait_ms", 0..=long_polls::WAIT_MS_MAX)?,
    })
}

/// The members of a pull's reply after its head.
fn write_pulled(out: &mut Object, hub: &Hub, pulled: &Pulled) {
    out.array("jobs", &pulled.leases, |out, lease| write_leased(out, hub, lease));
    out.number("defer_ms", pulled.defer_ms.get());
    if let Some(withheld) = pulled.withheld {
        out.plain("reason", withheld.as_str());
    }
}

fn write_leased(out: &mut Vec<u8>, hub: &Hub, leased: &Leased) {
    let job = hub.queue().get(leased.lease.job).expect("a job that was just leased is known");
    let ids = hub.ids();
    let started_at = job.attempts().next_back().expect("a job that was just leased has an attempt").started_at;
    object(out, |out| {
        out.plain("job_id", ids.job_id(job.seq())).plain("request_id", ids.request_id(job.seq()));
        out.text("kind", job.kind()).payload("params", job.params());
        out.number("attempt", u64::from(leased.lease.generation))
            .plain("lease_id", ids.lease_id(leased.lease, started_at));
        out.time("lease_until_utc", hub.calendar().utc(leased.until));
        out.number("lease_ms", leased.until.since(hub.now()).get()).plain("priority", job.priority().as_str());
    });
}
