//! Looks: queries of the hub that change nothing.

use crate::answer::{NOTHING, join, print_end};
use crate::command;
use crate::tokens;
use crate::values::{self, JOB, NAME};
use crate::words::{Kind, Printed, WordError, Words};
use sheratan_core::explain::Reason;
use sheratan_core::{
    Account, Attempt, AttemptEnd, Gate, Health, Heartbeat, Hub, Identified, JobSeq, JobView, Name, NameSet, Node,
    NodeState, Priority, State, Timestamp, TokenDigest, Zone,
};

/// One look.
#[derive(Clone, PartialEq, Debug)]
pub enum Look {
    /// A job's status; `gone` if the hub does not have it.
    Status(JobSeq),
    /// All of a job but its attempts.
    Job(JobSeq),
    /// A job's attempts, as far as they are kept.
    Attempts(JobSeq),
    /// Why a job does not run.
    Explain(JobSeq),
    /// The gate of a kind, its leases and the version of its rules.
    Kind(Name),
    /// Acts on dead letters.
    Acts,
    /// Results of unknown jobs.
    Orphans,
    /// Jobs by state.
    Counts,
    /// Bytes on these accounts, or on all that have some.
    Ledger(Vec<Account>),
    /// All nodes.
    Nodes,
    /// One node.
    Node(Name),
    /// Whether a heartbeat would change nothing of an online node.
    Repeats(Heartbeat),
    /// How many idempotency keys there are, and how many of their jobs ended.
    Keys,
    /// How many long polls are parked.
    Waiters,
    /// When the next timer is due, once the hub is settled.
    Deadline,
    /// What a token is.
    Token(TokenDigest),
    /// The latest instant seen.
    Now,
    /// Whether the durable state has changed since the last `digest`.
    Digest,
}

pub(crate) const VERBS: &[&str] = &[
    "status", "job", "attempts", "explain", "kind", "acts", "orphans", "counts", "ledger", "nodes", "node", "repeats",
    "keys", "waiters", "deadline", "token", "now", "digest",
];

const ACCOUNTS: Kind<Vec<Account>> = Kind {
    expected: "accounts of the ledger with commas between them",
    read: |text| values::read_list(text, |word| Account::ALL.into_iter().find(|account| account.as_str() == word)),
};

impl Look {
    pub(crate) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Look, WordError> {
        let look = match verb {
            "status" => Look::Status(words.take(&JOB)?),
            "job" => Look::Job(words.take(&JOB)?),
            "attempts" => Look::Attempts(words.take(&JOB)?),
            "explain" => Look::Explain(words.take(&JOB)?),
            "kind" => Look::Kind(words.take(&NAME)?),
            "acts" => Look::Acts,
            "orphans" => Look::Orphans,
            "counts" => Look::Counts,
            "ledger" => Look::Ledger(if words.peek().is_some() { words.take(&ACCOUNTS)? } else { Vec::new() }),
            "nodes" => Look::Nodes,
            "node" => Look::Node(words.take(&NAME)?),
            "repeats" => Look::Repeats(command::parse_heartbeat(words)?),
            "keys" => Look::Keys,
            "waiters" => Look::Waiters,
            "deadline" => Look::Deadline,
            "token" => Look::Token(words.take(&tokens::DIGEST)?),
            "now" => Look::Now,
            "digest" => Look::Digest,
            _ => unreachable!("it is one of the verbs of looks"),
        };
        words.end()?;
        Ok(look)
    }
}

pub(crate) fn print_status(hub: &Hub, job: JobSeq) -> String {
    hub.queue().get(job).map_or("gone", |job| job.status()).to_owned()
}

pub(crate) fn print_job(hub: &Hub, job: JobSeq) -> String {
    hub.queue().get(job).map_or_else(|| "gone".to_owned(), |job| print_job_view(&job))
}

