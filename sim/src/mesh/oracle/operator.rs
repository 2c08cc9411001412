//! What operators did: an acknowledged act is durable, and holds for all later leases.
//!
//! Drains and pauses are followed by the records alone, apart from the core that applies them.

use super::{Oracle, ShownAct, Violation, holds};
use sheratan_core::{Command, FinalStatus, Hub, KindRules, Name, Outcome, SetKind};
use std::collections::{BTreeMap, BTreeSet};

/// An act of an operator that was acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// A job was cancelled.
    Cancelled {
        /// The job.
        job_id: String,
    },
    /// A node was drained.
    Drained {
        /// Its index.
        node: u64,
    },
    /// A node was resumed.
    Resumed {
        /// Its index.
        node: u64,
    },
    /// The rules of a kind were set or shown.
    KindShown {
        /// Its index.
        kind: u64,
        /// The version that the same operator was shown before.
        before: u64,
        /// Its version.
        version: u64,
        /// Whether it is paused.
        is_paused: bool,
    },
    /// The weights were set.
    WeightsSet {
        /// The version that the same operator was shown before.
        before: u64,
        /// Their version.
        version: u64,
    },
    /// A dead letter was requeued or discarded.
    LetterHandled {
        /// Its job.
        job_id: String,
    },
    /// An act on many letters was begun, shown or cancelled.
    ActShown {
        /// As the same operator was shown it before.
        before: Option<ShownAct>,
        /// As it is shown.
        act: ShownAct,
    },
}

/// The `max_count` of requests that only count: no record has it.
pub const DRY_RUN: u64 = 3_999_999_999;

/// What the records say of nodes and kinds.
#[derive(Debug, Default)]
pub struct Operations {
    /// Nodes that are drained.
    drained: BTreeSet<String>,
    /// The last record that drained or resumed a node.
    drains: BTreeMap<String, u64>,
    kinds: BTreeMap<String, SetRules>,
    /// What the configuration said of each kind at the last start that set it.
    configured: BTreeMap<Name, KindRules>,
    /// The last record that set weights.
    weighed: u64,
}

/// A kind's rules as they were set last.
#[derive(Debug)]
struct SetRules {
    rules: KindRules,
    version: u64,
    /// The record.
    seq: u64,
}

/// A record as it was applied.
#[derive(Debug)]
pub enum Act {
    Drain(String),
    Resume(String),
    SetKind(Box<SetKind>),
    SetWeights,
    Pull(String),
    Many(Option<u64>),
}

impl Act {
    /// What a command does, if that is an operator's act or held back by one.
    pub fn of(command: &Command) -> Option<Act> {
        Some(match command {
            Command::Drain(drain) => Act::Drain(drain.node.to_string()),
            Command::Resume(node) | Command::RemoveNode(node) => Act::Resume(node.to_string()),
            Command::SetKind(set) => Act::SetKind(set.clone()),
            Command::SetWeights(_) => Act::SetWeights,
            Command::BeginAct(begin) => Act::Many(begin.count_max),
            Command::Pull(pull) => Act::Pull(pull.node.to_string()),
            _ => return None,
        })
    }
}

