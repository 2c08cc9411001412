//! Replies of status 200 with a JSON object.

use crate::http::Reply;
use crate::object::{Object, object};

/// A reply with the members that `fill` writes.
pub fn ok(fill: impl FnOnce(&mut Object)) -> Reply {
    let mut body = Vec::with_capacity(256);
    object(&mut body, fill);
    Reply::json(200, body)
}

/// A reply with a bare list of objects, for clients of v1.5.
pub fn list<T>(items: impl Iterator<Item = T>, fill: impl Fn(&mut Object, T)) -> Reply {
    let mut body = Vec::with_capacity(256);
    body.push(b'[');
    for item in items {
        if body.len() > 1 {
            body.push(b',');
        }
        object(&mut body, |out| fill(out, item));
    }
    body.push(b']');
    Reply::json(200, body)
}

/// A reply `{head, rest}`, where `rest` is an object with members and `head` is members without braces.
pub fn joined(head: Vec<u8>, rest: &[u8]) -> Reply {
    let mut body = Vec::with_capacity(head.len() + rest.len() + 2);
    body.push(b'{');
    body.extend_from_slice(&head);
    body.push(b',');
    body.extend_from_slice(&rest[1..]);
    Reply::json(200, body)
}
