//! Snapshots: the durable state as a sequence of records, written and restored.
//!
//! Only what cannot be derived is written: lanes, timers, accounts, counts and indexes are rebuilt. Records have a
//! fixed order (head, settings, nodes by number, kinds with rules by name, jobs by sequence, bound idempotency keys by job, spent ones by age,
//! …, policies by version, activations, end), so equal states have equal bytes and [`Hub::digest`] is the SHA-256 over them. Writing and restoring take
//! about a microsecond per job.

use crate::acts::Act;
use crate::chain::Chain;
use crate::dedup::KeyRecord;
use crate::encoding::{DecodeError, Encoded, Reader, members};
use crate::hub::Hub;
use crate::ids::{HubKey, JobSeq};
use crate::limits::Limits;
use crate::name::Name;
use crate::orphans::Orphan;
use crate::policies::{Activation, HeldPolicy};
use crate::queue::JobRecord;
use crate::queue::ageing::OrderRecord;
use crate::queue::kind::KindRecord;
use crate::queue::retry_budget::{BudgetRecord, Earned};
use crate::queue::turns::TurnsRecord;
use crate::registry::node::NodeRecord;
use crate::rules;
use crate::rules::RulesVersion;
use crate::salts::{Salted, Salts};
use crate::settings::Setting;
use crate::time::{Calendar, Timestamp};
use crate::tokens::Tokens;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The format of snapshot records that this build writes and reads.
pub const FORMAT: u8 = 1;

/// One record of a snapshot.
enum Record {
    Head(Box<Head>),
    /// A setting that is not the rules version's default.
    Setting(Setting),
    Node(Box<NodeRecord>),
    Kind(Box<KindRecord>),
    Budget(BudgetRecord),
    /// What a kind earned for retries.
    Earned(Box<EarnedRecord>),
    Orphan(Box<Orphan>),
    Act(Box<Act>),
    /// The turns at a level of a class.
    Turns(Box<TurnsRecord>),
    Order(Box<OrderRecord>),
    /// A policy that was added.
    Policy(Box<HeldPolicy>),
    /// An activation of a policy; the last one is that of the active one.
    Activation(Box<Activation>),
    Job(Box<JobRecord>),
    Key(Box<KeyRecord>),
    /// Ends the snapshot, so that a truncated one is detected.
    End,
}

/// What a kind earned for retries.
#[derive(Clone, PartialEq, Debug)]
struct EarnedRecord {
    kind: Name,
    earned: Earned,
}

members!(EarnedRecord { 1 kind: required, 2 earned: required });

struct Head {
    format: u16,
    rules: RulesVersion,
    now: Timestamp,
    chain: Vec<u64>,
    next_node: u32,
    next_job: JobSeq,
    next_final_number: u64,
    salts: Vec<Salted>,
    calendar: Calendar,
    next_act: u32,
    next_orphan: u64,
    kind_version_floor: u64,
    tokens: Tokens,
}

members!(Head {
    1 format: required,
    2 rules: required,
    3 now: required,
    4 chain: required,
    5 next_node: required,
    6 next_job: required,
    7 next_final_number: required,
    8 salts,
    9 calendar,
    10 next_act,
    11 next_orphan,
    12 kind_version_floor,
    13 tokens,
});

impl Encoded for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Head(head) => {
                out.push(1);
                head.encode(out);
            }
            Record::Setting(setting) => {
                out.push(2);
                setting.encode(out);
            }
            Record::Node(node) => {
                out.push(3);
                node.encode(out);
            }
            Record::Job(job) => {
                out.push(4);
                job.encode(out);
            }
            Record::Key(key) => {
                out.push(5);
                key.encode(out);
            }
            Record::End => out.push(6),
            Record::Kind(kind) => {
                out.push(7);
                kind.encode(out);
            }
            Record::Budget(budget) => {
                out.push(8);
                budget.encode(out);
            }
            Record::Earned(earned) => {
                out.push(9);
                earned.encode(out);
            }
            Record::Orphan(orphan) => {
                out.push(10);
                orphan.encode(out);
            }
            Record::Act(act) => {
                out.push(11);
                act.encode(out);
            }
            Record::Turns(turns) => {
                out.push(12);
                turns.encode(out);
            }
            Record::Order(order) => {
                out.push(13);
                order.encode(out);
            }
            Record::Policy(policy) => {
                out.push(14);
                policy.encode(out);
            }
            Record::Activation(activation) => {
                out.push(15);
                activation.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            1 => Record::Head(Encoded::decode(from)?),
            2 => Record::Setting(Encoded::decode(from)?),
            3 => Record::Node(Encoded::decode(from)?),
            4 => Record::Job(Encoded::decode(from)?),
            5 => Record::Key(Encoded::decode(from)?),
            6 => Record::End,
            7 => Record::Kind(Encoded::decode(from)?),
            8 => Record::Budget(Encoded::decode(from)?),
            9 => Record::Earned(Encoded::decode(from)?),
            10 => Record::Orphan(Encoded::decode(from)?),
            11 => Record::Act(Encoded::decode(from)?),
            12 => Record::Turns(Encoded::decode(from)?),
            13 => Record::Order(Encoded::decode(from)?),
            14 => Record::Policy(Encoded::decode(from)?),
            15 => Record::Activation(Encoded::decode(from)?),
            other => return Err(DecodeError::UnknownVariant("snapshot record", other.into())),
        })
    }
}

