//! The journal: what the hub has promised, in order, on disk.
