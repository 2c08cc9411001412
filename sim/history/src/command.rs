//! Commands as lines: one verb each; members that have their default are left out.

use crate::operate;
use crate::tokens;
use crate::values::{
    self, CALENDAR, DURATION, HASH_8, HASH_32, INTEGRITY, JOB, KEY, LEASE, NAME, NAMES, NUMBER, NUMBER_8, NUMBER_16,
    NUMBER_32, PAYLOAD, SETTING_VALUE, UTC, ZONE,
};
use crate::words::{Kind, Options, Printed, WordError, Words};
use sheratan_core::{
    Attestation, Command, Complete, Extend, Health, Heartbeat, Idempotency, Millis, NameSet, NodeIndex, OnDuplicate,
    OnFailed, Payload, Priority, Pull, Release, ResultMark, RulesVersion, Salt, Setting, Signing, Submit, Utc, Verdict,
    Zone,
};

/// The verbs of commands.
pub(crate) const VERBS: &[&str] = &[
    "set",
    "heartbeat",
    "seen",
    "tick",
    "submit",
    "pull",
    "extend",
    "complete",
    "fail",
    "adopt_rules",
    "begin_salt",
    "reclaim",
    "set_calendar",
    "slept",
    "cancel",
    "release",
];

const NODES: Kind<Vec<NodeIndex>> = Kind {
    expected: "nodes' numbers with commas between them",
    read: |text| values::read_list(text, |number| (NUMBER_32.read)(number).map(NodeIndex::new)),
};
const LEASES: Kind<Vec<sheratan_core::LeaseRef>> = Kind {
    expected: "leases as JOB@GENERATION with commas between them",
    read: |text| values::read_list(text, LEASE.read),
};
pub(crate) const PRIORITY: Kind<Priority> =
    Kind { expected: "critical, high, normal or low", read: Priority::from_word };
const HEALTH: Kind<Health> = Kind {
    expected: "green, yellow or red",
    read: |text| [Health::Green, Health::Yellow, Health::Red].into_iter().find(|health| health_word(*health) == text),
};
const ON_DUPLICATE: Kind<OnDuplicate> = Kind {
    expected: "same_result or latest_wins",
    read: |text| match text {
        "same_result" => Some(OnDuplicate::SameResult),
        "latest_wins" => Some(OnDuplicate::LatestWins),
        _ => None,
    },
};
const ON_FAILED: Kind<OnFailed> = Kind {
    expected: "same_result or new_job",
    read: |text| match text {
        "same_result" => Some(OnFailed::SameResult),
        "new_job" => Some(OnFailed::NewJob),
        _ => None,
    },
};
const VERDICT: Kind<Verdict> = Kind {
    expected: "valid or invalid",
    read: |text| [Verdict::Invalid, Verdict::Valid].into_iter().find(|verdict| verdict_word(*verdict) == text),
};

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unsigned => "none",
        Verdict::Invalid => "invalid",
        Verdict::Valid => "valid",
    }
}

pub(crate) const MARK: Kind<ResultMark> = Kind {
    expected: "content:NUMBER, id:NUMBER or id:NUMBER:CONTENT",
    read: |text| match text.split_once(':')? {
        ("content", number) => (NUMBER.read)(number).map(ResultMark::Content),
        ("id", numbers) => match numbers.split_once(':') {
            Some((id, content)) => {
                Some(ResultMark::IdAndContent { id: (NUMBER_32.read)(id)?, content: (NUMBER.read)(content)? })
            }
            None => (NUMBER.read)(numbers).map(ResultMark::Id),
        },
        _ => None,
    },
};

