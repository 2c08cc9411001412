//! Sizes: what the ledger charges is never less than what is held, and not much more.

mod bound;
mod driver;
mod things;

/// The counter that the benchmarks have: one file with `unsafe`, and the proof in it.
#[path = "../../../bench/src/requested.rs"]
mod requested;

#[global_allocator]
static ALLOCATOR: requested::Counting = requested::Counting;
