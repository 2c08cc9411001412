//! Integrity: what bytes a hash is taken over, and which hashes and signatures are right.