/// Parses a command whose verb was read.
pub(crate) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Command, WordError> {
    let command = match verb {
        "set" => parse_set(words)?,
        "heartbeat" => Command::Heartbeat(parse_heartbeat(words)?),
        "seen" => Command::NodesSeen(if words.peek().is_some() { words.take(&NODES)? } else { Vec::new() }),
        "tick" => Command::Tick,
        "submit" => Command::Submit(Box::new(parse_submit(words)?)),
        "pull" => Command::Pull(parse_pull(words, &[])?.0),
        "extend" => {
            let node = words.take(&NAME)?;
            let leases = words.take_if(&LEASES).unwrap_or_default();
            let options = words.options(&["for", "progress", "note"], &[])?;
            Command::Extend(Extend {
                node,
                leases,
                lease_duration_ms: options.get("for", &DURATION)?,
                progress: options.get("progress", &NUMBER_8)?,
                note: options.get("note", &NAME)?,
            })
        }
        "complete" => Command::Complete(parse_complete(words, true)?),
        "fail" => Command::Complete(parse_complete(words, false)?),
        "begin_salt" => Command::BeginSalt(Salt::new(words.take(&HASH_8)?)),
        "adopt_rules" => Command::AdoptRules(RulesVersion::new(words.take(&NUMBER_16)?)),
        "reclaim" => Command::Reclaim(if words.peek().is_some() { words.take(&LEASES)? } else { Vec::new() }),
        "set_calendar" => Command::SetCalendar(words.take(&CALENDAR)?),
        "slept" => Command::Slept(words.take(&DURATION)?),
        "cancel" => Command::Cancel(words.take(&JOB)?),
        "release" => {
            let node = words.take(&NAME)?;
            Command::Release(Release { node, leases: words.take_if(&LEASES).unwrap_or_default() })
        }
        verb if operate::VERBS.contains(&verb) => operate::parse(verb, words)?,
        verb if tokens::VERBS.contains(&verb) => tokens::parse(verb, words)?,
        _ => unreachable!("it is one of the verbs of commands"),
    };
    words.end()?;
    Ok(command)
}

/// The line of a command.
pub(crate) fn print(command: &Command) -> String {
    match command {
        Command::Set(settings) => print_set(settings),
        Command::Heartbeat(heartbeat) => print_heartbeat("heartbeat", heartbeat),
        Command::NodesSeen(nodes) if nodes.is_empty() => "seen".to_owned(),
        Command::NodesSeen(nodes) => {
            Printed::new("seen").word(values::list(nodes.iter().map(|node| node.get().to_string()))).end()
        }
        Command::Tick => "tick".to_owned(),
        Command::Submit(submit) => print_submit(submit),
        Command::Pull(pull) => print_pull(Printed::new("pull"), pull).end(),
        Command::Extend(extend) => {
            let leases = values::list(extend.leases.iter().map(|lease| values::lease(*lease)));
            let line = Printed::new("extend").word(values::name(&extend.node));
            let line = if leases.is_empty() { line } else { line.word(leases) };
            line.maybe("for", &extend.lease_duration_ms, |ms| values::duration(*ms))
                .maybe("progress", &extend.progress, u8::to_string)
                .maybe("note", &extend.note, |name| values::name(name))
                .end()
        }
        Command::Complete(complete) => print_complete(complete),
        Command::BeginSalt(salt) => Printed::new("begin_salt").word(values::hex(salt.as_bytes())).end(),
        Command::AdoptRules(version) => Printed::new("adopt_rules").word(version.get()).end(),
        Command::Reclaim(leases) if leases.is_empty() => "reclaim".to_owned(),
        Command::Reclaim(leases) => {
            Printed::new("reclaim").word(values::list(leases.iter().map(|lease| values::lease(*lease)))).end()
        }
        Command::SetCalendar(calendar) => Printed::new("set_calendar").word(values::calendar(*calendar)).end(),
        Command::Slept(duration) => Printed::new("slept").word(values::duration(*duration)).end(),
        Command::Cancel(job) => Printed::new("cancel").word(job.get()).end(),
        Command::Release(release) => {
            let leases = values::list(release.leases.iter().map(|lease| values::lease(*lease)));
            let line = Printed::new("release").word(values::name(&release.node));
            if leases.is_empty() { line.end() } else { line.word(leases).end() }
        }
        Command::SetKind(set) => operate::print_set_kind(set),
        Command::Requeue(job) => Printed::new("requeue").word(job.get()).end(),
        Command::Discard(job) => Printed::new("discard").word(job.get()).end(),
        Command::Drain(drain) => operate::print_drain(drain),
        Command::Resume(node) => Printed::new("resume").word(values::name(node)).end(),
        Command::BeginAct(begin) => operate::print_act(begin),
        Command::CancelAct(act) => Printed::new("cancel_act").word(act).end(),
        Command::ParkResult(parked) => operate::print_orphan(parked),
        Command::AdoptOrphan(adopt) => Printed::new("adopt").word(adopt.orphan).word(adopt.job.get()).end(),
        Command::DiscardOrphan(orphan) => Printed::new("discard_orphan").word(orphan).end(),
        Command::SetWeights(weights) => operate::print_weights(weights),
        Command::Accept(accept) => operate::print_accept(accept),
        Command::Quarantine(order) => operate::print_quarantine(order),
        Command::Tokens(order) => tokens::print(order),
        Command::RekeyNode(rekey) => operate::print_rekey(rekey),
        Command::ClearNode(node) => Printed::new("clear_node").word(values::name(node)).end(),
        Command::AddPolicy(document) => Printed::new("add_policy").word(values::payload(document)).end(),
        Command::ActivatePolicy(order) => operate::print_activate(order),
        Command::RemoveNode(node) => Printed::new("remove_node").word(values::name(node)).end(),
    }
}

