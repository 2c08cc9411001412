//! The link: what ties a line of the audit log to the one before.

/// The end of the chain: what the next line needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The next line's number, from 1.
    pub seq: u64,
    /// The hash of the last line; zeros before the first.
    pub prev: [u8; 32],
}

impl Default for Link {
    fn default() -> Self {
        Link { seq: 1, prev: [0; 32] }
    }
}
