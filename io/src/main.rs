//! `sheratan-hub`: the command line.
fn main() {}
