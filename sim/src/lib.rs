//! The simulator of Sheratan Hub: virtual time, from a seed.

pub mod draw;
pub mod model_check;
#[cfg(feature = "sim-mutants")]
pub mod mutation;
