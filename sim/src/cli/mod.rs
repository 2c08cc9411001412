//! The command line's commands, a file each.

pub mod replay;