fn parse_set(words: &mut Words<'_>) -> Result<Command, WordError> {
    const EXPECTED: &str = "a setting as NAME=VALUE, by the names of `Limits`";
    let mut settings = Vec::new();
    while let Some(word) = words.peek() {
        let wrong = words.wrong_here(EXPECTED);
        let setting = word
            .split_once('=')
            .and_then(|(name, value)| Setting::from_name(name, (SETTING_VALUE.read)(value)?))
            .ok_or(wrong)?;
        settings.push(setting);
        words.word(EXPECTED)?;
    }
    Ok(Command::Set(settings))
}

fn print_set(settings: &[Setting]) -> String {
    let print = |line: Printed, setting: &Setting| {
        let (name, value) = (setting.name(), setting.value());
        let is_duration = name.contains("_ms");
        if is_duration { line.option(name, values::duration(Millis::new(value))) } else { line.option(name, value) }
    };
    settings.iter().fold(Printed::new("set"), print).end()
}

pub(crate) fn parse_heartbeat(words: &mut Words<'_>) -> Result<Heartbeat, WordError> {
    let node = words.take(&NAME)?;
    const OPTIONS: &[&str] = &[
        "zone",
        "can",
        "health",
        "endpoint",
        "labels",
        "build",
        "cap",
        "runtime",
        "key",
        "signature",
        "signed",
        "counter",
        "mark",
        "next",
    ];
    let options = words.options(OPTIONS, &[])?;
    Ok(Heartbeat {
        node,
        zone: options.get("zone", &ZONE)?.unwrap_or_default(),
        capabilities: options.get("can", &NAMES)?.unwrap_or_default(),
        health: options.get("health", &HEALTH)?.unwrap_or_default(),
        endpoint: options.get("endpoint", &NAME)?,
        labels: options.get("labels", &PAYLOAD)?,
        attestation: parse_attestation(&options)?.map(Box::new),
        signing: parse_signing(&options)?.map(Box::new),
    })
}

fn parse_signing(options: &Options<'_>) -> Result<Option<Signing>, WordError> {
    let signing = Signing {
        key: options.get("key", &KEY)?,
        verdict: options.get("signature", &VERDICT)?.unwrap_or_default(),
        signed_at: options.get("signed", &UTC)?,
        counter: options.get("counter", &NUMBER)?,
        mark: options.get("mark", &NUMBER)?.unwrap_or_default(),
        next: options.get("next", &KEY)?,
    };
    Ok((signing != Signing::default()).then_some(signing))
}

fn print_signing(line: Printed, signing: &Signing) -> Printed {
    line.maybe("key", &signing.key, values::key)
        .unless(&Verdict::Unsigned, "signature", &signing.verdict, |verdict| verdict_word(*verdict).to_owned())
        .maybe("signed", &signing.signed_at, |at| values::utc(*at))
        .maybe("counter", &signing.counter, u64::to_string)
        .unless(&0, "mark", &signing.mark, u64::to_string)
        .maybe("next", &signing.next, values::key)
}

pub(crate) fn parse_attestation(options: &Options<'_>) -> Result<Option<Attestation>, WordError> {
    let attestation = Attestation {
        build_id: options.get("build", &NAME)?,
        capability_hash: options.get("cap", &NAME)?,
        runtime: options.get("runtime", &PAYLOAD)?,
    };
    Ok((attestation != Attestation::default()).then_some(attestation))
}

pub(crate) fn print_attestation(line: Printed, attestation: &Attestation) -> Printed {
    line.maybe("build", &attestation.build_id, |name| values::name(name))
        .maybe("cap", &attestation.capability_hash, |name| values::name(name))
        .maybe("runtime", &attestation.runtime, values::payload)
}