pub(crate) fn print_explanation(hub: &Hub, job: JobSeq) -> String {
    let Some(explanation) = hub.explain(job) else { return "gone".to_owned() };
    let reasons = explanation.reasons.iter().map(|reason| {
        let line = Printed::new(reason.code()).maybe("until", &reason.until(hub), |at| values::instant(*at));
        match reason {
            Reason::Reserved { node, .. } | Reason::Leased { node, .. } => {
                line.option("node", values::name(node)).end()
            }
            Reason::KindFull { leased, max } | Reason::HubFull { leased, max } | Reason::ZoneFull { leased, max } => {
                line.option("leased", format!("{leased}/{max}")).end()
            }
            Reason::HubBytesFull { bytes, bytes_max } => line.option("bytes", format!("{bytes}/{bytes_max}")).end(),
            Reason::RetryBudget { ahead, .. } => line.option("retries_ahead", ahead).end(),
            Reason::PreviousRun { job } => line.option("job", job.get()).end(),
            Reason::Turn { nodes } => line.option("nodes", nodes).end(),
            Reason::NoNode { nodes, .. } => {
                let lacking = nodes.lacking.iter().map(|(name, count)| format!("{}:{count}", values::name(name)));
                line.option("in_zone", nodes.in_zone).option("lacking", lacking.collect::<Vec<_>>().join(",")).end()
            }
            _ => line.end(),
        }
    });
    Printed::new(&join(reasons))
        .maybe("ahead", &explanation.ahead, u64::to_string)
        .maybe("starts", &explanation.starts_at, |at| values::instant(*at))
        .end()
}

fn print_job_view(job: &JobView<'_>) -> String {
    let line = Printed::new(job.status());
    let line = match job.state() {
        State::Dated { run_at } => line.option("run_at", values::utc(run_at)),
        State::Scheduled { due_at } => line.option("due", values::instant(due_at)),
        State::Postponed { since } => line.option("postponed", values::instant(since)),
        State::Queued { since } => line.option("since", values::instant(since)),
        State::Leased { until, .. } => {
            line.maybe("node", &job.leased_to(), |name| values::name(name)).option("until", values::instant(until))
        }
        State::Final { at, result, error, integrity, .. } => {
            print_end(line.option("at", values::instant(at)), &result, &error, &integrity)
        }
    };
    line.option("kind", values::name(job.kind()))
        .maybe("params", &job.params(), |params| values::payload(params))
        .unless(&Priority::Normal, "priority", &job.priority(), |priority| priority.as_str().to_owned())
        .unless(&Zone::DEFAULT, "zone", &job.class().zone, values::zone)
        .unless(&NameSet::EMPTY, "requires", &job.class().requires, values::names)
        .option("submitted", values::instant(job.submitted_at()))
        .unless(&Timestamp::NEVER, "expires", &job.expires_at(), |at| values::instant(*at))
        .option("attempts", format_args!("{}/{}", job.attempts_charged(), job.attempts_max()))
        .unless(&0, "losses", &job.losses(), u32::to_string)
        .maybe("max_run", &job.max_run_ms(), |ms| values::duration(*ms))
        .maybe("progress", &job.progress().0, u8::to_string)
        .maybe("note", &job.progress().1, |name| values::name(name))
        .maybe("reason", &job.end_reason(), |reason| reason.as_str().to_owned())
        .flag(job.is_held(), "held")
        .end()
}

pub(crate) fn print_attempts(hub: &Hub, job: JobSeq) -> String {
    match hub.queue().get(job) {
        None => "gone".to_owned(),
        Some(job) => join(job.attempts().map(print_attempt)),
    }
}

fn print_attempt(attempt: &Attempt) -> String {
    let line = Printed::new(&values::name(&attempt.node)).option("from", values::instant(attempt.started_at));
    let line = match &attempt.end {
        AttemptEnd::Running => line.word("running"),
        AttemptEnd::Completed { at, .. } => line.word("completed").option("at", values::instant(*at)),
        AttemptEnd::Failed { at, error, .. } => {
            line.word("failed").option("at", values::instant(*at)).maybe("error", error, values::payload)
        }
        AttemptEnd::Expired { at } => line.word("expired").option("at", values::instant(*at)),
        AttemptEnd::Revoked { at, why } => {
            line.word("revoked").option("at", values::instant(*at)).option("why", why.as_str())
        }
    };
    line.end()
}

pub(crate) fn print_kind(hub: &Hub, kind: &Name) -> String {
    let queue = hub.queue();
    let gate = match queue.kind_gate(hub.now(), kind) {
        Gate::Open => "open".to_owned(),
        Gate::Full => "full".to_owned(),
        Gate::Paused(Timestamp::NEVER) => "paused".to_owned(),
        Gate::Paused(until) => format!("paused until={}", values::instant(until)),
        Gate::RateLimited(until) => format!("rate_limited until={}", values::instant(until)),
    };
    Printed::new(&gate)
        .unless(&0, "leases", &queue.leases_of_kind(kind), u64::to_string)
        .unless(&0, "version", &queue.kind_rules(kind).1, u64::to_string)
        .end()
}

