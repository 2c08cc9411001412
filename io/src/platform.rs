//! (see the module)

pub mod process;
