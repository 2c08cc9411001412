//! The client: many connections in one thread, cheap enough to share two cores with the hub that it measures.

pub mod answer;
pub mod connection;
pub mod fleet;
pub mod latency;
pub mod request;
pub mod worker;
