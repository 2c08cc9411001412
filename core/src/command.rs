//! Commands: everything that can change the hub's durable state, as the journal stores it.
//!
//! The tables at the end are the encoding: the number of a variant or member never changes, a new one gets the next.

use crate::acts::BeginAct;
use crate::encoding::{DecodeError, Encoded, Reader, members, numbered};
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::name::Name;
use crate::name_set::NameSet;
use crate::orphans::ParkResult;
use crate::payload::Payload;
use crate::policies::ActivatePolicy;
use crate::queue::kind_rules::KindRules;
use crate::registry::identity::{PublicKey, Verdict};
use crate::rules::RulesVersion;
use crate::salts::Salt;
use crate::settings::Setting;
use crate::time::{Calendar, Millis, Utc};
use crate::tokens::TokenOrder;
use crate::zone::Zone;

/// A request to the state machine.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Sets some of the operator's limits.
    Set(Vec<Setting>),
    /// A node describes itself; journaled when the node is new, changed, or was not online.
    Heartbeat(Heartbeat),
    /// Heartbeats of these nodes that changed nothing but their last-seen time.
    NodesSeen(Vec<NodeIndex>),
    /// Time has passed up to the record's instant, and a client was answered with what due timers did.
    Tick,
    /// A client submits a job.
    Submit(Box<Submit>),
    /// A node asks for jobs.
    Pull(Pull),
    /// A node extends its leases.
    Extend(Extend),
    /// A node submits a result.
    Complete(Complete),
    /// From now on these rules are in force.
    AdoptRules(RulesVersion),
    /// A start: from now on ids are made with this [salt](crate::salts).
    BeginSalt(Salt),
    /// The hub takes back leases whose reply never left it: no node has seen them.
    Reclaim(Vec<LeaseRef>),
    /// The machine's clock was set: from now on the calendar is this one.
    SetCalendar(Calendar),
    /// The machine slept for this long from the record's instant on.
    Slept(Millis),
    /// A job is no longer wanted.
    Cancel(JobSeq),
    /// A node gives leases back.
    Release(Release),
    /// An operator sets the rules of a kind.
    SetKind(Box<SetKind>),
    /// An operator requeues a dead letter.
    Requeue(JobSeq),
    /// An operator discards a dead letter.
    Discard(JobSeq),
    /// An operator takes a node out of service.
    Drain(Drain),
    /// A drained node is in service again.
    Resume(Name),
    /// An operator has the hub forget a node.
    RemoveNode(Name),
    /// An operator acts on many dead letters.
    BeginAct(Box<BeginAct>),
    /// An operator ends an act on many dead letters.
    CancelAct(u32),
    /// A result came for an unknown job.
    ParkResult(Box<ParkResult>),
    /// An operator makes an orphan the result of a job.
    AdoptOrphan(AdoptOrphan),
    /// An operator discards an orphan.
    DiscardOrphan(u64),
    /// The weights of the clients or kinds that take turns. They replace all former ones; all others have the weight 1.
    SetWeights(Vec<Weight>),
    /// An operator makes what a node attests now its baseline.
    Accept(Box<Accept>),
    /// An operator puts a node in quarantine.
    Quarantine(Quarantine),
    /// An operator ends a node's quarantine, or the warning about it.
    ClearNode(Name),
    /// What is to happen to the shared token.
    Tokens(Box<TokenOrder>),
    /// An operator adds a policy, the whole document; or the hub, one that it found at a start.
    AddPolicy(Payload),
    /// An operator activates a policy.
    ActivatePolicy(Box<ActivatePolicy>),
    /// An operator pins a node's key, or has it forgotten.
    RekeyNode(RekeyNode),
}

/// An operator pins a node's key.
#[derive(Clone, PartialEq, Debug)]
pub struct RekeyNode {
    pub node: Name,
    /// If absent, the next key whose signature verifies is pinned.
    pub key: Option<PublicKey>,
}

