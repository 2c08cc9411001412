//! Steps: the inputs of a history, one line each.

use crate::command;
use crate::look::{self, Look};
use crate::operate;
use crate::tokens;
use crate::values::{self, INSTANT, NUMBER};
use crate::words::{Kind, Printed, WordError, Words};
use sheratan_core::{Command, Pull, Timestamp, WaiterId};
use std::fmt;

/// One input.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A command is applied at an instant.
    Apply(Timestamp, Command),
    /// Time passes without a command.
    Advance(Timestamp),
    /// A long poll that found nothing is parked.
    Park {
        id: WaiterId,
        /// The pull that it repeats when it is woken.
        pull: Pull,
        /// Whether its client is still connected then.
        is_patient: bool,
    },
    /// A long poll's client disconnected, or its wait is over.
    Unpark(WaiterId),
    /// The shell delivers the effects.
    Settle,
    /// All written records become durable and are acknowledged.
    Sync,
    /// A snapshot is made.
    Snapshot(SnapshotOf),
    /// The hub crashes and is rebuilt.
    Crash {
        /// How many of the records that were written but not yet synced survive.
        kept: u64,
        /// What the hub that continues was rebuilt from.
        from: Source,
    },
}

/// What a snapshot is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotOf {
    /// The live hub, with all records synced, as at a clean stop.
    Live,
    /// The last snapshot and the synced records since, as in the background.
    Replay,
}

/// What a hub is rebuilt from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The whole log.
    Log,
    /// The last snapshot and the records since.
    Snapshot,
}

/// A line's input: an instant, and a step or a look at that instant.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// The instant of this line and of those after it, if the line sets one.
    pub at: Option<Timestamp>,
    /// Absent on a line that only sets the instant.
    pub input: Option<Input>,
}

/// A step or a look.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    Command(Box<Command>),
    Park { id: WaiterId, pull: Pull, is_patient: bool },
    Unpark(WaiterId),
    Settle,
    Sync,
    Snapshot(SnapshotOf),
    Crash { kept: u64, from: Source },
    Look(Look),
}

const OTHER_VERBS: &[&str] = &["park", "unpark", "settle", "sync", "snapshot", "crash"];

const WAITER: Kind<WaiterId> =
    Kind { expected: "a long poll's number", read: |text| (NUMBER.read)(text).map(WaiterId) };

const SNAPSHOT_OF: Kind<SnapshotOf> = Kind {
    expected: "live or replay",
    read: |text| match text {
        "live" => Some(SnapshotOf::Live),
        "replay" => Some(SnapshotOf::Replay),
        _ => None,
    },
};

const SOURCE: Kind<Source> = Kind {
    expected: "log or snapshot",
    read: |text| match text {
        "log" => Some(Source::Log),
        "snapshot" => Some(Source::Snapshot),
        _ => None,
    },
};

impl Line {
    /// Parses a line.
    pub(crate) fn parse(words: &[&str]) -> Result<Line, WordError> {
        let mut words = Words::new(words);
        let at = if words.peek() == Some("at") {
            words.word("at")?;
            Some(words.take(&INSTANT)?)
        } else {
            None
        };
        let input = if at.is_some() && words.peek().is_none() { None } else { Some(parse_input(&mut words)?) };
        Ok(Line { at, input })
    }

    /// The steps of the line, for a world that makes checks of its own; `now` is the instant after the lines before it.
    pub fn steps(&self, now: Timestamp) -> Vec<Step> {
        let advance = self.at.map(Step::Advance);
        let step = match self.input.clone() {
            Some(Input::Command(command)) => return vec![Step::Apply(self.at.unwrap_or(now), *command)],
            Some(Input::Park { id, pull, is_patient }) => Some(Step::Park { id, pull, is_patient }),
            Some(Input::Unpark(id)) => Some(Step::Unpark(id)),
            Some(Input::Settle) => Some(Step::Settle),
            Some(Input::Sync) => Some(Step::Sync),
            Some(Input::Snapshot(of)) => Some(Step::Snapshot(of)),
            Some(Input::Crash { kept, from }) => Some(Step::Crash { kept, from }),
            Some(Input::Look(_)) | None => None,
        };
        advance.into_iter().chain(step).collect()
    }
}

fn parse_input(words: &mut Words<'_>) -> Result<Input, WordError> {
    let expected = || {
        let verbs = [command::VERBS, operate::VERBS, tokens::VERBS, OTHER_VERBS, look::VERBS].concat();
        format!("one of {}", verbs.join(", "))
    };
    let wrong = words.wrong_here(&expected());
    let verb = words.word(&expected())?;
    if [command::VERBS, operate::VERBS, tokens::VERBS].iter().any(|verbs| verbs.contains(&verb)) {
        return command::parse(verb, words).map(|command| Input::Command(Box::new(command)));
    }
    if look::VERBS.contains(&verb) {
        return Look::parse(verb, words).map(Input::Look);
    }
    let input = match verb {
        "park" => {
            let id = words.take(&WAITER)?;
            let (pull, flags) = command::parse_pull(words, &["gone"])?;
            Input::Park { id, pull, is_patient: !flags.has("gone") }
        }
        "unpark" => Input::Unpark(words.take(&WAITER)?),
        "settle" => Input::Settle,
        "sync" => Input::Sync,
        "snapshot" => Input::Snapshot(words.take(&SNAPSHOT_OF)?),
        "crash" => {
            let options = words.options(&["kept", "from"], &[])?;
            let Some(from) = options.get("from", &SOURCE)? else {
                return Err(words.wrong_here("from=log or from=snapshot"));
            };
            Input::Crash { kept: options.get("kept", &NUMBER)?.unwrap_or(0), from }
        }
        _ => return Err(wrong),
    };
    words.end()?;
    Ok(input)
}

impl Step {
    /// The instant at which it is applied, if it has one.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Step::Apply(at, _) | Step::Advance(at) => Some(*at),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Apply(at, command) => write!(f, "at {} {}", values::instant(*at), command::print(command)),
            Step::Advance(at) => write!(f, "at {}", values::instant(*at)),
            Step::Park { id, pull, is_patient } => {
                let line = command::print_pull(Printed::new("park").word(id.0), pull).flag(!is_patient, "gone");
                f.write_str(&line.end())
            }
            Step::Unpark(id) => write!(f, "unpark {}", id.0),
            Step::Settle => f.write_str("settle"),
            Step::Sync => f.write_str("sync"),
            Step::Snapshot(SnapshotOf::Live) => f.write_str("snapshot live"),
            Step::Snapshot(SnapshotOf::Replay) => f.write_str("snapshot replay"),
            Step::Crash { kept, from } => {
                let from = if *from == Source::Log { "log" } else { "snapshot" };
                write!(f, "crash kept={kept} from={from}")
            }
        }
    }
}
