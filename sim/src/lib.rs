//! The simulator of Sheratan Hub: virtual time, from a seed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod agenda;
pub mod disk;
pub mod draw;
pub mod journal_check;
pub mod load;
pub mod loss_check;
pub mod mesh;
pub mod model_check;
#[cfg(feature = "sim-mutants")]
pub mod mutation;
pub mod production;
pub mod report;
pub mod scenario;