/// How a heartbeat is signed. The shell, which has its bytes, has verified it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Signing {
    /// The key that it presents.
    pub key: Option<PublicKey>,
    pub verdict: Verdict,
    /// When it was signed, as it says itself.
    pub signed_at: Option<Utc>,
    /// A number that grows with each heartbeat.
    pub counter: Option<u64>,
    /// The first eight bytes of the signature: those of two heartbeats differ. Zero if it has none.
    pub mark: u64,
    /// The key that the node wants to sign with from now on.
    pub next: Option<PublicKey>,
}

/// An operator accepts what a node attests.
#[derive(Clone, PartialEq, Debug)]
pub struct Accept {
    pub node: Name,
    /// The build and capability hash that the operator saw; a refusal if the node attests others by now.
    pub expected: Option<Attestation>,
    /// Also if the node is suspect of being several.
    pub is_forced: bool,
}

/// A node gets no jobs for some time.
#[derive(Clone, PartialEq, Debug)]
pub struct Quarantine {
    pub node: Name,
    pub duration_ms: Millis,
    pub reason: Option<Name>,
}

/// What a node says it consists of. Claims: nothing shows that they are true, only that they changed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attestation {
    pub build_id: Option<Name>,
    pub capability_hash: Option<Name>,
    /// A JSON object; shown, never used.
    pub runtime: Option<Payload>,
}

/// How many turns in a round a client or kind has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Weight {
    pub group: Name,
    /// 1 to [`WEIGHT_MAX`](crate::WEIGHT_MAX).
    pub weight: u32,
}

/// An orphan becomes the result of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdoptOrphan {
    pub orphan: u64,
    pub job: JobSeq,
}

/// A node's description of itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Heartbeat {
    pub node: Name,
    /// The node gets jobs of this zone only.
    pub zone: Zone,
    pub capabilities: NameSet,
    /// Health as the node reports it.
    pub health: Health,
    /// Where the node can be reached, as it reports; shown, never used.
    pub endpoint: Option<Name>,
    /// A JSON object; shown, never used.
    pub labels: Option<Payload>,
    pub attestation: Option<Box<Attestation>>,
    /// Absent if it presents neither a key nor a signature.
    pub signing: Option<Box<Signing>>,
}

/// A node's health, as it reports it. The hub only shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Healthy.
    #[default]
    Green,
    /// Degraded.
    Yellow,
    /// Unhealthy.
    Red,
}

/// A job as a client submits it.
#[derive(Clone, PartialEq, Debug)]
pub struct Submit {
    /// What to do; a pull may ask for certain kinds only.
    pub kind: Name,
    /// Any JSON.
    pub params: Option<Payload>,
    /// That of the kind's rules, or normal, if absent.
    pub priority: Option<Priority>,
    /// Only nodes of this zone run the job.
    pub zone: Zone,
    /// Only nodes that have all of these capabilities run the job.
    pub requires: NameSet,
    /// The first attempt starts no earlier than this after submission.
    pub delay_ms: Millis,
    /// The first attempt starts no earlier than the calendar shows this.
    pub run_at: Utc,
    /// This long after submission no attempt starts any more, and no lease is extended.
    pub ttl_ms: Option<Millis>,
    /// Attempts in total.
    pub attempts_max: Option<u32>,
    /// No retry starts later than this after submission.
    pub retry_budget_ms: Option<Millis>,
    /// How long its leases last.
    pub lease_duration_ms: Option<Millis>,
    /// Repeats of this submit refer to the same job.
    pub idempotency: Option<Idempotency>,
    /// The node that submits it, as it says itself: its results are for it.
    pub client: Option<Name>,
    /// How long one attempt may take, from its lease on, however often the lease is extended.
    pub max_run_ms: Option<Millis>,
}

/// How repeats of a submit are recognised and answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Idempotency {
    /// The client's key.
    pub key: Name,
    /// SHA-256 of the canonical kind and params.
    pub payload_hash: [u8; 32],
    /// What to do if the key's job has another payload.
    pub on_duplicate: OnDuplicate,
    /// What to do if the key's job ended without success.
    pub on_failed: OnFailed,
    /// How long the key is remembered after its job became final; at most the hub's own limit.
    pub ttl_ms: Option<Millis>,
}

