//! Integrity through its public interface: JSON texts, their canonical forms, checksums and signatures.

mod batch;
mod canonical;
mod checksum;
mod json;
mod spelling;
mod stored;
