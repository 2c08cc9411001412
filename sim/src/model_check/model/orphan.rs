//! Results of unknown jobs in the model: a row each, the oldest first.

use sheratan_core::limits::{HEAP_HEADER_BYTES, INTEGRITY_BYTES, Limits, ORPHAN_BYTES};
use sheratan_core::{Name, ParkResult, Payload, ResultMark};

#[derive(Default, Debug)]
pub(super) struct ModelOrphans {
    rows: Vec<(u64, ParkResult)>,
    next_id: u64,
}

impl ModelOrphans {
    pub fn rows(&self) -> &[(u64, ParkResult)] {
        &self.rows
    }

    pub fn get(&self, id: u64) -> Option<&ParkResult> {
        self.rows.iter().find(|(one, _)| *one == id).map(|(_, parked)| parked)
    }

    /// Keeps a result; returns its id, and whether it was kept before.
    pub fn park(&mut self, limits: &Limits, parked: &ParkResult) -> (u64, bool) {
        if let Some((id, _)) = self.rows.iter().find(|(_, kept)| is_repeat(kept, parked)) {
            return (*id, true);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.rows.push((id, parked.clone()));
        self.enforce(limits);
        (id, false)
    }

    /// The oldest go beyond the limits.
    pub fn enforce(&mut self, limits: &Limits) {
        while self.rows.len() as u64 > limits.orphans_max || self.bytes() > limits.orphans_bytes_max {
            self.rows.remove(0);
        }
    }

    pub fn remove(&mut self, id: u64) {
        self.rows.retain(|(one, _)| *one != id);
    }

    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|(_, parked)| bytes_of(parked)).sum()
    }
}

/// With an id of its node a result repeats one with that id, else one with the same content.
fn is_repeat(kept: &ParkResult, parked: &ParkResult) -> bool {
    let same = match (kept.mark, parked.mark) {
        (ResultMark::Content(kept), ResultMark::Content(new)) => kept == new,
        (ResultMark::Content(_), _) | (_, ResultMark::Content(_)) => false,
        (kept, new) => id_of(kept) == id_of(new),
    };
    same && kept.job_id == parked.job_id
}

fn id_of(mark: ResultMark) -> Option<u64> {
    match mark {
        ResultMark::Content(_) => None,
        ResultMark::Id(id) => Some(id),
        ResultMark::IdAndContent { id, .. } => Some(id.into()),
    }
}

fn bytes_of(parked: &ParkResult) -> u64 {
    let name = |name: &Name| HEAP_HEADER_BYTES + name.len() as u64;
    let payload = |payload: &Option<Payload>| payload.as_ref().map_or(0, |text| HEAP_HEADER_BYTES + text.len() as u64);
    let integrity = if parked.integrity.is_some() { INTEGRITY_BYTES } else { 0 };
    let texts = 2 * name(&parked.job_id) + parked.node.as_ref().map_or(0, name);
    ORPHAN_BYTES + texts + payload(&parked.result) + payload(&parked.error) + integrity
}
