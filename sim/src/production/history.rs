//! The commands that a hub was given, in order: the journal has those that changed something, the trace the others.

use super::ReplayError;
use sheratan_core::{Command, Envelope, Hub, Timestamp};
use sheratan_io::journal::{History, Item, Mark};
use sheratan_io::trace::{Coverage, Reader};
use std::path::Path;

/// A data folder's journal and trace, merged.
#[derive(Debug)]
pub struct Recording {
    history: History,
    trace: Reader,
    /// The next entry of the trace, read ahead.
    traced: Option<(u64, Timestamp, Command)>,
    /// The journal's last record that was returned.
    seq: u64,
}

/// An item of a recording.
#[derive(Debug)]
pub enum Input {
    /// The hub was given this command.
    Command(RecordedCommand),
    /// The hub that wrote the journal had this outcome hash.
    Mark(Mark),
}

/// A command as the hub was given it.
#[derive(Debug)]
pub struct RecordedCommand {
    /// Its record in the journal; for a command of the trace, the last record before it.
    pub seq: u64,
    /// The instant at which it was applied.
    pub now: Timestamp,
    /// The command.
    pub command: Command,
    /// Whether it changed nothing, so that only the trace has it.
    pub is_traced: bool,
}

impl Recording {
    /// Opens a data folder. Reads all of it once, to find where it ends.
    pub fn open(data_dir: &Path) -> Result<Recording, ReplayError> {
        let history = History::open(data_dir).map_err(ReplayError::History)?;
        let trace = Reader::open(data_dir, history.identity.hub_id, history.last_seq).map_err(ReplayError::Trace)?;
        let seq = history.snapshot_seq.unwrap_or(0);
        let mut recording = Recording { history, trace, traced: None, seq };
        // Entries from before the journal's oldest state have no state to be applied to.
        recording.read_ahead()?;
        while recording.traced.as_ref().is_some_and(|(after_seq, ..)| *after_seq < seq) {
            recording.read_ahead()?;
        }
        Ok(recording)
    }

    /// Removes the state that the recording begins with, leaving an empty hub.
    pub fn take_hub(&mut self) -> Hub {
        let empty = Hub::new(self.history.identity.key);
        std::mem::replace(&mut self.history.hub, empty)
    }

    /// The last record of the snapshot that it begins with.
    pub fn snapshot_seq(&self) -> Option<u64> {
        self.history.snapshot_seq
    }

    /// The journal's last record.
    pub fn last_seq(&self) -> u64 {
        self.history.last_seq
    }

    /// Whether a hub runs on the folder and may add to it.
    pub fn is_in_use(&self) -> bool {
        self.history.is_in_use
    }

    /// The hub's id, in hex.
    pub fn hub_id(&self) -> String {
        self.history.identity.hub_id.to_string()
    }

    /// Which part of the commands that changed nothing is in the trace.
    pub fn coverage(&self) -> &Coverage {
        self.trace.coverage()
    }

    /// The next input; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "an iterator gives no errors of its own")]
    pub fn next(&mut self) -> Result<Option<Input>, ReplayError> {
        if let Some((after_seq, ..)) = &self.traced
            && *after_seq <= self.seq
        {
            let (seq, now, command) = self.traced.take().expect("it was just matched");
            self.read_ahead()?;
            return Ok(Some(Input::Command(RecordedCommand { seq, now, command, is_traced: true })));
        }
        Ok(match self.history.next().map_err(ReplayError::Read)? {
            None => None,
            Some(Item::Mark(mark)) => Some(Input::Mark(mark)),
            Some(Item::Record(record)) => {
                self.seq = record.seq;
                let envelope = Envelope::decode(record.payload);
                let envelope = envelope.map_err(|source| ReplayError::Undecodable { seq: record.seq, source })?;
                let (seq, now, command) = (record.seq, record.now, envelope.command);
                Some(Input::Command(RecordedCommand { seq, now, command, is_traced: false }))
            }
        })
    }

    fn read_ahead(&mut self) -> Result<(), ReplayError> {
        self.traced = match self.trace.next().map_err(ReplayError::Trace)? {
            None => None,
            Some(entry) => {
                let seq = entry.after_seq;
                let envelope = Envelope::decode(entry.command);
                let envelope = envelope.map_err(|source| ReplayError::Undecodable { seq, source })?;
                Some((seq, entry.now, envelope.command))
            }
        };
        Ok(())
    }
}