/// What a submit with a known key but another payload means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDuplicate {
    /// A mistake: it is refused.
    #[default]
    SameResult,
    /// The new job takes the place of the old one.
    LatestWins,
}

/// What a submit with the key of a job that ended without success means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailed {
    /// The same answer again.
    #[default]
    SameResult,
    /// A new job under the key.
    NewJob,
}

/// Jobs of a higher priority are leased first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    Critical,
    High,
    #[default]
    Normal,
    Low,
}

/// A node's request for jobs.
#[derive(Clone, PartialEq, Debug)]
pub struct Pull {
    pub node: Name,
    pub jobs_max: u32,
    /// Only these kinds; all kinds if empty.
    pub kinds: NameSet,
    /// How long the leases last; the job's or the hub's own duration if absent.
    pub lease_duration_ms: Option<Millis>,
}

/// A node's request to extend leases.
#[derive(Clone, PartialEq, Debug)]
pub struct Extend {
    /// The node that holds them.
    pub node: Name,
    pub leases: Vec<LeaseRef>,
    /// How long the leases last from now on; the job's or the hub's own duration if absent.
    pub lease_duration_ms: Option<Millis>,
    /// Percent; shown with each of the jobs.
    pub progress: Option<u8>,
    /// What the node says about its work; shown with each of the jobs.
    pub note: Option<Name>,
}

/// A job's result, as its node submits it. The shell, which holds the key, has checked its integrity.
#[derive(Clone, PartialEq, Debug)]
pub struct Complete {
    pub job: JobSeq,
    /// The lease that fences it; clients of v1.5 send none.
    pub lease: Option<LeaseRef>,
    /// The node that submits it.
    pub node: Option<Name>,
    /// Whether the attempt succeeded.
    pub ok: bool,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    /// Whether another attempt may succeed.
    pub is_retryable: bool,
    pub mark: ResultMark,
    /// What the result is stored with, if it ends its job.
    pub integrity: Option<Box<ResultIntegrity>>,
    /// When its node wants the next attempt: instead of the usual delay.
    pub retry_after_ms: Option<Millis>,
}

/// A node's request to give leases back.
#[derive(Clone, PartialEq, Debug)]
pub struct Release {
    /// The node that holds them.
    pub node: Name,
    pub leases: Vec<LeaseRef>,
}

/// The rules of a kind, as an operator sets them.
#[derive(Clone, PartialEq, Debug)]
pub struct SetKind {
    pub kind: Name,
    /// All of them: what is absent is not set any more.
    pub rules: KindRules,
    /// Only if the rules have this version, so that two operators do not undo each other's changes.
    pub expected: Option<u64>,
    /// What `hub.toml` says of the kind from now on, if that is why they are set: the next start compares with it. The
    /// end of a pause in it is an instant of the calendar.
    pub configured: Option<KindRules>,
}

/// A node gets no more jobs.
#[derive(Clone, PartialEq, Debug)]
pub struct Drain {
    pub node: Name,
    /// How long its leases may be extended. If absent, they are not.
    pub deadline_ms: Option<Millis>,
    /// Why; shown.
    pub reason: Option<Name>,
}

/// Distinguishes a repeat of a result from another result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultMark {
    /// The first eight bytes of the SHA-256 of the result: two attempts with equal results have the same.
    Content(u64),
    /// The first eight bytes of the SHA-256 of the `result_id` that its node gave it.
    Id(u64),
    /// The first four bytes of the SHA-256 of the `result_id`, and the first eight of that of the result: another result
    /// under an id that was used is no repeat.
    IdAndContent { id: u32, content: u64 },
}

impl Submit {
    /// A job with all defaults: any node of the default zone, at once, under the hub's own limits.
    pub fn new(kind: Name, params: Option<Payload>) -> Self {
        Submit {
            kind,
            params,
            priority: None,
            zone: Zone::DEFAULT,
            requires: NameSet::EMPTY,
            delay_ms: Millis::ZERO,
            run_at: Utc::ZERO,
            ttl_ms: None,
            attempts_max: None,
            retry_budget_ms: None,
            lease_duration_ms: None,
            idempotency: None,
            client: None,
            max_run_ms: None,
        }
    }
}

