//! Lifeline: a process that ends with its parent, on every system and without polling.
//!
//! The parent holds the other end of the child's standard input and never writes to it. When the parent dies, for any
//! reason, the system closes that end, the child reads the end of its input, and exits. A hub may be ended like this at
//! any moment: it loses nothing that it acknowledged.

use std::io::{self, Read};

/// Ends this process when its standard input ends.
pub fn hold() {
    std::thread::spawn(|| {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 64];
        while !matches!(stdin.read(&mut buffer), Ok(0) | Err(_)) {}
        std::process::exit(1);
    });
}
