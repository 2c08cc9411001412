//! Integrity through its public interface: JSON texts, their canonical forms, checksums and signatures.

mod canonical;
mod checksum;
mod json;
mod spelling;
