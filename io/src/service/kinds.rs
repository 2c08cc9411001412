//! Kinds: operators read and set the rules of kinds, and pause them.

use super::body::{self, Fields};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Answer, Caller, Service, header, kind_rules, path, reply, rules};
use crate::http::{Method, Reply, Request};
use crate::object::{Object, object};
use sheratan_core::{
    Caller as Asker, Command, Gate, Hub, KindRules, Name, Origin, Outcome, Principal, SetKind, Status, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most kinds on one page.
const PAGE_KINDS_MAX: u64 = 1_000;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// All kinds.
    List,
    /// One kind, as it is encoded in the path.
    One(&'a str),
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/kinds" => Some(Route::List),
            _ => path::parameter(path, "/mesh/kinds/").map(Route::One),
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::List => "kinds",
            Route::One(_) => "kind",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::List => "GET, HEAD",
            Route::One(_) => "GET, HEAD, PUT",
        }
    }
}

impl Service {
    pub(super) fn handle_kinds(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::One(kind) if *request.method() == Method::Put => {
                self.set_kind(now, caller, request, parse_kind(kind)?)
            }
            Route::One(_) | Route::List => Ok(self.show_of(now, caller, request)),
        }
    }

    pub(super) fn read_kinds(&self, route: Route, query: Option<&str>) -> Result<Reply, Problem> {
        match route {
            Route::List => self.list_kinds(query),
            Route::One(kind) => Ok(self.kind_reply(&parse_kind(kind)?)),
        }
    }

    /// A page of the kinds that have rules or jobs, in the order of their names; the cursor is the next one's name.
    /// O(limit).
    fn list_kinds(&self, query: Option<&str>) -> Result<Reply, Problem> {
        let query = Query::parse(query, &["limit", "cursor"])?;
        let limit = query.number("limit", 1..=PAGE_KINDS_MAX)?.unwrap_or(PAGE_KINDS_MAX) as usize;
        let from = query.name("cursor")?;
        let mut named = self.hub.queue().kinds_from(from.as_deref());
        let names: Vec<_> = named.by_ref().take(limit).collect();
        let next = named.next();
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("kinds", names, |out, name| {
                object(out, |out| write_kind(out, &self.hub, name));
            });
            match next {
                Some(next) => out.text("next_cursor", next),
                None => out.raw("next_cursor", b"null"),
            };
        }))
    }

    fn kind_reply(&self, kind: &Name) -> Reply {
        let version = self.hub.queue().kind_rules(kind).1;
        let reply = reply::ok(|out| {
            out.flag("ok", true);
            write_kind(out, &self.hub, kind);
        });
        reply.with_header("ETag", format!("\"{version}\""))
    }

    /// Applies what `hub.toml` says of kinds, where it says something else than at the last start: only the members that it
    /// changed, so that what operators set since stays. Returns a warning for each kind for which there is no room.
    pub fn configure_kinds(&mut self, now: Timestamp, configured: &BTreeMap<Name, KindRules>) -> Vec<String> {
        let known = self.hub.queue().ruled_kinds().map(|(name, ..)| name.clone());
        let mut names: BTreeSet<Name> = known.collect();
        names.extend(configured.keys().cloned());
        let mut warnings = Vec::new();
        for kind in names {
            let queue = self.hub.queue();
            let (before, after) = (queue.configured_rules(&kind), configured.get(&kind).unwrap_or(&KindRules::NONE));
            if !rules::is_reconfigured(before, after) {
                continue;
            }
            let clock = (self.hub.now().max(now), self.hub.calendar());
            let rules = rules::reconfigured(queue.kind_rules(&kind).0, (before, after), clock);
            let set = SetKind { kind: kind.clone(), rules, expected: None, configured: Some(after.clone()) };
            let asker = Asker { by: Principal::Config, origin: Origin::Loopback };
            match self.execute(now, asker, Command::SetKind(Box::new(set))).expect("the journal has not failed yet") {
                Outcome::KindSet { .. } => {}
                outcome => {
                    let problem = self.problem_of(now, outcome);
                    warnings.push(format!("the rules of kind {kind:?} in hub.toml are not set: {}", problem.detail));
                }
            }
        }
        warnings
    }

    /// Sets the rules that the body names; `null` stands for the hub's own setting, and what is not named stays. With
    /// `If-Match` only if the rules have that version.
    fn set_kind(&mut self, now: Timestamp, caller: &Caller, request: &Request, kind: Name) -> Result<Answer, Problem> {
        let fields = Fields::parse_strict(request.body(), kind_rules::MEMBERS)?;
        if fields.is_empty() {
            return Err(Problem::bad_request(format!(
                "the body names no rule; the rules are {}",
                kind_rules::MEMBERS.join(", ")
            )));
        }
        let (rules, version) = self.hub.queue().kind_rules(&kind);
        let rules = kind_rules::read(&fields, rules, (self.hub.now(), self.hub.calendar()))?;
        // Between reading and setting the rules nothing else happens.
        let expected = Some(header::if_match(request)?.unwrap_or(version));
        let set = SetKind { kind: kind.clone(), rules, expected, configured: None };
        match self.execute(now, self.asker(caller), Command::SetKind(Box::new(set)))? {
            Outcome::KindSet { .. } => Ok(rules::acknowledgement(self.kind_reply(&kind))),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}

/// The kind that a path names.
fn parse_kind(encoded: &str) -> Result<Name, Problem> {
    let text = query::decode_segment(encoded);
    body::name("kind", &text.ok_or_else(|| Problem::bad_request("the path is not well encoded"))?)
}

/// A kind: its rules, its gate, its leases.
fn write_kind(out: &mut Object, hub: &Hub, kind: &Name) {
    let (queue, calendar) = (hub.queue(), hub.calendar());
    let (rules, version) = queue.kind_rules(kind);
    out.text("kind", kind).number("version", version);
    let gate = queue.kind_gate(hub.now(), kind);
    out.plain(
        "gate",
        match gate {
            Gate::Open => "open",
            Gate::Paused(_) => "paused",
            Gate::Full => "full",
            Gate::RateLimited(_) => "rate_limited",
        },
    );
    if let Gate::Paused(at) | Gate::RateLimited(at) = gate
        && at != Timestamp::NEVER
    {
        out.time("opens_utc", calendar.utc(at));
    }
    out.number("inflight", queue.leases_of_kind(kind));
    out.object("jobs", |out| {
        let tally = queue.kind_tally(kind).map(|(_, tally)| tally);
        let held = Status::ALL.into_iter().filter_map(|status| Some((status, tally?.get(status))));
        held.filter(|(_, count)| *count > 0).for_each(|(status, count)| _ = out.number(status.as_str(), count));
    });
    kind_rules::write_pause(out, rules, calendar);
    out.object("rules", |out| kind_rules::write(out, rules));
    let configured = queue.configured_rules(kind);
    if *configured != KindRules::NONE {
        out.object("configured", |out| kind_rules::write_configured(out, configured));
    }
}