/// Why a snapshot cannot be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// A record cannot be decoded by this build.
    Malformed(DecodeError),
    /// The records are in an order that no hub writes.
    OutOfOrder,
    /// The last record is missing.
    Incomplete,
    /// A record contradicts another.
    Contradiction(&'static str),
}

/// Restores a hub from a snapshot, record by record.
pub struct Restore {
    hub: Hub,
    part: Part,
    /// Places of older jobs that jobs have, for as long as records are read.
    taken_places: BTreeSet<JobSeq>,
    next_act: u32,
    next_orphan: u64,
}

/// The part of the snapshot that is read next.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Part {
    Head,
    Settings,
    Nodes,
    Kinds,
    Jobs,
    Keys,
    Budget,
    Orphans,
    Acts,
    Order,
    Policies,
    Activations,
    Ended,
}

impl Hub {
    /// Passes each record of the durable state to `sink`. O(n) in nodes, jobs and keys.
    pub fn snapshot(&self, mut sink: impl FnMut(&[u8])) {
        let mut buffer = Vec::new();
        let mut put = |record: Record| {
            buffer.clear();
            record.encode(&mut buffer);
            sink(&buffer);
        };
        let (next_job, next_final_number) = self.queue.next_numbers();
        put(Record::Head(Box::new(Head {
            format: FORMAT.into(),
            rules: self.rules,
            now: self.now,
            chain: self.chain.words().to_vec(),
            next_node: self.registry.next_index(),
            next_job,
            next_final_number,
            salts: self.ids.salts.records(),
            calendar: self.calendar(),
            next_act: self.acts.next_id(),
            next_orphan: self.orphans.next_id(),
            kind_version_floor: self.queue.kind_version_floor(),
            tokens: self.tokens.clone(),
        })));
        self.limits.differences(&Limits::default()).into_iter().for_each(|setting| put(Record::Setting(setting)));
        self.registry.records().for_each(|node| put(Record::Node(Box::new(node))));
        self.queue.kind_records().for_each(|kind| put(Record::Kind(Box::new(kind))));
        self.queue.records(&self.timers).for_each(|job| put(Record::Job(Box::new(job))));
        self.dedup.records().for_each(|key| put(Record::Key(Box::new(key))));
        if rules::limits_retries(self.rules) {
            put(Record::Budget(self.queue.budget_record()));
        }
        for (kind, earned) in self.queue.earned_records() {
            put(Record::Earned(Box::new(EarnedRecord { kind: kind.clone(), earned })));
        }
        self.orphans.iter_from(0).for_each(|orphan| put(Record::Orphan(Box::new(orphan.clone()))));
        self.acts.iter().for_each(|act| put(Record::Act(Box::new(act.clone()))));
        self.queue.turn_records().for_each(|turns| put(Record::Turns(Box::new(turns))));
        self.queue.order_record().into_iter().for_each(|order| put(Record::Order(Box::new(order))));
        self.policies.records().for_each(|policy| put(Record::Policy(Box::new(policy.clone()))));
        self.policies.history().for_each(|activation| put(Record::Activation(Box::new(activation.clone()))));
        put(Record::End);
    }

    /// SHA-256 over the durable state. The same journal gives the same digest on every machine and in every build.
    /// O(n).
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        self.snapshot(|record| {
            hasher.update((record.len() as u64).to_le_bytes());
            hasher.update(record);
        });
        hasher.finalize().into()
    }
}

impl Restore {
    /// Starts to restore the hub with that key.
    pub fn new(key: HubKey) -> Self {
        Restore { hub: Hub::new(key), part: Part::Head, taken_places: BTreeSet::new(), next_act: 0, next_orphan: 0 }
    }

