//! Integrity: whether a text is JSON, which texts mean the same, and whether a result arrived as it was sent.

pub mod batch;
pub mod canonical;
mod check;
pub mod checksum;
mod cursor;
pub mod json;
mod scanner;
pub mod stored;
mod text;
