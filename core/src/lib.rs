//! The deterministic core of Sheratan Hub: one state machine that is given the time.
#![forbid(unsafe_code)]

pub mod integrity;
pub mod time;
