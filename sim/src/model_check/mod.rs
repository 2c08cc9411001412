//! Model check: the core alone, under virtual time, beside a hub made of `Vec`s and `for` loops. Any answer, row or
//! rebuilt hub that differs is a [`violation`].
//!
//! A run is a list of steps, drawn from a seed by the [`traffic`] of a [`profile`] or read from a history as text
//! (`sheratan_history`). The [`world`] takes them one after the other.

pub mod check;
pub mod cool_down;
pub mod copy;
pub mod explain;
pub mod fairness;
pub mod invariants;
pub mod ledger;
pub mod letters;
pub mod log;
pub mod model;
pub mod orphans;
pub mod profile;
pub mod retries;
pub mod run;
pub mod shrink;
pub mod sightings;
pub mod traffic;
pub mod violation;
pub mod world;