impl Oracle {
    /// Follows a record that was applied with this outcome.
    pub(super) fn follow(&mut self, act: Act, outcome: &Outcome) -> Result<(), Violation> {
        let seq = self.seq;
        match (act, outcome) {
            (Act::Drain(node), Outcome::Done) => {
                self.operations.drains.insert(node.clone(), seq);
                self.operations.drained.insert(node);
            }
            (Act::Resume(node), Outcome::Done) => {
                self.operations.drained.remove(&node);
                self.operations.drains.insert(node, seq);
            }
            (Act::SetKind(set), Outcome::KindSet { version }) => {
                let SetKind { kind, rules, configured, .. } = *set;
                if let Some(configured) = configured {
                    self.operations.configured.insert(kind.clone(), configured);
                }
                let kind = kind.to_string();
                let set = SetRules { rules, version: *version, seq };
                let before = self.operations.kinds.insert(kind.clone(), set);
                let before = before.map_or(0, |before| before.version);
                holds(before < *version, "a kind's version only grows", || {
                    format!("record {seq} gives {kind} the version {version} after {before}")
                })?;
            }
            (Act::Many(count_max), _) => holds(count_max != Some(DRY_RUN), "a dry run changes nothing", || {
                format!("record {seq} begins what was only to be counted")
            })?,
            (Act::SetWeights, Outcome::Done) => self.operations.weighed = seq,
            (Act::Pull(node), Outcome::Pulled(pulled)) if !pulled.leases.is_empty() => {
                holds(!self.operations.drained.contains(&node), "a drained node gets no lease", || {
                    format!("record {seq} leases {} jobs to {node}", pulled.leases.len())
                })?;
                for leased in &pulled.leases {
                    let job = self.shadow.queue().get(leased.lease.job);
                    let kind = job.map_or(String::new(), |job| job.kind().to_string());
                    let Some(SetRules { rules, .. }) = self.operations.kinds.get(&kind) else { continue };
                    let is_paused = rules.pause.as_ref().is_some_and(|pause| pause.until.is_none());
                    holds(!is_paused, "a paused kind gets no lease", || {
                        format!("record {seq} leases job {} of {kind}", leased.lease.job.get())
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks an act that was acknowledged; `durable` records were durable when it was requested.
    pub(super) fn check_done(&mut self, durable: u64, done: Done) -> Result<(), Violation> {
        const DURABLE: &str = "an acknowledged act of an operator is durable";
        match done {
            Done::Cancelled { job_id } => {
                let job = self.shadow.ids().parse_job_id(&job_id);
                let ended = job.and_then(|job| self.finals.get(&job.get()).copied());
                holds(ended == Some(FinalStatus::Cancelled), DURABLE, || {
                    format!("job {job:?} was answered as cancelled, the journal has {ended:?}")
                })
            }
            Done::Drained { node } => self.check_drain(durable, node, true),
            Done::Resumed { node } => self.check_drain(durable, node, false),
            Done::KindShown { kind, before, version, is_paused } => {
                holds(before <= version, "a kind's version only grows", || {
                    format!("k{kind} was shown with the version {before}, then {version}")
                })?;
                let name = format!("k{kind}");
                let Some(set) = self.operations.kinds.get(&name) else {
                    return holds(!is_paused, DURABLE, || format!("{name} is paused, and no record says so"));
                };
                // That of a kind without rules is the latest of all kinds.
                let durable = self.shadow.queue().kind_rules(&name).1;
                holds(version <= durable, DURABLE, || {
                    format!("{name} was shown with the version {version}, the journal has {durable}")
                })?;
                let agrees = version != set.version || is_paused == set.rules.pause.is_some();
                holds(agrees, "what is reported is true", || {
                    format!("version {version} of {name} was shown with paused:{is_paused}, record {} differs", set.seq)
                })
            }
            Done::LetterHandled { job_id } => self.check_handled(durable, &job_id),
            Done::ActShown { before, act } => self.check_act(before.as_ref(), &act),
            Done::WeightsSet { before, version } => {
                holds(before <= version, "the version of the weights only grows", || {
                    format!("it was shown as {before}, then as {version}")
                })?;
                let is_there = version <= self.shadow.weights_version() && self.operations.weighed > 0;
                holds(is_there, DURABLE, || {
                    format!("version {version} was acknowledged, the journal has {}", self.shadow.weights_version())
                })
            }
        }
    }

    /// Checks what a start has made of the configuration's rules of kinds: those members that it says otherwise than
    /// before are set, all others are as they were, and where it says nothing else nothing is set.
    pub fn check_configured(&self, said: &BTreeMap<Name, KindRules>, live: &Hub) -> Result<(), Violation> {
        const FOLLOWED: &str = "a start sets what the configuration says otherwise than before, and nothing else";
        let names: BTreeSet<_> = said.keys().chain(self.operations.configured.keys()).collect();
        for kind in names {
            let before = self.operations.configured.get(kind).unwrap_or(&KindRules::NONE);
            let after = said.get(kind).unwrap_or(&KindRules::NONE);
            let (rules, version) = self.shadow.queue().kind_rules(kind);
            let (live, live_version) = live.queue().kind_rules(kind);
            let mut expected = KindRules { pause: live.pause.clone(), ..rules.clone() };
            // Plans set these two.
            if before.letters_max != after.letters_max {
                expected.letters_max = after.letters_max;
            }
            if before.max_run_ms != after.max_run_ms {
                expected.max_run_ms = after.max_run_ms;
            }
            holds(*live == expected, FOLLOWED, || {
                format!("{kind} has {live:?}, of {rules:?} and {after:?} after {before:?}")
            })?;
            // That of a kind without rules is the latest of all kinds.
            let is_any = before == after && *live == KindRules::NONE;
            holds(is_any || (live_version == version) == (before == after), FOLLOWED, || {
                format!("{kind} has the version {live_version} after {version}, for {after:?} after {before:?}")
            })?;
        }
        Ok(())
    }

    /// A node is as was acknowledged, or another record has changed it since the request.
    fn check_drain(&self, durable: u64, node: u64, is_drained: bool) -> Result<(), Violation> {
        let name = format!("node{node}");
        let changed = self.operations.drains.get(&name).copied().unwrap_or(0);
        let is_so = self.operations.drained.contains(&name) == is_drained;
        holds(is_so || changed > durable, "an acknowledged act of an operator is durable", || {
            format!("{name} was answered with drained:{is_drained}, and record {changed} says otherwise")
        })
    }
}
