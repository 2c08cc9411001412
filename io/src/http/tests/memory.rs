//! What a connection holds.

use super::*;
use crate::http::connection::Heap;

const NONE: Heap = Heap { input_bytes: 0, output_bytes: 0, slots: 0 };

#[test]
fn an_idle_connection_holds_no_heap_and_half_a_kilobyte_in_all() {
    let mut connection = connection();
    assert!(size_of::<Connection>() <= 544, "{}", size_of::<Connection>());
    assert_eq!(connection.heap(), NONE);
    let body = "b".repeat(100_000);
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let seen = receive(&mut connection, START, format!("{head}{body}"));
    assert_eq!(connection.heap().input_bytes, 0, "a long poll holds nothing of its request");
    reply_ok(&mut connection, START, seen[0].id, &body);
    send(&mut connection, START);
    assert!(connection.is_idle());
    assert_eq!(connection.heap(), NONE);
}

#[test]
fn a_body_s_memory_grows_with_what_arrives_not_with_what_is_claimed() {
    let mut connection = connection();
    receive(&mut connection, START, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n1234");
    assert!(connection.heap().input_bytes < 1_000);
}

#[test]
fn chunks_of_one_byte_leave_only_their_data() {
    let mut connection = connection();
    receive(&mut connection, START, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..10_000 {
        receive(&mut connection, START, "1;extension\r\nb\r\n".get(..1).expect("ASCII"));
        receive(&mut connection, START, "\r\nb\r\n");
    }
    assert!(connection.heap().input_bytes < 3 * 10_000, "{}", connection.heap().input_bytes);
    assert_eq!(receive(&mut connection, START, "0\r\n\r\n")[0].body.len(), 10_000);
}

#[test]
fn a_long_pipeline_in_small_parts_does_not_grow_the_buffer() {
    let mut connection = connection();
    let bytes = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(10_000);
    // Parts that end in the middle of a request, so that the buffer is never empty.
    for part in bytes.as_bytes().chunks(40) {
        for seen in receive(&mut connection, START, part) {
            reply_ok(&mut connection, START, seen.id, "");
        }
        send(&mut connection, START);
        assert!(connection.heap().input_bytes <= 256, "{}", connection.heap().input_bytes);
    }
}
