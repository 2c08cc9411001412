//! Access: who may ask, and who has asked wrongly too often.

pub mod guard;
