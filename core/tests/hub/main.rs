//! The hub through its public interface: what it promises to clients and nodes, sentence by sentence. Here are grids of
//! values, properties and large numbers; what reads as a history is one of `tests/histories`.

mod bounds;
mod capacity;
mod damaged_snapshots;
mod ends;
mod idempotency;
mod leases;
mod order;
mod replay;
mod scene;
mod telemetry;
mod waiters;
