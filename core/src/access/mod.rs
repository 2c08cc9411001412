//! Access: which addresses are blocked for failed authentications.

pub mod guard;
