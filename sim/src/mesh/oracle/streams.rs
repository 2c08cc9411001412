//! Streams: what those who listen are told of the audit log is what was written to it, in order, each line once.

use super::{Oracle, Violation, holds};
use crate::mesh::listener::Heard;
use sheratan_io::audit::seq_of;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::hash::Hasher;

/// Lines that are remembered: more than can be on their way to a listener.
const LINES_MAX: usize = 4_096;

/// What was written to the audit log, and what listeners heard of it.
#[derive(Debug, Default)]
pub struct Streams {
    /// A hash of each line, by its number.
    written: BTreeMap<u64, u64>,
    /// The stream and the process that each listener heard last, and the number of the last line.
    heard: BTreeMap<u64, (u64, u64, u64)>,
}

impl Oracle {
    /// These lines were written to the audit log. After a power cut a line may have the number of one that was lost.
    pub fn written(&mut self, lines: &[u8]) {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (no, line) in lines.filter_map(|line| Some((seq_of(line)?, line))) {
            self.streams.written.insert(no, hash(line));
            if self.streams.written.len() > LINES_MAX {
                self.streams.written.pop_first();
            }
        }
    }

    pub(super) fn told_heard(&mut self, heard: &Heard) -> Result<(), Violation> {
        let Heard { listener, stream, life, event, id, data } = heard;
        let Some(id) = id else {
            return holds(event != "audit", "a line of the audit log is told with its number", || data.clone());
        };
        let written = self.streams.written.get(id).copied();
        let oldest = self.streams.written.first_key_value().map_or(0, |(oldest, _)| *oldest);
        let is_written = written.map_or(*id < oldest, |written| written == hash(data.as_bytes()));
        holds(is_written, "what is told of the audit log is written there", || format!("line {id}: {data}"))?;
        let before = self.streams.heard.insert(*listener, (*stream, *life, *id));
        let is_next = before.is_none_or(|(before_stream, before_life, before)| {
            if before_stream == *stream { *id == before + 1 } else { before_life != *life || *id > before }
        });
        holds(is_next, "a stream tells each line once, in order", || {
            format!("listener {listener} heard line {id} on its stream {stream}, before: {before:?}")
        })
    }
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(line);
    hasher.finish()
}
