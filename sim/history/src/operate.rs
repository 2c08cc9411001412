//! What operators do, as lines: rules of kinds, dead letters, nodes in and out of service.

use crate::command::{MARK, PRIORITY, content_mark, parse_attestation, print_attestation, print_mark};
use crate::values::{self, DURATION, HASH_32, INSTANT, INTEGRITY, JOB, KEY, NAME, NUMBER, NUMBER_32, PAYLOAD};
use crate::words::{Kind, Options, Printed, WordError, Words};
use sheratan_core::{
    Accept, ActOn, ActivatePolicy, AdoptOrphan, BeginAct, Command, Drain, EndReason, KindRules, LetterFilter, Millis,
    Name, OnExhausted, OnLettersFull, ParkResult, Pause, Quarantine, RekeyNode, SetKind, Weight,
};

/// The verbs of operators' commands.
pub(crate) const VERBS: &[&str] = &[
    "set_kind",
    "requeue",
    "discard",
    "drain",
    "resume",
    "remove_node",
    "begin",
    "cancel_act",
    "orphan",
    "adopt",
    "discard_orphan",
    "weights",
    "accept",
    "quarantine",
    "rekey",
    "clear_node",
    "add_policy",
    "activate",
];

const ACT_ON: Kind<ActOn> = Kind {
    expected: "requeue or discard",
    read: |text| [ActOn::Requeue, ActOn::Discard].into_iter().find(|what| what.as_str() == text),
};
const REASON: Kind<EndReason> =
    Kind { expected: "why a job ended, such as attempts or lost", read: EndReason::from_word };
const GROUPS: Kind<Vec<Name>> =
    Kind { expected: "names with commas between them", read: |text| values::read_list(text, NAME.read) };
const WEIGHTS: Kind<Vec<u32>> =
    Kind { expected: "weights with commas between them", read: |text| values::read_list(text, NUMBER_32.read) };
const ON_EXHAUSTED: Kind<OnExhausted> = Kind {
    expected: "park or drop",
    read: |text| match text {
        "park" => Some(OnExhausted::Park),
        "drop" => Some(OnExhausted::Drop),
        _ => None,
    },
};
const ON_LETTERS_FULL: Kind<OnLettersFull> = Kind {
    expected: "evict or refuse",
    read: |text| match text {
        "evict" => Some(OnLettersFull::Evict),
        "refuse" => Some(OnLettersFull::Refuse),
        _ => None,
    },
};

pub(crate) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Command, WordError> {
    Ok(match verb {
        "set_kind" => Command::SetKind(Box::new(parse_set_kind(words)?)),
        "requeue" => Command::Requeue(words.take(&JOB)?),
        "discard" => Command::Discard(words.take(&JOB)?),
        "drain" => {
            let node = words.take(&NAME)?;
            let options = words.options(&["deadline", "reason"], &[])?;
            Command::Drain(Drain {
                node,
                deadline_ms: options.get("deadline", &DURATION)?,
                reason: options.get("reason", &NAME)?,
            })
        }
        "resume" => Command::Resume(words.take(&NAME)?),
        "remove_node" => Command::RemoveNode(words.take(&NAME)?),
        "begin" => Command::BeginAct(Box::new(parse_act(words)?)),
        "cancel_act" => Command::CancelAct(words.take(&NUMBER_32)?),
        "orphan" => Command::ParkResult(Box::new(parse_orphan(words)?)),
        "adopt" => {
            let orphan = words.take(&NUMBER)?;
            Command::AdoptOrphan(AdoptOrphan { orphan, job: words.take(&JOB)? })
        }
        "discard_orphan" => Command::DiscardOrphan(words.take(&NUMBER)?),
        "weights" => parse_weights(words)?,
        "accept" => {
            let node = words.take(&NAME)?;
            let options = words.options(&["build", "cap", "runtime"], &["forced"])?;
            let expected = parse_attestation(&options)?;
            Command::Accept(Box::new(Accept { node, expected, is_forced: options.has("forced") }))
        }
        "quarantine" => {
            let node = words.take(&NAME)?;
            let options = words.options(&["for", "reason"], &[])?;
            let duration_ms = options.get("for", &DURATION)?.unwrap_or_default();
            Command::Quarantine(Quarantine { node, duration_ms, reason: options.get("reason", &NAME)? })
        }
        "clear_node" => Command::ClearNode(words.take(&NAME)?),
        "add_policy" => Command::AddPolicy(words.take(&PAYLOAD)?),
        "activate" => {
            let (version, sha256) = (words.take(&NUMBER)?, words.take(&HASH_32)?);
            let expect_active = words.options(&["expect"], &[])?.get("expect", &NUMBER)?;
            Command::ActivatePolicy(Box::new(ActivatePolicy { version, sha256, expect_active }))
        }
        "rekey" => {
            let node = words.take(&NAME)?;
            let key = words.options(&["key"], &[])?.get("key", &KEY)?;
            Command::RekeyNode(RekeyNode { node, key })
        }
        _ => unreachable!("it is one of the verbs of operators"),
    })
}

