//! Integrity: what a payload is, whatever way it is written, and whether it came as it was sent.

pub mod canonical;
pub mod checksum;
pub mod json;