    /// Restores the next record.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(bytes);
        let record = Record::decode(&mut reader).map_err(RestoreError::Malformed)?;
        reader.end().map_err(RestoreError::Malformed)?;
        let part = match &record {
            Record::Head(_) => Part::Head,
            Record::Setting(_) => Part::Settings,
            Record::Node(_) => Part::Nodes,
            Record::Kind(_) => Part::Kinds,
            Record::Budget(_) | Record::Earned(_) => Part::Budget,
            Record::Orphan(_) => Part::Orphans,
            Record::Act(_) => Part::Acts,
            Record::Turns(_) | Record::Order(_) => Part::Order,
            Record::Policy(_) => Part::Policies,
            Record::Activation(_) => Part::Activations,
            Record::Job(_) => Part::Jobs,
            Record::Key(_) => Part::Keys,
            Record::End => Part::Ended,
        };
        let is_in_order = match self.part {
            Part::Head => part == Part::Head,
            Part::Ended => false,
            _ => part >= self.part && part != Part::Head,
        };
        if !is_in_order {
            return Err(RestoreError::OutOfOrder);
        }
        self.part = if part == Part::Head { Part::Settings } else { part };
        self.put(record)
    }

    /// The hub, after the last record.
    pub fn finish(mut self) -> Result<Hub, RestoreError> {
        if self.part != Part::Ended {
            return Err(RestoreError::Incomplete);
        }
        self.hub.restored();
        self.hub.policies.restored().map_err(RestoreError::Contradiction)?;
        self.hub.acts.restore_next_id(self.next_act);
        self.hub.orphans.restore_next_id(self.next_orphan);
        Ok(self.hub)
    }

    fn put(&mut self, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::Head(head) => return self.put_head(*head),
            Record::Setting(setting) => self.hub.limits.set(setting),
            Record::Node(node) => self.hub.restore_node(*node).map_err(RestoreError::Contradiction)?,
            Record::Job(job) => {
                self.hub.restore_job(&mut self.taken_places, *job).map_err(RestoreError::Contradiction)?;
            }
            Record::Key(key) => self.hub.restore_key(*key).map_err(RestoreError::Contradiction)?,
            Record::Kind(kind) => self.hub.restore_kind(*kind).map_err(RestoreError::Contradiction)?,
            Record::Budget(budget) => self.hub.queue.restore_budget(budget),
            Record::Earned(earned) => {
                let EarnedRecord { kind, earned } = *earned;
                self.hub.restore_earned(&kind, earned).map_err(RestoreError::Contradiction)?;
            }
            Record::Orphan(orphan) => self.hub.restore_orphan(*orphan).map_err(RestoreError::Contradiction)?,
            Record::Act(act) => self.hub.restore_act(*act).map_err(RestoreError::Contradiction)?,
            Record::Turns(turns) => self.hub.queue.restore_turns(*turns).map_err(RestoreError::Contradiction)?,
            Record::Order(order) => self.hub.restore_order(*order).map_err(RestoreError::Contradiction)?,
            Record::Policy(policy) => self.hub.policies.restore(*policy).map_err(RestoreError::Contradiction)?,
            Record::Activation(activation) => self.hub.policies.restore_activation(*activation),
            Record::End => {}
        }
        Ok(())
    }

    fn put_head(&mut self, head: Head) -> Result<(), RestoreError> {
        if head.format != u16::from(FORMAT) {
            return Err(RestoreError::Malformed(DecodeError::Format(head.format.min(255) as u8)));
        }
        if head.rules > RulesVersion::NEWEST {
            return Err(RestoreError::Malformed(DecodeError::Rules(head.rules.get())));
        }
        let words: [u64; 2] = head
            .chain
            .try_into()
            .map_err(|_| RestoreError::Contradiction("the chain of outcomes has another length than two words"))?;
        if head.next_job == JobSeq::new(0) {
            return Err(RestoreError::Contradiction("the next job has the number 0; the first job has 1"));
        }
        (self.next_act, self.next_orphan) = (head.next_act, head.next_orphan);
        self.hub.rules = head.rules;
        self.hub.now = head.now;
        self.hub.timers.set_calendar(head.calendar);
        self.hub.chain = Chain::from_words(words);
        head.tokens.check().map_err(RestoreError::Contradiction)?;
        self.hub.tokens = head.tokens;
        self.hub.ids.salts = Salts::restore(head.salts).map_err(RestoreError::Contradiction)?;
        self.hub.registry.restore_next_index(head.next_node);
        self.hub.queue.restore_next_numbers((head.next_job, head.next_final_number));
        self.hub.queue.restore_kind_version_floor(head.kind_version_floor);
        Ok(())
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Malformed(error) => write!(f, "a record of the snapshot cannot be read: {error}"),
            RestoreError::OutOfOrder => f.write_str("the records of the snapshot are out of order"),
            RestoreError::Incomplete => f.write_str("the snapshot ends before its last record"),
            RestoreError::Contradiction(what) => write!(f, "the snapshot contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}
