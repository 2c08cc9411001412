//! Commands: everything that can change the hub's durable state, as the journal keeps it.
//!
//! The encoding is postcard (a documented, stable format) behind one version byte. Variants and members are only ever
//! appended as new variants, so that a newer hub reads an older journal; what an older hub cannot read it refuses.

use crate::ids::{JobSeq, LeaseRef, NodeNo};
use crate::limits::Limits;
use crate::name::Name;
use crate::payload::Payload;
use crate::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request to the state machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Sets the operator's limits.
    Configure(Box<Limits>),
    /// A node says what it is; needed when it is new, changed, or was not online.
    Heartbeat(Heartbeat),
    /// These nodes were heard from, and nothing about them changed. Without nodes it says how late it is: somebody was told
    /// what time did.
    NodesSeen(Vec<NodeNo>),
    /// A client hands in a job.
    Submit(Box<Submit>),
    /// A node asks for jobs.
    Pull(Pull),
    /// A node keeps its leases.
    Extend(Extend),
    /// A node hands in how a job ended.
    Complete(Complete),
    /// Sets how many nodes may be known: one of the operator's limits, which the older `Configure` does not carry.
    LimitNodes(u64),
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node.
    pub node: Name,
    /// Jobs of this zone only.
    pub zone: Option<Name>,
    /// What the node can do; sorted, without duplicates.
    pub capabilities: Vec<Name>,
    /// Health as the node sees it.
    pub health: Health,
    /// Where the node says it can be reached; shown, never used.
    pub endpoint: Option<Name>,
    /// The node's labels, a JSON object; shown, never used.
    pub labels: Payload,
}

/// A node's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Health {
    /// All well.
    #[default]
    Green,
    /// Working, with a reservation.
    Yellow,
    /// Not well.
    Red,
}

/// A job as a client hands it in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Submit {
    /// What to do: the name by which nodes choose.
    pub kind: Name,
    /// With what: any JSON.
    pub params: Payload,
    /// Which first.
    pub priority: Priority,
    /// Nodes of this zone only; the default zone if absent.
    pub zone: Option<Name>,
    /// Only nodes that have all of these; sorted, without duplicates.
    pub requires: Vec<Name>,
    /// Not before this much time has passed.
    pub delay_ms: Millis,
    /// Not before this instant.
    pub run_at: Timestamp,
    /// Expires if no node has finished it by then.
    pub ttl_ms: Option<Millis>,
    /// Attempts in all.
    pub attempts_max: Option<u32>,
    /// No retry later than this after submission.
    pub retry_budget_ms: Option<Millis>,
    /// How long its leases last.
    pub lease_duration_ms: Option<Millis>,
    /// Makes repeats of this submit one job.
    pub idempotency: Option<Idempotency>,
}

/// How a submit is told from its repeats.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Idempotency {
    /// The client's key.
    pub key: Name,
    /// SHA-256 of the canonical kind and params.
    pub payload_hash: [u8; 32],
    /// When the key's job has another payload.
    pub on_duplicate: OnDuplicate,
    /// When the key's job ended without success.
    pub on_failed: OnFailed,
}

/// What a submit with a known key but another payload means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum OnDuplicate {
    /// A mistake: refused.
    #[default]
    SameResult,
    /// The newer replaces the older.
    LatestWins,
}

/// What a submit with the key of a job that ended without success means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum OnFailed {
    /// The same answer again.
    #[default]
    SameResult,
    /// A new job under the key.
    NewJob,
}

/// Which jobs go first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Before normal ones.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// A node's request for jobs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pull {
    /// The node.
    pub node: Name,
    /// At most so many.
    pub jobs_max: u32,
    /// Only these kinds; all if empty. Sorted, without duplicates.
    pub kinds: Vec<Name>,
    /// How long the leases last; the job's or the hub's own if absent.
    pub lease_duration_ms: Option<Millis>,
}

/// A node's request to keep leases.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Extend {
    /// The node that holds them.
    pub node: Name,
    /// The leases.
    pub leases: Vec<LeaseRef>,
    /// For how long from now; the job's or the hub's own if absent.
    pub lease_duration_ms: Option<Millis>,
}

