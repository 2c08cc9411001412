//! Clients: the nodes that submits name as their senders (`client.node_id`), a row for each that a job names, with the
//! results that are theirs.
//!
//! A client is only a name that the submitter chose: it says whom a result is for, and protects nothing. Jobs hold the
//! number of their client's row, so that a million jobs of one client hold its name once. Each of them is charged for a
//! row of its own all the same: a job is admitted, or not, whatever others named before.
//!
//! A client reads its results in the order in which its jobs ended, from a position on: the final number of the first
//! that it has not read. What it has read, and what was dropped before it could, is not durable: a hub that starts
//! believes that it has read nothing and that every final number that is gone may have been one of its results.

use crate::ids::JobSeq;
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
    /// The results of each, by final number.
    results: BTreeMap<(ClientIndex, u64), JobSeq>,
    /// Results of all clients that they have not read.
    unread: u64,
    /// Results below this final number may have been dropped, of any client.
    dropped_before: u64,
}

#[derive(Debug)]
struct Client {
    name: Name,
    /// Jobs, final ones included.
    jobs: u64,
    /// The position up to which it has read.
    read_before: u64,
    /// Results from there on.
    unread: u64,
    /// Results below this final number may have been dropped.
    dropped_before: u64,
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
                let dropped_before = self.dropped_before;
                let row = Client { name: name.clone(), jobs: 0, read_before: 0, unread: 0, dropped_before };
                let index = ClientIndex::of_row(self.rows.insert(row));
                self.by_name.insert(name.clone(), index);
                index
            }
        };
        self.rows.get_mut(index.row()).jobs += 1;
        ClientRef { index, name_bytes: u16::try_from(name.len()).expect("a name is shorter") }
    }

    /// A job of the client ended.
    pub fn add_result(&mut self, client: ClientRef, number: u64, job: JobSeq) {
        let row = self.rows.get_mut(client.index.row());
        if number >= row.read_before {
            row.unread += 1;
            self.unread += 1;
        }
        let before = self.results.insert((client.index, number), job);
        assert!(before.is_none(), "no two jobs have one final number");
    }

    /// A job of the client that ended was dropped.
    pub fn drop_result(&mut self, client: ClientRef, number: u64) {
        let removed = self.results.remove(&(client.index, number));
        assert!(removed.is_some(), "each final job of a client is among its results");
        let row = self.rows.get_mut(client.index.row());
        row.dropped_before = row.dropped_before.max(number + 1);
        self.dropped_before = self.dropped_before.max(number + 1);
        if number >= row.read_before {
            row.unread -= 1;
            self.unread -= 1;
        }
    }

    /// A job of the client that ended got another number, or has not ended any more.
    pub fn renumber_result(&mut self, client: ClientRef, before: u64, after: Option<u64>) {
        let job =
            self.results.remove(&(client.index, before)).expect("each final job of a client is among its results");
        let row = self.rows.get_mut(client.index.row());
        if before >= row.read_before {
            row.unread -= 1;
            self.unread -= 1;
        }
        if let Some(number) = after {
            self.add_result(client, number, job);
        }
    }

    /// The results of a client from a position on, in the order of ending.
    pub fn results_from(&self, name: &str, position: u64) -> impl Iterator<Item = JobSeq> {
        let client = self.by_name.get(name).copied();
        let range = client.map(|client| self.results.range((client, position)..=(client, u64::MAX)));
        range.into_iter().flatten().map(|(_, job)| *job)
    }

    /// The client has read all results before a position: O(log n) for each of them, once.
    pub fn note_read(&mut self, name: &str, position: u64) {
        let Some(client) = self.by_name.get(name).copied() else { return };
        let row = self.rows.get_mut(client.row());
        if position > row.read_before {
            let read = self.results.range((client, row.read_before)..(client, position)).count() as u64;
            row.read_before = position;
            row.unread -= read;
            self.unread -= read;
        }
    }

    /// How many results of a client it has not read.
    pub fn unread_by(&self, name: &str) -> u64 {
        self.by_name.get(name).map_or(0, |client| self.rows.get(client.row()).unread)
    }

    /// How many results their clients have not read.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// The position before which results of a client may have been dropped.
    pub fn dropped_before(&self, name: &str) -> u64 {
        self.by_name.get(name).map_or(self.dropped_before, |client| self.rows.get(client.row()).dropped_before)
    }

    /// All jobs of a snapshot are restored, and final numbers below this one may be missing among them.
    pub fn restored(&mut self, dropped_before: u64) {
        self.dropped_before = dropped_before;
        let (rows, by_name) = (&mut self.rows, &self.by_name);
        by_name.values().for_each(|client| rows.get_mut(client.row()).dropped_before = dropped_before);
    }

    /// The job with that final number, if it is among the results of the client.
    pub fn result(&self, client: ClientRef, number: u64) -> Option<JobSeq> {
        self.results.get(&(client.index, number)).copied()
    }

    pub fn result_count(&self) -> usize {
        self.results.len()
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

    #[test]
    fn what_a_client_has_not_read_is_counted_through_reads_and_drops() {
        let mut clients = Clients::default();
        let [a, b] = ["a", "b"].map(|text| Name::new(text).unwrap());
        let of_a: Vec<_> = (0..4).map(|_| clients.add_job(&a)).collect();
        let of_b = clients.add_job(&b);
        for (client, number) in [(of_a[0], 0), (of_a[1], 2), (of_a[2], 3), (of_a[3], 5), (of_b, 4)] {
            clients.add_result(client, number, JobSeq::new(number + 1));
        }
        let numbers = |clients: &Clients, from| clients.results_from("a", from).map(JobSeq::get).collect::<Vec<_>>();
        assert_eq!(numbers(&clients, 1), [3, 4, 6]);
        assert_eq!((clients.unread_by("a"), clients.unread_by("b"), clients.unread()), (4, 1, 5));
        clients.note_read("a", 3);
        clients.note_read("a", 1);
        assert_eq!((clients.unread_by("a"), clients.unread()), (2, 3));
        clients.drop_result(of_a[0], 0);
        clients.drop_result(of_a[1], 2);
        assert_eq!((clients.unread_by("a"), clients.dropped_before("a"), clients.dropped_before("b")), (2, 3, 0));
        clients.drop_result(of_a[2], 3);
        assert_eq!((clients.unread_by("a"), clients.unread(), clients.dropped_before("a")), (1, 2, 4));
        assert_eq!((clients.unread_by("nobody"), clients.dropped_before("nobody")), (0, 4));
        assert_eq!(numbers(&clients, 0), [6]);
    }
}
