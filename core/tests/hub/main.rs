//! The hub through its public interface: what it promises to clients and nodes, sentence by sentence.

mod bounds;
mod capacity;
mod idempotency;
mod leases;
mod liveness;
mod order;
mod replay;
mod results;
mod retries;
mod scene;
mod telemetry;
mod waiters;