impl ResultMark {
    /// Whether a result with this mark repeats one that was accepted with `accepted`. Marks of earlier builds have the id
    /// alone.
    pub(crate) fn repeats(self, accepted: ResultMark) -> bool {
        match (self, accepted) {
            (ResultMark::IdAndContent { id, .. }, ResultMark::Id(accepted)) => id == accepted as u32,
            (mark, accepted) => mark == accepted,
        }
    }

    /// Whether its node gave the result an id.
    pub(crate) fn has_id(self) -> bool {
        !matches!(self, ResultMark::Content(_))
    }
}

impl Priority {
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// The inverse of [`Priority::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low]
            .into_iter()
            .find(|priority| priority.as_str() == word)
    }
}

impl Health {
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Green => "GREEN",
            Health::Yellow => "YELLOW",
            Health::Red => "RED",
        }
    }
}

/// A command is its number and its members.
impl Encoded for Command {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |number: u8, members: &dyn Fn(&mut Vec<u8>)| {
            out.push(number);
            members(out);
        };
        match self {
            Command::Set(settings) => put(1, &|out| settings.encode(out)),
            Command::Heartbeat(heartbeat) => put(2, &|out| heartbeat.encode(out)),
            Command::NodesSeen(nodes) => put(3, &|out| nodes.encode(out)),
            Command::Tick => put(4, &|_| {}),
            Command::Submit(submit) => put(5, &|out| submit.encode(out)),
            Command::Pull(pull) => put(6, &|out| pull.encode(out)),
            Command::Extend(extend) => put(7, &|out| extend.encode(out)),
            Command::Complete(complete) => put(8, &|out| complete.encode(out)),
            Command::AdoptRules(version) => put(9, &|out| version.encode(out)),
            Command::BeginSalt(salt) => put(10, &|out| salt.encode(out)),
            Command::Reclaim(leases) => put(12, &|out| leases.encode(out)),
            Command::SetCalendar(calendar) => put(11, &|out| calendar.encode(out)),
            Command::Slept(duration) => put(13, &|out| duration.encode(out)),
            Command::Cancel(job) => put(14, &|out| job.encode(out)),
            Command::Release(release) => put(15, &|out| release.encode(out)),
            Command::SetKind(set) => put(16, &|out| set.encode(out)),
            Command::Requeue(job) => put(17, &|out| job.encode(out)),
            Command::Discard(job) => put(18, &|out| job.encode(out)),
            Command::Drain(drain) => put(19, &|out| drain.encode(out)),
            Command::Resume(node) => put(20, &|out| node.encode(out)),
            Command::RemoveNode(node) => put(21, &|out| node.encode(out)),
            Command::BeginAct(begin) => put(22, &|out| begin.encode(out)),
            Command::CancelAct(act) => put(23, &|out| act.encode(out)),
            Command::ParkResult(parked) => put(24, &|out| parked.encode(out)),
            Command::AdoptOrphan(adopt) => put(25, &|out| adopt.encode(out)),
            Command::DiscardOrphan(orphan) => put(26, &|out| orphan.encode(out)),
            Command::SetWeights(weights) => put(27, &|out| weights.encode(out)),
            Command::Accept(accept) => put(28, &|out| accept.encode(out)),
            Command::Quarantine(quarantine) => put(29, &|out| quarantine.encode(out)),
            Command::ClearNode(node) => put(30, &|out| node.encode(out)),
            Command::RekeyNode(rekey) => put(31, &|out| rekey.encode(out)),
            Command::AddPolicy(document) => put(32, &|out| document.encode(out)),
            Command::ActivatePolicy(activate) => put(33, &|out| activate.encode(out)),
            Command::Tokens(order) => put(34, &|out| order.encode(out)),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            1 => Command::Set(Encoded::decode(from)?),
            2 => Command::Heartbeat(Encoded::decode(from)?),
            3 => Command::NodesSeen(Encoded::decode(from)?),
            4 => Command::Tick,
            5 => Command::Submit(Encoded::decode(from)?),
            6 => Command::Pull(Encoded::decode(from)?),
            7 => Command::Extend(Encoded::decode(from)?),
            8 => Command::Complete(Encoded::decode(from)?),
            9 => Command::AdoptRules(Encoded::decode(from)?),
            10 => Command::BeginSalt(Encoded::decode(from)?),
            12 => Command::Reclaim(Encoded::decode(from)?),
            11 => Command::SetCalendar(Encoded::decode(from)?),
            13 => Command::Slept(Encoded::decode(from)?),
            14 => Command::Cancel(Encoded::decode(from)?),
            15 => Command::Release(Encoded::decode(from)?),
            16 => Command::SetKind(Encoded::decode(from)?),
            17 => Command::Requeue(Encoded::decode(from)?),
            18 => Command::Discard(Encoded::decode(from)?),
            19 => Command::Drain(Encoded::decode(from)?),
            20 => Command::Resume(Encoded::decode(from)?),
            21 => Command::RemoveNode(Encoded::decode(from)?),
            22 => Command::BeginAct(Encoded::decode(from)?),
            23 => Command::CancelAct(Encoded::decode(from)?),
            24 => Command::ParkResult(Encoded::decode(from)?),
            25 => Command::AdoptOrphan(Encoded::decode(from)?),
            26 => Command::DiscardOrphan(Encoded::decode(from)?),
            27 => Command::SetWeights(Encoded::decode(from)?),
            28 => Command::Accept(Encoded::decode(from)?),
            29 => Command::Quarantine(Encoded::decode(from)?),
            30 => Command::ClearNode(Encoded::decode(from)?),
            31 => Command::RekeyNode(Encoded::decode(from)?),
            32 => Command::AddPolicy(Encoded::decode(from)?),
            33 => Command::ActivatePolicy(Encoded::decode(from)?),
            34 => Command::Tokens(Encoded::decode(from)?),
            other => return Err(DecodeError::UnknownVariant("command", other.into())),
        })
    }
}

