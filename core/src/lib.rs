//! The deterministic core of Sheratan Hub: one state machine that is given the time.
//!
//! [`Hub`] is the machine; its documentation says how to drive it. The shell passes [`Command`]s to it and gets their
//! [`Outcome`]s and [`Effect`]s back; an [`Envelope`] is a command as the journal holds it, [`Restore`] reads a
//! snapshot. [`integrity`] (JSON, canonical forms, checksums) and [`alerts`] are independent of the hub; the shell uses
//! them directly. `ARCHITECTURE.md` lists the modules behind these names.
#![forbid(unsafe_code)]

mod access;
mod acts;
pub mod alerts;
mod ascending;
mod chain;
mod command;
mod context;
mod dedup;
mod effect;
mod encoding;
mod envelope;
pub mod explain;
mod hub;
mod ids;
pub mod integrity;
mod ledger;
pub mod limits;
mod name;
mod name_set;
mod orphans;
mod outcome;
mod payload;
mod policies;
pub mod policy;
mod queue;
mod registry;
mod room;
#[cfg_attr(feature = "sim-mutants", path = "../mutated/rules.rs")]
mod rules;
mod salts;
mod settings;
mod snapshot;
pub mod telemetry;
mod time;
#[cfg_attr(feature = "sim-mutants", path = "../mutated/timers.rs")]
mod timers;
mod tokens;
mod zone;

pub use access::guard::AuthGuard;
pub use acts::{Act, ActOn, Acts, BeginAct};
pub use command::{
    Accept, AdoptOrphan, Attestation, Command, Complete, Drain, Extend, Health, Heartbeat, Idempotency, OnDuplicate,
    OnFailed, Priority, Pull, Quarantine, RekeyNode, Release, ResultMark, SetKind, Signing, Submit, Weight,
};
pub use dedup::Dedup;
pub use effect::{Audit, Effect};
pub use encoding::DecodeError;
pub use envelope::{Caller, Envelope, FORMAT, Origin, Principal};
pub use hub::Hub;
pub use ids::{
    HubKey, IdText, Ids, JobIdText, JobSeq, LeaseIdText, LeaseRef, NodeIndex, RequestIdText, ResultCursorText,
};
pub use ledger::{Account, Ledger};
pub use limits::Limits;
pub use name::{Name, NameError};
pub use name_set::NameSet;
pub use orphans::{Orphan, Orphans, ParkResult};
pub use outcome::{
    Completed, CompletedStatus, DropReason, Extended, FinalStatus, Full, Leased, LeftOut, Outcome, Pulled, Refusal,
    Released, Submitted, Withheld,
};
pub use payload::Payload;
pub use policies::{ActivatePolicy, Activation, HeldPolicy, Policies};
pub use policy::{AttestationStatus, IdentityStatus, PolicyState};
pub use queue::class::ClassKey;
pub use queue::job::{EndReason, EndedJob, JobView, State};
pub use queue::kind_rules::{Gate, KindRules, OnExhausted, OnLettersFull, Pause};
pub use queue::lease::{Attempt, AttemptEnd, Revocation};
pub use queue::letter_filter::LetterFilter;
pub use queue::scan::{Filter, Found};
pub use queue::tally::{Status, Tally};
pub use queue::turns::WEIGHT_MAX;
pub use queue::waiter::WaiterId;
pub use queue::{Counts, Queue};
pub use registry::Registry;
pub use registry::attestation::{Attested, Change, Drift};
pub use registry::identity::{Identified, PublicKey, Verdict};
pub use registry::node::{Drained, Liveness, Node};
pub use registry::node_state::{NodeState, StateReason};
pub use rules::RulesVersion;
pub use salts::Salt;
pub use settings::Setting;
pub use snapshot::{FORMAT as SNAPSHOT_FORMAT, Restore, RestoreError};
pub use time::{Calendar, Millis, Timestamp, Utc};
pub use tokens::{
    RetiredToken, TokenChange, TokenConfig, TokenDigest, TokenOrder, TokenRefusal, TokenRotation, TokenVerdict,
    TokenWindow, Tokens,
};
pub use zone::Zone;
