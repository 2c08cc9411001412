//! The simulator: the hub's core under virtual time, driven from a seed.
//!
//! A [`world::World`] draws a profile and then commands from its seed, applies them, keeps a journal of those that changed
//! something, crashes, recovers, and compares. The same seed does the same on every machine, so a seed is a bug report.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod check;
pub mod dice;
pub mod draw;
pub mod invariant;
pub mod tape;
pub mod world;
