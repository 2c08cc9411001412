//! Rules of kinds, as bodies, `hub.toml` and the audit log write them.

use super::body::{self, Fields};
use super::problem::Problem;
use crate::object::Object;
use sheratan_core::limits::{ATTEMPTS_MAX, LEASE_DURATION_MAX, LEASE_DURATION_MIN};
use sheratan_core::{Calendar, KindRules, Millis, Name, OnExhausted, OnLettersFull, Pause, Priority, Timestamp, Utc};

/// The members of a kind's rules.
pub const MEMBERS: &[&str] = &[
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

/// A kind that `hub.toml` has a table of, and its rules there. The end of a pause stays an instant of the calendar, so
/// that the next start finds the same in the same file.
///
/// # Errors
/// What is wrong, in a line that names the key.
pub fn of_file(kind: &str, table: &toml::Table) -> Result<(Name, KindRules), String> {
    let name = body::name("the kind's name", kind).map_err(|problem| problem.detail)?;
    if let Some(key) = table.keys().find(|key| !MEMBERS.contains(&&***key)) {
        return Err(format!("{key}: there is no such rule; the rules are {}", MEMBERS.join(", ")));
    }
    let members = table.iter().map(|(key, value)| {
        let value = match value {
            // TOML has instants of its own.
            toml::Value::Datetime(instant) => instant.to_string().into(),
            value => serde_json::to_value(value).map_err(|error| format!("{key}: {error}"))?,
        };
        Ok((key.clone(), value))
    });
    let members = serde_json::Value::Object(members.collect::<Result<_, String>>()?).to_string();
    let read = Fields::parse(members.as_bytes(), MEMBERS)
        .and_then(|fields| read(&fields, &KindRules::NONE, (Timestamp::ZERO, Calendar::UNSET)));
    Ok((name, read.map_err(|problem| problem.detail)?))
}

/// Rules with the members that `hub.toml` says otherwise than it did: those of `after` that differ from `before`. A pause
/// that is over is none.
pub fn merged(
    rules: &KindRules,
    (before, after): (&KindRules, &KindRules),
    (now, calendar): (Timestamp, Calendar),
) -> KindRules {
    fn pick<T: Clone + PartialEq>(now: &Option<T>, before: &Option<T>, after: &Option<T>) -> Option<T> {
        if before == after { now.clone() } else { after.clone() }
    }
    KindRules {
        inflight_max: pick(&rules.inflight_max, &before.inflight_max, &after.inflight_max),
        leases_per_1000_sec: pick(&rules.leases_per_1000_sec, &before.leases_per_1000_sec, &after.leases_per_1000_sec),
        burst: pick(&rules.burst, &before.burst, &after.burst),
        priority: pick(&rules.priority, &before.priority, &after.priority),
        lease_duration_ms: pick(&rules.lease_duration_ms, &before.lease_duration_ms, &after.lease_duration_ms),
        ttl_ms: pick(&rules.ttl_ms, &before.ttl_ms, &after.ttl_ms),
        attempts_max: pick(&rules.attempts_max, &before.attempts_max, &after.attempts_max),
        losses_max: pick(&rules.losses_max, &before.losses_max, &after.losses_max),
        max_run_ms: pick(&rules.max_run_ms, &before.max_run_ms, &after.max_run_ms),
        retry_delay_ms_base: pick(&rules.retry_delay_ms_base, &before.retry_delay_ms_base, &after.retry_delay_ms_base),
        retry_delay_ms_cap: pick(&rules.retry_delay_ms_cap, &before.retry_delay_ms_cap, &after.retry_delay_ms_cap),
        on_exhausted: pick(&rules.on_exhausted, &before.on_exhausted, &after.on_exhausted),
        letters_max: pick(&rules.letters_max, &before.letters_max, &after.letters_max),
        on_letters_full: pick(&rules.on_letters_full, &before.on_letters_full, &after.on_letters_full),
        pause: match before.pause == after.pause {
            true => rules.pause.clone(),
            false => after.pause.as_ref().and_then(|pause| pause_of_file(pause, now, calendar)),
        },
    }
}

/// A pause of `hub.toml` by the hub's clock, unless it is over.
fn pause_of_file(pause: &Pause, now: Timestamp, calendar: Calendar) -> Option<Pause> {
    let until = pause.until.map(|until| calendar.instant(Utc::from_millis(until.as_millis())));
    let is_over = until.is_some_and(|until| until <= now);
    (!is_over).then(|| Pause { reason: pause.reason.clone(), until })
}

/// The rules of `hub.toml`, with the pause.
pub fn write_configured(out: &mut Object, rules: &KindRules) {
    if rules.pause.is_some() {
        write_pause(out, rules, Calendar::UNSET);
    }
    write(out, rules);
}

/// The rules after the members of a body are set.
pub fn read(fields: &Fields, rules: &KindRules, (now, calendar): (Timestamp, Calendar)) -> Result<KindRules, Problem> {
    let mut rules = rules.clone();
    set(fields, "max_inflight", &mut rules.inflight_max, |key| fields.number(key, 0..=u64::from(u32::MAX)))?;
    set(fields, "rate_per_sec", &mut rules.leases_per_1000_sec, |key| read_rate(fields, key))?;
    set(fields, "burst", &mut rules.burst, |key| Ok(fields.number(key, 1..=1_000_000)?.map(|n| n as u32)))?;
    set(fields, "priority", &mut rules.priority, |key| {
        fields.word(key, "critical, high, normal or low", Priority::from_word)
    })?;
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
    set_pause(fields, &mut rules.pause, (now, calendar))?;
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
        // A rate that is too low to be kept is not none at all.
        Some(rate) if rate > 0.0 && rate < 0.001 => {
            Err(Problem::bad_request(format!("{key} must be 0, or at least 0.001 leases a second")))
        }
        Some(rate) if (0.0..=RATE_PER_SEC_MAX).contains(&rate) => Ok(Some((rate * 1_000.0).round() as u64)),
        _ => Err(Problem::bad_request(format!("{key} must be a number of leases a second from 0 to 1000000000"))),
    }
}

/// Sets or ends a pause: `paused` decides; the other members describe it.
fn set_pause(
    fields: &Fields,
    pause: &mut Option<Pause>,
    (now, calendar): (Timestamp, Calendar),
) -> Result<(), Problem> {
    let is_paused = fields.flag("paused")?;
    let (reason, until) = (fields.key("pause_reason")?, fields.instant("paused_until_utc")?);
    let names_more = reason.is_some() || until.is_some();
    if is_paused == Some(false) || (is_paused.is_none() && fields.has("paused")) {
        if names_more {
            return Err(Problem::bad_request("pause_reason and paused_until_utc need paused: true"));
        }
        *pause = None;
    } else if is_paused == Some(true) || names_more {
        let until = until.map(|until| calendar.instant(until));
        if until.is_some_and(|until| until <= now) {
            return Err(Problem::bad_request("paused_until_utc must be in the future"));
        }
        *pause = Some(Pause { reason, until });
    }
    Ok(())
}

/// The pause, and whether there is one.
pub fn write_pause(out: &mut Object, rules: &KindRules, calendar: Calendar) {
    out.flag("paused", rules.pause.is_some());
    if let Some(pause) = &rules.pause {
        if let Some(reason) = &pause.reason {
            out.text("pause_reason", reason);
        }
        if let Some(until) = pause.until {
            out.time("paused_until_utc", calendar.utc(until));
        }
    }
}

/// The rules that are set, without the pause.
pub fn write(out: &mut Object, rules: &KindRules) {
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