/// How a job ended, as its node says; its integrity was checked by the shell, which holds the key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Complete {
    /// The job.
    pub job: JobSeq,
    /// The lease that fences it; clients of v1.5 send none.
    pub lease: Option<LeaseRef>,
    /// The node that says so.
    pub node: Option<Name>,
    /// Whether it was done.
    pub ok: bool,
    /// What came of it.
    pub result: Payload,
    /// What went wrong.
    pub error: Payload,
    /// Whether another attempt may help.
    pub is_retryable: bool,
    /// The first eight bytes of the result's SHA-256: tells a repeat from another result.
    pub mark: u64,
}

/// A record's command cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Written by a newer hub.
    Version(u8),
    /// Not a command.
    Malformed(postcard::Error),
}

const ENCODING_VERSION: u8 = 1;

impl Command {
    /// Appends the command's encoding to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.push(ENCODING_VERSION);
        let taken = std::mem::take(buffer);
        *buffer = postcard::to_extend(self, taken).expect("commands have no types that postcard cannot encode");
    }

    /// The command that `bytes` encode; payloads are copied once.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        match bytes.split_first() {
            Some((&ENCODING_VERSION, rest)) => postcard::from_bytes(rest).map_err(DecodeError::Malformed),
            Some((&version, _)) => Err(DecodeError::Version(version)),
            None => Err(DecodeError::Malformed(postcard::Error::DeserializeUnexpectedEnd)),
        }
    }
}

impl Submit {
    /// A job that asks for nothing special: any node of the default zone, at once, under the hub's own limits.
    pub fn new(kind: Name, params: Payload) -> Self {
        Submit {
            kind,
            params,
            priority: Priority::Normal,
            zone: None,
            requires: Vec::new(),
            delay_ms: Millis::ZERO,
            run_at: Timestamp::ZERO,
            ttl_ms: None,
            attempts_max: None,
            retry_budget_ms: None,
            lease_duration_ms: None,
            idempotency: None,
        }
    }
}

impl Priority {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// The priority that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low]
            .into_iter()
            .find(|priority| priority.as_str() == word)
    }
}

impl Health {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Green => "GREEN",
            Health::Yellow => "YELLOW",
            Health::Red => "RED",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(version) => write!(
                f,
                "the command has encoding version {version}, this hub reads version {ENCODING_VERSION}: start a newer sheratan-hub on this data folder"
            ),
            DecodeError::Malformed(error) => write!(f, "not a command: {error}"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_as_it_was_written() {
        let command = Command::Pull(Pull {
            node: Name::new("n").unwrap(),
            jobs_max: 3,
            kinds: vec![Name::new("k").unwrap()],
            lease_duration_ms: Some(Millis::new(5)),
        });
        let mut bytes = vec![9];
        command.encode(&mut bytes);
        assert_eq!(bytes[0], 9, "the encoding is appended");
        assert_eq!(Command::decode(&bytes[1..]), Ok(command));
    }

    #[test]
    fn a_newer_encoding_is_refused_by_its_version() {
        assert_eq!(Command::decode(&[2, 0]), Err(DecodeError::Version(2)));
        assert!(Command::decode(&[]).is_err());
    }

    #[test]
    fn the_commands_of_older_journals_keep_their_numbers() {
        let mut bytes = Vec::new();
        Command::LimitNodes(300).encode(&mut bytes);
        assert_eq!(bytes, [1, 7, 0xac, 2], "a new command comes after the ones that journals have");
        let mut bytes = Vec::new();
        Command::NodesSeen(Vec::new()).encode(&mut bytes);
        assert_eq!(bytes, [1, 2, 0]);
    }

    /// The bytes of version 1, so that a change of a struct's members fails here and not at a user's restart.
    #[test]
    fn the_encoding_of_version_1_stays_as_it_is() {
        let mut bytes = Vec::new();
        Command::Complete(Complete {
            job: JobSeq::new(300),
            lease: Some(LeaseRef { job: JobSeq::new(300), generation: 2 }),
            node: None,
            ok: true,
            result: Payload::new(b"{}"),
            error: Payload::ABSENT,
            is_retryable: true,
            mark: 1,
        })
        .encode(&mut bytes);
        assert_eq!(bytes, [1, 6, 0xac, 2, 1, 0xac, 2, 2, 0, 1, 2, b'{', b'}', 0, 1, 1]);
    }
}
