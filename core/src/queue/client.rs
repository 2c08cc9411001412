//! Clients: the nodes that submits name as their senders (`client.node_id`), a row for each that a job names.
//!
//! A client is only a name that the submitter chose: it says whom a result is for, and protects nothing. Jobs hold the
//! number of their client's row, so that a million jobs of one client hold its name once. Each of them is charged for a
//! row of its own all the same: a job is admitted, or not, whatever others named before.

use crate::limits::{CLIENT_BYTES, HEAP_HEADER_BYTES};
use crate::name::Name;
use crate::queue::rows::Rows;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// A client's row. Derived, as that of a kind: a restored hub may give other numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClientIndex(NonZeroU32);

/// The client of a job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ClientRef {
    pub index: ClientIndex,
    /// The length of its name.
    name_bytes: u16,
}

/// All clients that a job names.
#[derive(Default, Debug)]
pub(crate) struct Clients {
    by_name: BTreeMap<Name, ClientIndex>,
    rows: Rows<Client>,
}

#[derive(Debug)]
struct Client {
    name: Name,
    /// Jobs, final ones included.
    jobs: u64,
}

impl ClientIndex {
    fn of_row(row: u32) -> ClientIndex {
        ClientIndex(NonZeroU32::MIN.saturating_add(row))
    }

    fn row(self) -> u32 {
        self.0.get() - 1
    }
}

impl ClientRef {
    /// What a job is charged for its client.
    pub fn bytes(self) -> u64 {
        CLIENT_BYTES + HEAP_HEADER_BYTES + u64::from(self.name_bytes)
    }
}

impl Clients {
    pub fn name(&self, client: ClientIndex) -> &Name {
        &self.rows.get(client.row()).name
    }

    /// Counts a new job that names this client.
    pub fn add_job(&mut self, name: &Name) -> ClientRef {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                let index = ClientIndex::of_row(self.rows.insert(Client { name: name.clone(), jobs: 0 }));
                self.by_name.insert(name.clone(), index);
                index
            }
        };
        self.rows.get_mut(index.row()).jobs += 1;
        ClientRef { index, name_bytes: u16::try_from(name.len()).expect("a name is shorter") }
    }

    /// Uncounts a job that was dropped.
    pub fn remove_job(&mut self, client: ClientRef) {
        let row = self.rows.get_mut(client.index.row());
        row.jobs -= 1;
        if row.jobs == 0 {
            let row = self.rows.remove(client.index.row());
            self.by_name.remove(&row.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_one_client_share_a_row_until_the_last_is_dropped() {
        let mut clients = Clients::default();
        let [a, b] = ["a", "b"].map(|text| Name::new(text).unwrap());
        let [first, second, other] = [&a, &a, &b].map(|name| clients.add_job(name));
        assert!(first == second && first.index != other.index);
        assert_eq!((clients.name(first.index), clients.name(other.index)), (&a, &b));
        clients.remove_job(first);
        assert_eq!(clients.name(second.index), &a);
        clients.remove_job(second);
        clients.remove_job(other);
        assert!(clients.by_name.is_empty() && clients.rows.iter().next().is_none());
    }
}