pub(crate) fn print_heartbeat(verb: &str, heartbeat: &Heartbeat) -> String {
    let line = Printed::new(verb)
        .word(values::name(&heartbeat.node))
        .unless(&Zone::DEFAULT, "zone", &heartbeat.zone, values::zone)
        .unless(&NameSet::EMPTY, "can", &heartbeat.capabilities, values::names)
        .unless(&Health::Green, "health", &heartbeat.health, |health| health_word(*health).to_owned())
        .maybe("endpoint", &heartbeat.endpoint, |name| values::name(name))
        .maybe("labels", &heartbeat.labels, values::payload);
    let line = match &heartbeat.attestation {
        Some(attestation) => print_attestation(line, attestation),
        None => line,
    };
    match &heartbeat.signing {
        Some(signing) => print_signing(line, signing).end(),
        None => line.end(),
    }
}

fn parse_submit(words: &mut Words<'_>) -> Result<Submit, WordError> {
    let kind = words.take(&NAME)?;
    const OPTIONS: &[&str] = &[
        "params",
        "priority",
        "zone",
        "requires",
        "delay",
        "run_at",
        "ttl",
        "attempts_max",
        "retry_budget",
        "for",
        "key",
        "hash",
        "on_duplicate",
        "on_failed",
        "key_ttl",
        "client",
        "max_run",
    ];
    let options = words.options(OPTIONS, &[])?;
    let idempotency = parse_idempotency(words, &options)?;
    Ok(Submit {
        kind,
        params: options.get("params", &PAYLOAD)?,
        priority: options.get("priority", &PRIORITY)?,
        zone: options.get("zone", &ZONE)?.unwrap_or_default(),
        requires: options.get("requires", &NAMES)?.unwrap_or_default(),
        delay_ms: options.get("delay", &DURATION)?.unwrap_or_default(),
        run_at: options.get("run_at", &UTC)?.unwrap_or_default(),
        ttl_ms: options.get("ttl", &DURATION)?,
        attempts_max: options.get("attempts_max", &NUMBER_32)?,
        retry_budget_ms: options.get("retry_budget", &DURATION)?,
        lease_duration_ms: options.get("for", &DURATION)?,
        idempotency,
        client: options.get("client", &NAME)?,
        max_run_ms: options.get("max_run", &DURATION)?,
    })
}

fn parse_idempotency(words: &Words<'_>, options: &Options<'_>) -> Result<Option<Idempotency>, WordError> {
    let members = (
        options.get("key", &NAME)?,
        options.get("hash", &HASH_32)?,
        options.get("on_duplicate", &ON_DUPLICATE)?,
        options.get("on_failed", &ON_FAILED)?,
        options.get("key_ttl", &DURATION)?,
    );
    match members {
        (None, None, None, None, None) => Ok(None),
        (Some(key), Some(payload_hash), on_duplicate, on_failed, ttl_ms) => Ok(Some(Idempotency {
            key,
            payload_hash,
            on_duplicate: on_duplicate.unwrap_or_default(),
            on_failed: on_failed.unwrap_or_default(),
            ttl_ms,
        })),
        _ => Err(words.wrong_here("key=… and hash=… where one of key, hash, on_duplicate, on_failed, key_ttl is")),
    }
}

fn print_submit(submit: &Submit) -> String {
    let line = Printed::new("submit")
        .word(values::name(&submit.kind))
        .maybe("params", &submit.params, values::payload)
        .maybe("priority", &submit.priority, |priority| priority.as_str().to_owned())
        .unless(&Zone::DEFAULT, "zone", &submit.zone, values::zone)
        .unless(&NameSet::EMPTY, "requires", &submit.requires, values::names)
        .unless(&Millis::ZERO, "delay", &submit.delay_ms, |ms| values::duration(*ms))
        .unless(&Utc::ZERO, "run_at", &submit.run_at, |at| values::utc(*at))
        .maybe("ttl", &submit.ttl_ms, |ms| values::duration(*ms))
        .maybe("attempts_max", &submit.attempts_max, u32::to_string)
        .maybe("retry_budget", &submit.retry_budget_ms, |ms| values::duration(*ms))
        .maybe("for", &submit.lease_duration_ms, |ms| values::duration(*ms))
        .maybe("client", &submit.client, |name| values::name(name))
        .maybe("max_run", &submit.max_run_ms, |ms| values::duration(*ms));
    let Some(idempotency) = &submit.idempotency else { return line.end() };
    line.option("key", values::name(&idempotency.key))
        .option("hash", values::hash(&idempotency.payload_hash))
        .unless(&OnDuplicate::SameResult, "on_duplicate", &idempotency.on_duplicate, |_| "latest_wins".to_owned())
        .unless(&OnFailed::SameResult, "on_failed", &idempotency.on_failed, |_| "new_job".to_owned())
        .maybe("key_ttl", &idempotency.ttl_ms, |ms| values::duration(*ms))
        .end()
}