members!(Heartbeat {
    1 node: required,
    2 zone,
    3 capabilities,
    4 health,
    5 endpoint,
    6 labels,
    7 attestation,
    8 signing,
});

members!(Signing {
    1 key,
    2 verdict,
    3 signed_at,
    4 counter,
    5 mark,
    6 next,
});

members!(RekeyNode {
    1 node: required,
    2 key,
});

members!(Attestation {
    1 build_id,
    2 capability_hash,
    3 runtime,
});

members!(Accept {
    1 node: required,
    2 expected,
    3 is_forced,
});

members!(Quarantine {
    1 node: required,
    2 duration_ms: required,
    3 reason,
});

members!(Submit {
    1 kind: required,
    2 params,
    3 priority,
    4 zone,
    5 requires,
    6 delay_ms,
    7 run_at,
    8 ttl_ms,
    9 attempts_max,
    10 retry_budget_ms,
    11 lease_duration_ms,
    12 idempotency,
    13 client,
    14 max_run_ms,
});

members!(Idempotency {
    1 key: required,
    2 payload_hash: required,
    3 on_duplicate,
    4 on_failed,
    5 ttl_ms,
});

members!(Pull {
    1 node: required,
    2 jobs_max: required,
    3 kinds,
    4 lease_duration_ms,
});

members!(Extend {
    1 node: required,
    2 leases: required,
    3 lease_duration_ms,
    4 progress,
    5 note,
});

members!(Complete {
    1 job: required,
    2 lease,
    3 node,
    4 ok: required,
    5 result,
    6 error,
    7 is_retryable: required,
    8 mark: required,
    9 integrity,
    10 retry_after_ms,
});

members!(Release {
    1 node: required,
    2 leases: required,
});

members!(SetKind {
    1 kind: required,
    2 rules: required,
    3 expected,
    4 configured,
});

members!(Weight {
    1 group: required,
    2 weight: required,
});

members!(AdoptOrphan {
    1 orphan: required,
    2 job: required,
});

members!(Drain {
    1 node: required,
    2 deadline_ms,
    3 reason,
});

numbered!(Health { 0 Green, 1 Yellow, 2 Red });
numbered!(Priority { 0 Critical, 1 High, 2 Normal, 3 Low });
numbered!(OnDuplicate { 0 SameResult, 1 LatestWins });
numbered!(OnFailed { 0 SameResult, 1 NewJob });

