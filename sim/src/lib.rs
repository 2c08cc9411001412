//! The simulator of Sheratan Hub: the core under virtual time, from a seed.
//!
//! A run is a list of [`step::Step`]s, drawn from a seed by the [`traffic`] of a [`profile`] or read from a
//! [`scenario`].

pub mod check;
pub mod draw;
pub mod invariants;
pub mod ledger;
pub mod log;
pub mod model;
pub mod production;
pub mod profile;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod sightings;
pub mod step;
pub mod traffic;
pub mod violation;
pub mod world;
