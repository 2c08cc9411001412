//! Unsent leases: those that replies grant of which no byte was sent. No client can have seen them.

use sheratan_core::LeaseRef;

/// The unsent leases of one connection. It takes no heap while there are none.
#[derive(Default, Debug)]
pub struct UnsentLeases {
    #[expect(clippy::box_collection, reason = "8 bytes in each connection, not 24")]
    replies: Option<Box<Vec<Unsent>>>,
}

#[derive(Debug)]
struct Unsent {
    /// Bytes of output to be sent before the reply's first one.
    bytes_ahead: usize,
    leases: Box<[LeaseRef]>,
}

/// The distance of a reply that will not be sent.
pub const NEVER: usize = usize::MAX;

impl UnsentLeases {
    /// Adds the leases of a reply that is sent after so many bytes.
    pub fn add(&mut self, bytes_ahead: usize, leases: Box<[LeaseRef]>) {
        if !leases.is_empty() {
            self.replies.get_or_insert_default().push(Unsent { bytes_ahead, leases });
        }
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, count: usize) {
        let Some(replies) = &mut self.replies else { return };
        replies.retain_mut(|reply| match reply.bytes_ahead {
            NEVER => true,
            ahead if ahead < count => false,
            ahead => {
                reply.bytes_ahead = ahead - count;
                true
            }
        });
        if replies.is_empty() {
            self.replies = None;
        }
    }

    /// Removes them all.
    pub fn take(&mut self) -> Vec<LeaseRef> {
        self.replies.take().into_iter().flat_map(|replies| *replies).flat_map(|reply| reply.leases).collect()
    }
}