pub(crate) fn print_activate(order: &ActivatePolicy) -> String {
    Printed::new("activate")
        .word(order.version)
        .word(values::hash(&order.sha256))
        .maybe("expect", &order.expect_active, u64::to_string)
        .end()
}

pub(crate) fn print_drain(drain: &Drain) -> String {
    Printed::new("drain")
        .word(values::name(&drain.node))
        .maybe("deadline", &drain.deadline_ms, |ms| values::duration(*ms))
        .maybe("reason", &drain.reason, |name| values::name(name))
        .end()
}

pub(crate) fn print_accept(accept: &Accept) -> String {
    let line = Printed::new("accept").word(values::name(&accept.node));
    let line = match &accept.expected {
        Some(expected) => print_attestation(line, expected),
        None => line,
    };
    line.flag(accept.is_forced, "forced").end()
}

pub(crate) fn print_quarantine(order: &Quarantine) -> String {
    Printed::new("quarantine")
        .word(values::name(&order.node))
        .unless(&Millis::ZERO, "for", &order.duration_ms, |ms| values::duration(*ms))
        .maybe("reason", &order.reason, |name| values::name(name))
        .end()
}

pub(crate) fn print_rekey(rekey: &RekeyNode) -> String {
    Printed::new("rekey").word(values::name(&rekey.node)).maybe("key", &rekey.key, values::key).end()
}

fn parse_act(words: &mut Words<'_>) -> Result<BeginAct, WordError> {
    let what = words.take(&ACT_ON)?;
    let options = words.options(&["kind", "error", "reason", "before", "after", "rate", "count_max"], &[])?;
    let filter = LetterFilter {
        kind: options.get("kind", &NAME)?,
        error: options.get("error", &NAME)?,
        reason: options.get("reason", &REASON)?,
        before: options.get("before", &INSTANT)?,
        after: options.get("after", &INSTANT)?,
    };
    Ok(BeginAct {
        what,
        filter,
        rate_per_sec: options.get("rate", &NUMBER_32)?,
        count_max: options.get("count_max", &NUMBER)?,
    })
}

pub(crate) fn print_act(begin: &BeginAct) -> String {
    let BeginAct { what, filter, rate_per_sec, count_max } = begin;
    Printed::new("begin")
        .word(what.as_str())
        .maybe("kind", &filter.kind, |name| values::name(name))
        .maybe("error", &filter.error, |name| values::name(name))
        .maybe("reason", &filter.reason, |reason| reason.as_str().to_owned())
        .maybe("before", &filter.before, |at| values::instant(*at))
        .maybe("after", &filter.after, |at| values::instant(*at))
        .maybe("rate", rate_per_sec, u32::to_string)
        .maybe("count_max", count_max, u64::to_string)
        .end()
}

fn parse_orphan(words: &mut Words<'_>) -> Result<ParkResult, WordError> {
    let job_id = words.take(&NAME)?;
    let options = words.options(&["node", "result", "error", "mark", "integrity"], &["failed"])?;
    let (result, error) = (options.get("result", &PAYLOAD)?, options.get("error", &PAYLOAD)?);
    let ok = !options.has("failed");
    let mark = options.get("mark", &MARK)?.unwrap_or_else(|| content_mark(ok, &result, &error));
    let integrity = options.get("integrity", &INTEGRITY)?.map(Box::new);
    Ok(ParkResult { job_id, node: options.get("node", &NAME)?, ok, result, error, mark, integrity })
}

pub(crate) fn print_orphan(parked: &ParkResult) -> String {
    let ParkResult { job_id, node, ok, result, error, mark, integrity } = parked;
    Printed::new("orphan")
        .word(values::name(job_id))
        .maybe("node", node, |name| values::name(name))
        .maybe("result", result, values::payload)
        .maybe("error", error, values::payload)
        .unless(&content_mark(*ok, result, error), "mark", mark, print_mark)
        .maybe("integrity", integrity, |integrity| values::integrity(integrity))
        .flag(!ok, "failed")
        .end()
}

fn parse_weights(words: &mut Words<'_>) -> Result<Command, WordError> {
    if words.peek().is_none() {
        return Ok(Command::SetWeights(Vec::new()));
    }
    let groups = words.take(&GROUPS)?;
    let wrong = words.wrong_here("as many weights as names");
    let weights = words.take(&WEIGHTS)?;
    if weights.len() != groups.len() {
        return Err(wrong);
    }
    let weights = groups.into_iter().zip(weights).map(|(group, weight)| Weight { group, weight });
    Ok(Command::SetWeights(weights.collect()))
}