/// A pull, and which of the flags are present.
pub(crate) fn parse_pull<'a>(words: &mut Words<'a>, flags: &[&str]) -> Result<(Pull, Options<'a>), WordError> {
    let node = words.take(&NAME)?;
    let options = words.options(&["max", "kinds", "for"], flags)?;
    let pull = Pull {
        node,
        jobs_max: options.get("max", &NUMBER_32)?.unwrap_or(1),
        kinds: options.get("kinds", &NAMES)?.unwrap_or_default(),
        lease_duration_ms: options.get("for", &DURATION)?,
    };
    Ok((pull, options))
}

pub(crate) fn print_pull(line: Printed, pull: &Pull) -> Printed {
    line.word(values::name(&pull.node))
        .unless(&1, "max", &pull.jobs_max, u32::to_string)
        .unless(&NameSet::EMPTY, "kinds", &pull.kinds, values::names)
        .maybe("for", &pull.lease_duration_ms, |ms| values::duration(*ms))
}

fn parse_complete(words: &mut Words<'_>, ok: bool) -> Result<Complete, WordError> {
    let own = words.take_if(&LEASE);
    let job = match own {
        Some(lease) => lease.job,
        None => words.take(&Kind { expected: "a lease as JOB@GENERATION, or a job's number", read: JOB.read })?,
    };
    let names: &[&str] = if own.is_some() { &[] } else { &["lease"] };
    let names = [&["result", "error", "node", "mark", "integrity", "after"], names].concat();
    let options = words.options(&names, &["final"])?;
    let (result, error) = (options.get("result", &PAYLOAD)?, options.get("error", &PAYLOAD)?);
    let mark = options.get("mark", &MARK)?.unwrap_or_else(|| content_mark(ok, &result, &error));
    Ok(Complete {
        job,
        lease: if own.is_some() { own } else { options.get("lease", &LEASE)? },
        node: options.get("node", &NAME)?,
        ok,
        result,
        error,
        is_retryable: !options.has("final"),
        mark,
        integrity: options.get("integrity", &INTEGRITY)?.map(Box::new),
        retry_after_ms: options.get("after", &DURATION)?,
    })
}

fn print_complete(complete: &Complete) -> String {
    let line = Printed::new(if complete.ok { "complete" } else { "fail" });
    let line = match complete.lease {
        Some(lease) if lease.job == complete.job => line.word(values::lease(lease)),
        lease => line.word(complete.job.get()).maybe("lease", &lease, |lease| values::lease(*lease)),
    };
    line.maybe("result", &complete.result, values::payload)
        .maybe("error", &complete.error, values::payload)
        .maybe("node", &complete.node, |name| values::name(name))
        .unless(&content_mark(complete.ok, &complete.result, &complete.error), "mark", &complete.mark, print_mark)
        .maybe("integrity", &complete.integrity, |integrity| values::integrity(integrity))
        .maybe("after", &complete.retry_after_ms, |ms| values::duration(*ms))
        .flag(!complete.is_retryable, "final")
        .end()
}

pub(crate) fn print_mark(mark: &ResultMark) -> String {
    match mark {
        ResultMark::Content(number) => format!("content:{number}"),
        ResultMark::Id(number) => format!("id:{number}"),
        ResultMark::IdAndContent { id, content } => format!("id:{id}:{content}"),
    }
}

/// The mark of a result without one: results of equal content have equal marks. (The hub's shell uses SHA-256; FNV-1a
/// of 64 bits is enough here, since histories are not adversarial.)
pub(crate) fn content_mark(ok: bool, result: &Option<Payload>, error: &Option<Payload>) -> ResultMark {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    put(&[u8::from(ok)]);
    for payload in [result, error] {
        match payload {
            None => put(&[0]),
            Some(payload) => {
                put(&[1]);
                put(&(payload.len() as u64).to_le_bytes());
                put(payload.as_bytes());
            }
        }
    }
    ResultMark::Content(hash)
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Green => "green",
        Health::Yellow => "yellow",
        Health::Red => "red",
    }
}
