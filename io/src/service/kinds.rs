//! Kinds: operators read and set the rules of kinds, and pause them.

use super::body::{self, Fields};
use super::jobs::read_priority;
use super::problem::Problem;
use super::query;
use super::{Answer, Caller, Service, header, path, reply};
use crate::http::{Method, Reply, Request};
use crate::object::{Object, object};
use sheratan_core::limits::{ATTEMPTS_MAX, LEASE_DURATION_MAX, LEASE_DURATION_MIN};
use sheratan_core::{
    Command, Gate, Hub, KindRules, Millis, Name, OnExhausted, OnLettersFull, Outcome, Pause, SetKind, Timestamp,
};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// All kinds.
    List,
    /// One kind, as it is encoded in the path.
    One(&'a str),
}

/// The members of a kind's rules.
const MEMBERS: &[&str] = &[
    "max_inflight",
    "rate_per_sec",
    "burst",
    "priority",
    "lease_sec",
    "ttl_sec",
    "max_attempts",
    "max_losses",
    "max_run_sec",
    "backoff_base_ms",
    "backoff_cap_ms",
    "on_exhausted",
    "max_letters",
    "on_letters_full",
    "paused",
    "pause_reason",
    "paused_until_utc",
];

/// A hundred years.
const FAR_SECS: u64 = 100 * 366 * 86_400;
/// The fastest rate that is read, in leases a second.
const RATE_PER_SEC_MAX: f64 = 1e9;

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

    /// Whether a request for it may do something that the audit log has an event for.
    pub const fn leaves_events(&self) -> bool {
        matches!(self, Route::One(_))
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
            Route::List => Ok(Answer::Reply(self.list_kinds())),
            Route::One(encoded) => {
                let text = query::decode_segment(encoded);
                let text = text.ok_or_else(|| Problem::bad_request("the path is not well encoded"))?;
                let kind = body::name("kind", &text)?;
                match request.method() {
                    Method::Put => self.set_kind(now, caller, request, kind),
                    _ => Ok(Answer::Reply(self.kind_reply(&kind))),
                }
            }
        }
    }

    fn list_kinds(&self) -> Reply {
        reply::ok(|out| {
            out.flag("ok", true).array("kinds", self.hub.queue().ruled_kinds(), |out, (name, _, _)| {
                object(out, |out| write_kind(out, &self.hub, name));
            });
        })
    }

    fn kind_reply(&self, kind: &Name) -> Reply {
        let version = self.hub.queue().kind_rules(kind).1;
        let reply = reply::ok(|out| {
            out.flag("ok", true);
            write_kind(out, &self.hub, kind);
        });
        reply.with_header("ETag", format!("\"{version}\""))
    }

    /// Sets the rules that the body names; `null` stands for the hub's own setting, and what is not named stays. With
    /// `If-Match` only if the rules have that version.
    fn set_kind(&mut self, now: Timestamp, caller: &Caller, request: &Request, kind: Name) -> Result<Answer, Problem> {
        let fields = Fields::parse_strict(request.body(), MEMBERS)?;
        if fields.is_empty() {
            return Err(Problem::bad_request(format!("the body names no rule; the rules are {}", MEMBERS.join(", "))));
        }
        let (rules, version) = self.hub.queue().kind_rules(&kind);
        let rules = read_rules(&fields, rules, &self.hub)?;
        let expected = match header::single(request, "If-Match")? {
            Some(tag) => Some(read_version(tag)?),
            // Between reading and setting the rules nothing else happens.
            None => Some(version),
        };
        let set = SetKind { kind: kind.clone(), rules, expected };
        match self.execute(now, self.asker(caller), Command::SetKind(Box::new(set)))? {
            Outcome::KindSet { .. } => Ok(Answer::Reply(self.kind_reply(&kind))),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}

fn read_version(tag: &[u8]) -> Result<u64, Problem> {
    let text = std::str::from_utf8(tag).unwrap_or_default().trim();
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    digits.parse().map_err(|_| Problem::bad_request("If-Match must be the ETag of the kind, as \"3\""))
}

/// The rules after the members of a body are set.
fn read_rules(fields: &Fields, rules: &KindRules, hub: &Hub) -> Result<KindRules, Problem> {
    let mut rules = rules.clone();
    set(fields, "max_inflight", &mut rules.inflight_max, |key| fields.number(key, 0..=u64::from(u32::MAX)))?;
    set(fields, "rate_per_sec", &mut rules.leases_per_1000_sec, |key| read_rate(fields, key))?;
    set(fields, "burst", &mut rules.burst, |key| Ok(fields.number(key, 1..=1_000_000)?.map(|n| n as u32)))?;
    set(fields, "priority", &mut rules.priority, |_| read_priority(fields))?;
    let lease_secs = LEASE_DURATION_MIN.as_secs_ceil()..=LEASE_DURATION_MAX.as_secs_ceil();
    set(fields, "lease_sec", &mut rules.lease_duration_ms, |key| fields.seconds(key, lease_secs))?;
    set(fields, "ttl_sec", &mut rules.ttl_ms, |key| fields.seconds(key, 1..=FAR_SECS))?;
    let attempts = 1..=u64::from(ATTEMPTS_MAX);
    set(fields, "max_attempts", &mut rules.attempts_max, |key| Ok(fields.number(key, attempts)?.map(|n| n as u32)))?;
    set(fields, "max_losses", &mut rules.losses_max, |key| Ok(fields.number(key, 1..=100)?.map(|n| n as u32)))?;
    set(fields, "max_run_sec", &mut rules.max_run_ms, |key| fields.seconds(key, 1..=FAR_SECS))?;
    let delay = |key: &str| Ok(fields.number(key, 0..=FAR_SECS * 1_000)?.map(Millis::new));
    set(fields, "backoff_base_ms", &mut rules.retry_delay_ms_base, delay)?;
    set(fields, "backoff_cap_ms", &mut rules.retry_delay_ms_cap, delay)?;
    set(fields, "on_exhausted", &mut rules.on_exhausted, |key| {
        fields.word(key, "park or drop", |word| match word {
            "park" => Some(OnExhausted::Park),
            "drop" => Some(OnExhausted::Drop),
            _ => None,
        })
    })?;
    set(fields, "max_letters", &mut rules.letters_max, |key| fields.number(key, 0..=u64::from(u32::MAX)))?;
    set(fields, "on_letters_full", &mut rules.on_letters_full, |key| {
        fields.word(key, "evict or refuse", |word| match word {
            "evict" => Some(OnLettersFull::Evict),
            "refuse" => Some(OnLettersFull::Refuse),
            _ => None,
        })
    })?;
    set_pause(fields, &mut rules.pause, hub)?;
    Ok(rules)
}

/// Sets one rule, if the body names it.
fn set<T>(
    fields: &Fields,
    key: &str,
    rule: &mut Option<T>,
    read: impl FnOnce(&str) -> Result<Option<T>, Problem>,
) -> Result<(), Problem> {
    if fields.has(key) {
        *rule = read(key)?;
    }
    Ok(())
}

/// A rate in leases a second, to a thousandth.
fn read_rate(fields: &Fields, key: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = fields.raw(key) else { return Ok(None) };
    match value.as_f64() {
        Some(rate) if (0.0..=RATE_PER_SEC_MAX).contains(&rate) => Ok(Some((rate * 1_000.0).round() as u64)),
        _ => Err(Problem::bad_request(format!("{key} must be a number of leases a second from 0 to 1000000000"))),
    }
}

/// Sets or ends a pause: `paused` decides; the other members describe it.
fn set_pause(fields: &Fields, pause: &mut Option<Pause>, hub: &Hub) -> Result<(), Problem> {
    let is_paused = fields.flag("paused")?;
    let (reason, until) = (fields.key("pause_reason")?, fields.instant("paused_until_utc")?);
    let names_more = reason.is_some() || until.is_some();
    if is_paused == Some(false) || (is_paused.is_none() && fields.has("paused")) {
        if names_more {
            return Err(Problem::bad_request("pause_reason and paused_until_utc need paused: true"));
        }
        *pause = None;
    } else if is_paused == Some(true) || names_more {
        let until = until.map(|until| hub.calendar().instant(until));
        if until.is_some_and(|until| until <= hub.now()) {
            return Err(Problem::bad_request("paused_until_utc must be in the future"));
        }
        *pause = Some(Pause { reason, until });
    }
    Ok(())
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
    out.flag("paused", rules.pause.is_some());
    if let Some(pause) = &rules.pause {
        if let Some(reason) = &pause.reason {
            out.text("pause_reason", reason);
        }
        if let Some(until) = pause.until {
            out.time("paused_until_utc", calendar.utc(until));
        }
    }
    out.object("rules", |out| write_rules(out, rules));
}

/// The rules that are set.
fn write_rules(out: &mut Object, rules: &KindRules) {
    let mut number = |key: &str, value: Option<u64>| {
        if let Some(value) = value {
            out.number(key, value);
        }
    };
    number("max_inflight", rules.inflight_max);
    number("burst", rules.burst.map(u64::from));
    number("max_attempts", rules.attempts_max.map(u64::from));
    number("max_losses", rules.losses_max.map(u64::from));
    number("backoff_base_ms", rules.retry_delay_ms_base.map(Millis::get));
    number("backoff_cap_ms", rules.retry_delay_ms_cap.map(Millis::get));
    number("max_letters", rules.letters_max);
    let thousandths = [
        ("rate_per_sec", rules.leases_per_1000_sec),
        ("lease_sec", rules.lease_duration_ms.map(Millis::get)),
        ("ttl_sec", rules.ttl_ms.map(Millis::get)),
        ("max_run_sec", rules.max_run_ms.map(Millis::get)),
    ];
    for (key, value) in thousandths {
        if let Some(value) = value {
            out.raw(key, decimal(value).as_bytes());
        }
    }
    if let Some(priority) = rules.priority {
        out.plain("priority", priority.as_str());
    }
    if let Some(on_exhausted) = rules.on_exhausted {
        out.plain("on_exhausted", if on_exhausted == OnExhausted::Park { "park" } else { "drop" });
    }
    if let Some(on_full) = rules.on_letters_full {
        out.plain("on_letters_full", if on_full == OnLettersFull::Evict { "evict" } else { "refuse" });
    }
}

/// So many thousandths as a JSON number.
fn decimal(thousandths: u64) -> String {
    let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:03}").trim_end_matches('0').to_owned() }
}
