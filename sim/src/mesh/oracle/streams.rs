//! Streams: a listener receives the lines of the audit log as they were written, in order, each line once.

use super::{Oracle, Violation, holds};
use crate::mesh::listener::Received;
use sheratan_io::audit::seq_of;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::hash::Hasher;

/// Lines that are remembered: more than can be in flight to a listener.
const LINES_MAX: usize = 4_096;

/// What was written to the audit log, and the last line that each listener received.
#[derive(Debug, Default)]
pub struct Streams {
    /// A hash of each line, by its number.
    written: BTreeMap<u64, u64>,
    /// By listener: its latest stream, the hub process that sent it, and the number of the last line.
    received: BTreeMap<u64, (u64, u64, u64)>,
}

impl Oracle {
    /// Records lines that were written to the audit log. After a power cut a line may reuse the number of a lost one.
    pub fn written(&mut self, lines: &[u8]) {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (number, line) in lines.filter_map(|line| Some((seq_of(line)?, line))) {
            self.streams.written.insert(number, hash(line));
            if self.streams.written.len() > LINES_MAX {
                self.streams.written.pop_first();
            }
        }
    }

    pub(super) fn check_received(&mut self, received: &Received) -> Result<(), Violation> {
        let Received { listener, stream, process_id, event, id, data } = received;
        let Some(id) = id else {
            return holds(event != "audit", "a line of the audit log is sent with its number", || data.clone());
        };
        let written = self.streams.written.get(id).copied();
        let oldest = self.streams.written.first_key_value().map_or(0, |(oldest, _)| *oldest);
        let is_written = written.map_or(*id < oldest, |written| written == hash(data.as_bytes()));
        holds(is_written, "a line that is read from the audit log was written to it", || format!("line {id}: {data}"))?;
        let before = self.streams.received.insert(*listener, (*stream, *process_id, *id));
        let is_next = before.is_none_or(|(before_stream, before_process, before)| {
            if before_stream == *stream { *id == before + 1 } else { before_process != *process_id || *id > before }
        });
        holds(is_next, "a stream sends each line once, in order", || {
            format!("listener {listener} received line {id} on its stream {stream}, before: {before:?}")
        })
    }
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(line);
    hasher.finish()
}
