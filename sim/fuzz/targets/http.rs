//! A connection: however a client's bytes are split, the requests and the refusal are the same; no bytes make it panic,
//! and whatever it writes is HTTP.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_core::Timestamp;
use sheratan_fuzz::{Input, planted};
use sheratan_io::http::{Connection, Limits, Refusal, Reply};

const NOW: Timestamp = Timestamp::from_millis(1_768_510_323_348);

#[derive(PartialEq, Debug)]
struct Seen {
    method: String,
    path: String,
    query: Option<String>,
    host: Option<Vec<u8>>,
    body: Vec<u8>,
}

/// What a client's bytes, in these pieces, are read as.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<Refusal>) {
    let mut connection = Connection::new(NOW, &Limits { body_bytes_max: 4_096, ..Limits::default() });
    let mut seen = Vec::new();
    for mut piece in pieces {
        // A socket is read only when the connection asks for it.
        while connection.wants_read() && !piece.is_empty() {
            connection.received(NOW, piece);
            piece = &[];
            answer(&mut connection, &mut seen);
        }
        if !piece.is_empty() {
            break;
        }
    }
    connection.received_end(NOW);
    answer(&mut connection, &mut seen);
    // A client that sent half a request and nothing more.
    while let Some(at) = connection.next_timeout() {
        connection.handle_timeout(at);
        answer(&mut connection, &mut seen);
    }
    assert!(connection.is_done(), "it never ends");
    (seen, connection.refusal())
}

fn answer(connection: &mut Connection, seen: &mut Vec<Seen>) {
    loop {
        let mut next = None;
        if let Some(request) = connection.next_request(NOW) {
            seen.push(Seen {
                method: request.method().as_str().to_owned(),
                path: request.path().to_owned(),
                query: request.query().map(str::to_owned),
                host: request.header("host").map(<[u8]>::to_vec),
                body: request.body().to_vec(),
            });
            next = Some(request.id());
        }
        if let Some(id) = next {
            connection.reply(NOW, id, Reply::json(200, b"{}".to_vec()));
        }
        let count = connection.output().len();
        assert!(count == 0 || connection.output().starts_with(b"HTTP/1.1 "), "half a reply");
        connection.wrote(NOW, count);
        if next.is_none() && !connection.has_request() {
            return;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let piece_len = usize::from(input.byte()).max(1);
    let bytes = input.rest();
    let whole = run([bytes].into_iter());
    let split = run(bytes.chunks(piece_len));
    assert_eq!(whole, split);
    // A chunked body, which was not the first request.
    planted(whole.0.iter().skip(1).any(|seen| {
        let is_chunked = bytes.windows(7).any(|part| part.eq_ignore_ascii_case(b"chunked"));
        is_chunked && !seen.body.is_empty()
    }));
});
