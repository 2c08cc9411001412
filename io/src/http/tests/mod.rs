//! Tests of the connection, by what they are about.
