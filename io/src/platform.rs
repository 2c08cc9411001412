//! (see the module)