pub(crate) fn print_acts(hub: &Hub) -> String {
    join(hub.acts().iter().map(|act| {
        Printed::new(&act.id.to_string())
            .word(act.what.as_str())
            .option("done", format_args!("{}/{}", act.done, act.matched))
            .unless(&0, "skipped", &act.skipped, u64::to_string)
            .maybe("ended", &act.ended_at, |at| values::instant(*at))
            .flag(act.is_cancelled, "cancelled")
            .end()
    }))
}

pub(crate) fn print_orphans(hub: &Hub) -> String {
    join(
        hub.orphans()
            .iter_from(0)
            .map(|orphan| Printed::new(&orphan.id.to_string()).word(values::name(&orphan.parked.job_id)).end()),
    )
}

pub(crate) fn print_counts(hub: &Hub) -> String {
    let counts = hub.counts();
    let line = Printed::new(&format!("scheduled={}", counts.scheduled));
    line.option("queued", counts.queued)
        .option("leased", counts.leased)
        .option("retained", counts.retained)
        .option("dead", counts.dead)
        .end()
}

pub(crate) fn print_ledger(hub: &Hub, accounts: &[Account]) -> String {
    let has_any = |account: &Account| hub.ledger().get(*account) > 0;
    let accounts: Vec<_> =
        if accounts.is_empty() { Account::ALL.into_iter().filter(has_any).collect() } else { accounts.to_vec() };
    let each: Vec<_> =
        accounts.into_iter().map(|account| format!("{}={}", account.as_str(), hub.ledger().get(account))).collect();
    if each.is_empty() { NOTHING.to_owned() } else { each.join(" ") }
}

pub(crate) fn print_nodes(hub: &Hub) -> String {
    join(hub.registry().iter().map(|node| format!("{} {}", values::name(node.name()), print_node_record(node))))
}

pub(crate) fn print_node(hub: &Hub, name: &Name) -> String {
    hub.registry().by_name(name).map_or_else(|| "unknown".to_owned(), print_node_record)
}

fn print_node_record(node: &Node) -> String {
    Printed::new(node.liveness().as_str())
        .option("number", node.index().get())
        .option("registered", values::instant(node.registered_at()))
        .option("seen", values::instant(node.last_seen_at()))
        .unless(&0, "leases", &node.leases(), u64::to_string)
        .unless(&Zone::DEFAULT, "zone", node.zone(), values::zone)
        .unless(&NameSet::EMPTY, "can", node.capabilities(), values::names)
        .unless(&Health::Green, "health", &node.health(), |health| health.as_str().to_lowercase())
        .maybe("endpoint", &node.endpoint(), |name| values::name(name))
        .maybe("labels", &node.labels(), |labels| values::payload(labels))
        .flag(node.drain().is_some(), "drained")
        .maybe("until", &node.drain().and_then(|drain| drain.until), |at| values::instant(*at))
        .maybe("attested", &node.attested(), |attested| {
            format!("{},drifts:{},flips:{}", attested.status.as_str(), attested.drifts, attested.flips)
        })
        .maybe("identity", &node.identity(), |identity| print_identity(identity))
        .maybe("state", &node.state(), |state| print_state(state))
        .end()
}

fn print_identity(identity: &Identified) -> String {
    let key = identity.key.map_or(String::new(), |key| format!(",key:{}", values::key(&key)));
    let next = identity.next.map_or(String::new(), |key| format!(",next:{}", values::key(&key)));
    let replayed = if identity.is_replayed { ",replayed" } else { "" };
    let signed = identity.signed_at().map_or(String::new(), |at| format!(",signed:{}", values::utc(at)));
    let counter = identity.counter().map_or(String::new(), |counter| format!(",counter:{counter}"));
    format!("{}{replayed}{key}{next}{signed}{counter},faults:{}", identity.status.as_str(), identity.faults)
}

fn print_state(state: &NodeState) -> String {
    let reason = state.reason.map_or(String::new(), |reason| format!(",{}", reason.as_str()));
    let until = state.until.map_or(String::new(), |until| format!(",until:{}", values::instant(until)));
    format!("{}{reason}{until},hits:{}", state.state.as_str(), state.hits)
}

pub(crate) fn print_repeats(hub: &Hub, heartbeat: &Heartbeat) -> String {
    hub.registry()
        .repeats(hub.now(), hub.limits(), heartbeat)
        .map_or_else(|| NOTHING.to_owned(), |node| format!("node {}", node.get()))
}

pub(crate) fn print_keys(hub: &Hub) -> String {
    format!("keys={} spent={}", hub.dedup().len(), hub.dedup().spent_count())
}