impl Encoded for ResultMark {
    fn encode(&self, out: &mut Vec<u8>) {
        let (number, hash) = match self {
            ResultMark::Content(hash) => (0, hash),
            ResultMark::Id(hash) => (1, hash),
            ResultMark::IdAndContent { content, .. } => (2, content),
        };
        out.push(number);
        hash.to_le_bytes().encode(out);
        if let ResultMark::IdAndContent { id, .. } = self {
            id.to_le_bytes().encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = from.byte()?;
        let hash = u64::from_le_bytes(Encoded::decode(from)?);
        match number {
            0 => Ok(ResultMark::Content(hash)),
            1 => Ok(ResultMark::Id(hash)),
            2 => Ok(ResultMark::IdAndContent { id: u32::from_le_bytes(Encoded::decode(from)?), content: hash }),
            other => Err(DecodeError::UnknownVariant("result mark", other.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::stored::Origin;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a valid name")
    }

    fn bytes_of(command: &Command) -> Vec<u8> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        bytes
    }

    fn set(names: &[&str]) -> NameSet {
        names.iter().map(|text| name(text)).collect()
    }

    /// One of each command with no member at its default, and the start of its encoding: a change of a table fails here
    /// and not at a user's restart.
    fn all() -> Vec<(Command, &'static str)> {
        let (payload, second) = (Some(Payload::new(b"{}")), Some(Millis::new(1_000)));
        let idempotency = Idempotency {
            key: name("a"),
            payload_hash: [7; 32],
            on_duplicate: OnDuplicate::LatestWins,
            on_failed: OnFailed::NewJob,
            ttl_ms: second,
        };
        let attestation =
            Attestation { build_id: Some(name("b")), capability_hash: Some(name("h")), runtime: payload.clone() };
        let heartbeat = Heartbeat {
            node: name("n"),
            zone: Zone::new(name("z")),
            capabilities: set(&["c", "d"]),
            health: Health::Red,
            endpoint: Some(name("e")),
            labels: payload.clone(),
            attestation: Some(Box::new(attestation.clone())),
            signing: Some(Box::new(Signing {
                key: Some(PublicKey::new([7; 32])),
                verdict: Verdict::Valid,
                signed_at: Some(Utc::from_millis(300)),
                counter: Some(1),
                mark: 2,
                next: Some(PublicKey::new([8; 32])),
            })),
        };
        let submit = Submit {
            kind: name("k"),
            params: payload.clone(),
            priority: Some(Priority::Low),
            zone: Zone::new(name("z")),
            requires: set(&["c"]),
            delay_ms: Millis::new(1),
            run_at: Utc::from_millis(2),
            ttl_ms: Some(Millis::new(0)),
            attempts_max: Some(4),
            retry_budget_ms: Some(Millis::new(5)),
            lease_duration_ms: second,
            idempotency: Some(idempotency),
            client: Some(name("c")),
            max_run_ms: second,
        };
        let lease = LeaseRef { job: JobSeq::new(300), generation: 2 };
        let complete = Complete {
            job: JobSeq::new(300),
            lease: Some(lease),
            node: Some(name("n")),
            ok: true,
            result: payload.clone(),
            error: payload,
            is_retryable: false,
            mark: ResultMark::IdAndContent { id: 2, content: 1 },
            integrity: Some(Box::new(ResultIntegrity { origin: Origin::Hub, sha256: [9; 32] })),
            retry_after_ms: second,
        };
        let rules = KindRules { inflight_max: Some(2), ..KindRules::NONE };
        let sevens = "0707070707070707070707070707070707070707070707070707070707070707";
        assert_eq!(sevens.len(), 64);
        vec![
            (Command::Set(vec![Setting::NodesMax(300), Setting::AttemptsMax(5)]), "010215ac020605"),
            (Command::Heartbeat(heartbeat), "0201016e02017a03020163016404020501650602"),
            (Command::NodesSeen(vec![NodeIndex::new(1), NodeIndex::new(300)]), "030201ac02"),
            (Command::Tick, "04"),
            (Command::Submit(Box::new(submit)), "0501016b02027b7d0303"),
            (
                Command::Pull(Pull { node: name("n"), jobs_max: 3, kinds: set(&["k"]), lease_duration_ms: second }),
                "0601016e0203030101",
            ),
            (
                Command::Extend(Extend {
                    node: name("n"),
                    leases: vec![lease],
                    lease_duration_ms: None,
                    progress: Some(50),
                    note: Some(name("half")),
                }),
                "0701016e0201ac0202043205",
            ),
            (Command::Complete(complete), "0801ac0202ac02020301"),
            (Command::AdoptRules(RulesVersion::FIRST), "0901"),
            (Command::BeginSalt(Salt::new([1, 2, 3, 4, 5, 6, 7, 8])), "0a0102030405060708"),
            (Command::Reclaim(vec![lease]), "0c01ac0202"),
            (Command::SetCalendar(Calendar::from_offset_ms(-151)), "0bad02"),
            (Command::Slept(Millis::new(300)), "0dac02"),
            (Command::Cancel(JobSeq::new(300)), "0eac02"),
            (Command::Release(Release { node: name("n"), leases: vec![lease] }), "0f01016e0201ac0202"),
            (
                Command::SetKind(Box::new(SetKind {
                    kind: name("k"),
                    rules,
                    expected: Some(0),
                    configured: Some(KindRules::NONE),
                })),
                "1001016b0201020003000400",
            ),
            (Command::Requeue(JobSeq::new(300)), "11ac02"),
            (Command::Discard(JobSeq::new(300)), "12ac02"),
            (
                Command::Drain(Drain { node: name("n"), deadline_ms: second, reason: Some(name("r")) }),
                "1301016e02e80703017200",
            ),
            (Command::Resume(name("n")), "14016e"),
            (Command::RemoveNode(name("n")), "15016e"),
            (Command::CancelAct(300), "17ac02"),
            (Command::AdoptOrphan(AdoptOrphan { orphan: 300, job: JobSeq::new(1) }), "1901ac02020100"),
            (Command::DiscardOrphan(300), "1aac02"),
            (
                Command::Accept(Box::new(Accept { node: name("n"), expected: Some(attestation), is_forced: true })),
                "1c01016e02010162020168",
            ),
            (
                Command::Quarantine(Quarantine {
                    node: name("n"),
                    duration_ms: Millis::new(1),
                    reason: Some(name("r")),
                }),
                "1d01016e02010301",
            ),
            (Command::ClearNode(name("n")), "1e016e"),
            (Command::RekeyNode(RekeyNode { node: name("n"), key: Some(PublicKey::new([7; 32])) }), "1f01016e020707"),
            (Command::AddPolicy(Payload::new(b"{}")), "20027b7d"),
            (
                Command::ActivatePolicy(Box::new(ActivatePolicy {
                    version: 300,
                    sha256: [7; 32],
                    expect_active: Some(1),
                })),
                "2101ac020207",
            ),
        ]
    }

    #[test]
    fn every_command_decodes_to_itself_and_begins_with_its_recorded_bytes() {
        for (command, start) in all() {
            let bytes = bytes_of(&command);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(hex.starts_with(start), "{command:?} is {hex}, which does not begin with {start}");
            let mut reader = Reader::new(&bytes);
            assert_eq!(Command::decode(&mut reader), Ok(command));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_truncated_command_is_refused_at_every_length() {
        for (command, _) in all() {
            let bytes = bytes_of(&command);
            for cut in 0..bytes.len() {
                assert!(Command::decode(&mut Reader::new(&bytes[..cut])).is_err(), "{cut} bytes of {command:?}");
            }
        }
    }

    #[test]
    fn members_at_their_defaults_are_not_written() {
        assert_eq!(bytes_of(&Command::Submit(Box::new(Submit::new(name("k"), None)))), [5, 1, 1, b'k', 0]);
        let pull = Pull { node: name("n"), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
        assert_eq!(bytes_of(&Command::Pull(pull)), [6, 1, 1, b'n', 2, 1, 0]);
    }
}
