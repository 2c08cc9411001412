//! Step: one thing that happens in a run, and its text in a scenario.
//!
//! A run is a list of steps. The generator draws them from a seed; a scenario holds them as text, a line each, so that a
//! bug stays found when the generator has long learned to draw other things. Commands are written as the journal
//! writes them (whose format is kept for ever), in hex, with a remark for the reader.

use sheratan_core::{Caller, Command, DecodeError, Envelope, Pull, RulesVersion, Timestamp, WaiterId};
use std::fmt;

/// One thing that happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A command comes in at that instant.
    Apply(Timestamp, Command),
    /// Nothing comes in, but time has passed.
    Advance(Timestamp),
    /// A long poll that found nothing is parked.
    Park {
        /// Its number.
        id: WaiterId,
        /// What it repeats when it is woken.
        pull: Pull,
        /// Whether its client is still there then.
        is_patient: bool,
    },
    /// A long poll's client went away, or its time is over.
    Unpark(WaiterId),
    /// The shell repeats the pulls of the long polls that were woken.
    Settle,
    /// The disk has all that was written: it is acknowledged.
    Sync,
    /// A snapshot is made.
    Snapshot(SnapshotOf),
    /// The hub dies and is rebuilt.
    Crash {
        /// How many of the records that were written but not yet synced survive.
        kept: u64,
        /// What the hub that goes on was rebuilt from.
        from: Source,
    },
}

/// What a snapshot is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotOf {
    /// The hub as it stands, as at a clean stop.
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

/// A line is no step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepError {
    /// Its first word is unknown.
    UnknownWord(String),
    /// A word is missing.
    Missing(&'static str),
    /// A word is not of its kind.
    Malformed(&'static str, String),
    /// The command cannot be read.
    Command(DecodeError),
}

impl Step {
    /// The step that a line describes; `None` if it holds only a remark.
    pub fn parse(line: &str) -> Result<Option<Step>, StepError> {
        let (line, _remark) = line.split_once('#').unwrap_or((line, ""));
        let mut words = line.split_whitespace();
        let Some(verb) = words.next() else { return Ok(None) };
        let mut word = |what: &'static str| words.next().ok_or(StepError::Missing(what));
        Ok(Some(match verb {
            "apply" => Step::Apply(instant(word("instant")?)?, command(word("command")?)?),
            "advance" => Step::Advance(instant(word("instant")?)?),
            "park" => {
                let id = WaiterId(number("waiter", word("waiter")?)?);
                let is_patient = match word("patience")? {
                    "patient" => true,
                    "gone" => false,
                    other => return Err(StepError::Malformed("patience", other.to_owned())),
                };
                let text = word("pull")?;
                let Command::Pull(pull) = command(text)? else {
                    return Err(StepError::Malformed("pull", text.to_owned()));
                };
                Step::Park { id, pull, is_patient }
            }
            "unpark" => Step::Unpark(WaiterId(number("waiter", word("waiter")?)?)),
            "settle" => Step::Settle,
            "sync" => Step::Sync,
            "snapshot" => Step::Snapshot(match word("what it is of")? {
                "live" => SnapshotOf::Live,
                "replay" => SnapshotOf::Replay,
                other => return Err(StepError::Malformed("what it is of", other.to_owned())),
            }),
            "crash" => {
                let kept = number("records kept", word("records kept")?)?;
                let from = match word("source")? {
                    "log" => Source::Log,
                    "snapshot" => Source::Snapshot,
                    other => return Err(StepError::Malformed("source", other.to_owned())),
                };
                Step::Crash { kept, from }
            }
            other => return Err(StepError::UnknownWord(other.to_owned())),
        }))
    }

    /// The instant at which it happens, if it says.
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
            Step::Apply(at, command) => write!(f, "apply {} {}  # {command:?}", at.as_millis(), Hex(command)),
            Step::Advance(at) => write!(f, "advance {}", at.as_millis()),
            Step::Park { id, pull, is_patient } => {
                let patience = if *is_patient { "patient" } else { "gone" };
                write!(f, "park {} {patience} {}  # {pull:?}", id.0, Hex(&Command::Pull(pull.clone())))
            }
            Step::Unpark(id) => write!(f, "unpark {}", id.0),
            Step::Settle => f.write_str("settle"),
            Step::Sync => f.write_str("sync"),
            Step::Snapshot(SnapshotOf::Live) => f.write_str("snapshot live"),
            Step::Snapshot(SnapshotOf::Replay) => f.write_str("snapshot replay"),
            Step::Crash { kept, from: Source::Log } => write!(f, "crash {kept} log"),
            Step::Crash { kept, from: Source::Snapshot } => write!(f, "crash {kept} snapshot"),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::UnknownWord(word) => {
                write!(f, "`{word}` is no step: expected apply, advance, park, unpark, settle, sync, snapshot or crash")
            }
            StepError::Missing(what) => write!(f, "the {what} is missing at the end of the line"),
            StepError::Malformed(what, text) => write!(f, "`{text}` is no {what}"),
            StepError::Command(error) => write!(f, "the command cannot be read: {error}"),
        }
    }
}

