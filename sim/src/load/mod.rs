//! Load: a scenario's clients and nodes against the production engine, with its connections, routes and core, in
//! virtual time.
//!
//! No sockets, threads or clocks: the [`driver`] handles the events of its agenda, delivers requests to the [`hub`] as
//! bytes, and delivers its replies. A request costs the hub's one thread the time that the scenario says, and what must
//! be durable waits for a group commit, so queues form where they form in production. A run is a function of the
//! scenario and the seed: its [`report::Report`] is the same each time and holds no wall time.

pub mod arrivals;
pub mod clients;
pub mod driver;
pub mod event;
pub mod fleet;
pub mod hub;
pub mod library;
pub mod operator;
pub mod promises;
pub mod report;
pub mod scenario;
pub mod tally;
pub mod wire;
