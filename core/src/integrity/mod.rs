//! Integrity: what a payload is, whatever way it is written, and whether it came as it was sent.

pub mod canonical;
mod check;
pub mod checksum;
mod cursor;
pub mod json;
mod text;