impl std::error::Error for StepError {}

/// A command in the journal's encoding.
struct Hex<'a>(&'a Command);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        Envelope::encode(RulesVersion::NEWEST, Caller::HUB, self.0, &mut bytes);
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn number(what: &'static str, text: &str) -> Result<u64, StepError> {
    text.parse().map_err(|_| StepError::Malformed(what, text.to_owned()))
}

fn instant(text: &str) -> Result<Timestamp, StepError> {
    number("instant in milliseconds", text).map(Timestamp::from_millis)
}

fn command(text: &str) -> Result<Command, StepError> {
    let malformed = || StepError::Malformed("command in hex", text.to_owned());
    let digits = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = digits.collect::<Option<_>>().ok_or_else(malformed)?;
    Envelope::decode(&bytes).map(|envelope| envelope.command).map_err(StepError::Command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::Name;

    fn pull() -> Pull {
        let node = Name::new("node é").expect("a name");
        Pull { node, jobs_max: 2, kinds: sheratan_core::NameSet::EMPTY, lease_duration_ms: None }
    }

    #[test]
    fn every_step_reads_back_as_it_was_written() {
        let steps = [
            Step::Apply(Timestamp::NEVER, Command::Pull(pull())),
            Step::Advance(Timestamp::from_millis(5)),
            Step::Park { id: WaiterId(3), pull: pull(), is_patient: true },
            Step::Park { id: WaiterId(4), pull: pull(), is_patient: false },
            Step::Unpark(WaiterId(3)),
            Step::Settle,
            Step::Sync,
            Step::Snapshot(SnapshotOf::Live),
            Step::Snapshot(SnapshotOf::Replay),
            Step::Crash { kept: 2, from: Source::Log },
            Step::Crash { kept: 0, from: Source::Snapshot },
        ];
        for step in steps {
            assert_eq!(Step::parse(&step.to_string()), Ok(Some(step)));
        }
    }

    #[test]
    fn remarks_and_empty_lines_are_no_steps() {
        for line in ["", "   ", "# a remark", "  # apply 1 2"] {
            assert_eq!(Step::parse(line), Ok(None));
        }
    }

    #[test]
    fn a_line_that_is_no_step_says_why() {
        let table = [
            ("jump 3", "`jump` is no step"),
            ("advance", "the instant is missing"),
            ("advance soon", "`soon` is no instant"),
            ("apply 1 xyz", "`xyz` is no command in hex"),
            ("apply 1 ff", "format 255"),
            ("park 1 patient 0101010004", "`0101010004` is no pull"),
            ("crash 1 disk", "`disk` is no source"),
        ];
        for (line, said) in table {
            let error = Step::parse(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