pub(crate) fn print_weights(weights: &[Weight]) -> String {
    let line = Printed::new("weights");
    if weights.is_empty() {
        return line.end();
    }
    line.word(values::list(weights.iter().map(|weight| values::name(&weight.group))))
        .word(values::list(weights.iter().map(|weight| weight.weight.to_string())))
        .end()
}

/// The options of a kind's rules.
const RULES: &[&str] = &[
    "inflight",
    "rate",
    "burst",
    "priority",
    "for",
    "ttl",
    "attempts_max",
    "losses_max",
    "max_run",
    "retry_base",
    "retry_cap",
    "exhausted",
    "letters_max",
    "letters_full",
    "paused_until",
    "pause_reason",
];

/// What comes after this word is what `hub.toml` says of the kind.
const FILE: &str = "file";

fn parse_set_kind(words: &mut Words<'_>) -> Result<SetKind, WordError> {
    let kind = words.take(&NAME)?;
    let options = words.options_before(FILE, &[RULES, &["expect"]].concat(), &["paused"])?;
    let (rules, expected) = (parse_rules(&options)?, options.get("expect", &NUMBER)?);
    let configured = match words.peek() {
        Some(_) => {
            words.word(FILE)?;
            Some(parse_rules(&words.options(RULES, &["paused"])?)?)
        }
        None => None,
    };
    Ok(SetKind { kind, rules, expected, configured })
}

fn parse_rules(options: &Options<'_>) -> Result<KindRules, WordError> {
    let (until, reason) = (options.get("paused_until", &INSTANT)?, options.get("pause_reason", &NAME)?);
    let is_paused = options.has("paused") || until.is_some() || reason.is_some();
    Ok(KindRules {
        inflight_max: options.get("inflight", &NUMBER)?,
        leases_per_1000_sec: options.get("rate", &NUMBER)?,
        burst: options.get("burst", &NUMBER_32)?,
        priority: options.get("priority", &PRIORITY)?,
        lease_duration_ms: options.get("for", &DURATION)?,
        ttl_ms: options.get("ttl", &DURATION)?,
        attempts_max: options.get("attempts_max", &NUMBER_32)?,
        losses_max: options.get("losses_max", &NUMBER_32)?,
        max_run_ms: options.get("max_run", &DURATION)?,
        retry_delay_ms_base: options.get("retry_base", &DURATION)?,
        retry_delay_ms_cap: options.get("retry_cap", &DURATION)?,
        on_exhausted: options.get("exhausted", &ON_EXHAUSTED)?,
        letters_max: options.get("letters_max", &NUMBER)?,
        on_letters_full: options.get("letters_full", &ON_LETTERS_FULL)?,
        pause: is_paused.then_some(Pause { reason, until }),
    })
}

pub(crate) fn print_set_kind(set: &SetKind) -> String {
    let SetKind { kind, rules, expected, configured } = set;
    let line = print_rules(Printed::new("set_kind").word(values::name(kind)), rules);
    let line = line.maybe("expect", expected, u64::to_string);
    match configured {
        Some(rules) => print_rules(line.word(FILE), rules).end(),
        None => line.end(),
    }
}

fn print_rules(line: Printed, rules: &KindRules) -> Printed {
    let exhausted_word = |on_exhausted: &OnExhausted| match on_exhausted {
        OnExhausted::Park => "park".to_owned(),
        OnExhausted::Drop => "drop".to_owned(),
    };
    let full_word = |on_full: &OnLettersFull| match on_full {
        OnLettersFull::Evict => "evict".to_owned(),
        OnLettersFull::Refuse => "refuse".to_owned(),
    };
    let line = line
        .maybe("inflight", &rules.inflight_max, u64::to_string)
        .maybe("rate", &rules.leases_per_1000_sec, u64::to_string)
        .maybe("burst", &rules.burst, u32::to_string)
        .maybe("priority", &rules.priority, |priority| priority.as_str().to_owned())
        .maybe("for", &rules.lease_duration_ms, |ms| values::duration(*ms))
        .maybe("ttl", &rules.ttl_ms, |ms| values::duration(*ms))
        .maybe("attempts_max", &rules.attempts_max, u32::to_string)
        .maybe("losses_max", &rules.losses_max, u32::to_string)
        .maybe("max_run", &rules.max_run_ms, |ms| values::duration(*ms))
        .maybe("retry_base", &rules.retry_delay_ms_base, |ms| values::duration(*ms))
        .maybe("retry_cap", &rules.retry_delay_ms_cap, |ms| values::duration(*ms))
        .maybe("exhausted", &rules.on_exhausted, exhausted_word)
        .maybe("letters_max", &rules.letters_max, u64::to_string)
        .maybe("letters_full", &rules.on_letters_full, full_word);
    match &rules.pause {
        None => line,
        Some(Pause { reason: None, until: None }) => line.flag(true, "paused"),
        Some(Pause { reason, until }) => {
            line.maybe("paused_until", until, |at| values::instant(*at))
                .maybe("pause_reason", reason, |name| values::name(name))
        }
    }
}
