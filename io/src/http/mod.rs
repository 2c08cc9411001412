//! HTTP/1.1 as a state machine without sockets: bytes in, requests out; replies in, bytes out.
