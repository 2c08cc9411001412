//! Any bytes in any order of calls: no panic, bounded memory, and nothing after a refusal.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Fragments of requests, so that random input reaches deep states.
const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /a?b HTTP/1.1\r\nHost: h\r\n",
    "HEAD / HTTP/1.0\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 99\r\n",
    "Expect: 100-continue\r\n",
    "\r\n",
    "\r",
    "\n",
    "0\r\n\r\n",
    "5\r\nabcde\r\n",
    "5;x=y\r\n",
    "ffff\r\n",
    "abcde",
    ": ",
    "\0",
];

#[derive(Clone, Debug)]
enum Step {
    Receive(Vec<u8>),
    Reply { from_the_end: bool, body_bytes: usize },
    Write(usize),
    Pass(u64),
    End,
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(select(WORDS), 1..6).prop_map(|words| Step::Receive(words.concat().into_bytes())),
        2 => vec(any::<u8>(), 0..40).prop_map(Step::Receive),
        5 => (any::<bool>(), 0..400_usize).prop_map(|(from_the_end, body_bytes)| Step::Reply { from_the_end, body_bytes }),
        4 => (1..2_000_usize).prop_map(Step::Write),
        1 => (0..40_000_u64).prop_map(Step::Pass),
        1 => Just(Step::End),
        1 => Just(Step::Drain),
    ]
}

const LIMITS: Limits = Limits {
    head_bytes_max: 300,
    target_bytes_max: 100,
    headers_max: 6,
    body_bytes_max: 64,
    pipeline_max: 4,
    output_bytes_max: 1_000,
    linger_bytes_max: 200,
    ..Limits::DEFAULT
};

/// A head and a body, one read of the loop, and what growing by doubling leaves unused.
const INPUT_BYTES_MAX: usize = 2 * (LIMITS.head_bytes_max + LIMITS.body_bytes_max + 400);

/// Up to the limit, then a reply for each request of the pipeline and one refusal, each with its head.
const OUTPUT_BYTES_MAX: usize = 2 * (LIMITS.output_bytes_max + (LIMITS.pipeline_max as usize + 1) * (400 + 700));

fn check(connection: &Connection, pending: usize) {
    let heap = connection.heap();
    assert!(heap.input_bytes <= INPUT_BYTES_MAX && heap.output_bytes <= OUTPUT_BYTES_MAX, "{heap:?}");
    assert!(connection.pending() <= LIMITS.pipeline_max as usize);
    if connection.is_done() {
        assert!(connection.output().is_empty() && !connection.wants_read() && !connection.has_request());
    } else {
        assert_eq!(connection.pending(), pending, "each is answered once");
        let waits_for_the_hub = connection.pending() > 0 || connection.has_request();
        assert!(waits_for_the_hub || connection.next_timeout().is_some(), "nobody would end this: {connection:?}");
    }
}

fn drive(steps: Vec<Step>) {
    let mut connection = Connection::new(START, &LIMITS);
    let mut now = START;
    let mut open = Vec::new();
    for step in steps {
        let was_refused = connection.refusal().is_some();
        match step {
            // The socket keeps unread bytes.
            Step::Receive(bytes) if connection.wants_read() => connection.received(now, &bytes),
            Step::Receive(_) => {}
            Step::Reply { from_the_end, body_bytes } if !open.is_empty() => {
                let id: RequestId = if from_the_end { open.pop().expect("not empty") } else { open.remove(0) };
                connection.reply(now, id, Reply::json(200, vec![b'r'; body_bytes]));
            }
            Step::Reply { .. } => {}
            Step::Write(count) => connection.wrote(now, count.min(connection.output().len())),
            Step::Pass(ms) => {
                now = now + Millis::new(ms);
                if connection.next_timeout().is_some_and(|at| at <= now) {
                    connection.handle_timeout(now);
                }
            }
            Step::End => connection.received_end(now),
            Step::Drain => connection.begin_drain(now),
        }
        let seen = take(&mut connection, now);
        assert!(!was_refused || seen.is_empty(), "a request after a refusal");
        open.extend(seen.into_iter().map(|seen| seen.id));
        check(&connection, open.len());
        if connection.is_done() {
            return;
        }
    }
    // Left alone, every connection ends.
    for id in open {
        connection.reply(now, id, Reply::json(200, Vec::new()));
    }
    for _ in 0..20 {
        for seen in take(&mut connection, now) {
            reply_ok(&mut connection, now, seen.id, "");
        }
        let Some(at) = connection.next_timeout() else { break };
        now = now.max(at);
        connection.handle_timeout(now);
    }
    assert!(connection.is_done(), "{connection:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_order_of_calls_keeps_the_bounds_and_ends(steps in vec(step(), 1..60)) {
        drive(steps);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2_000), step in 1..50_usize) {
        let mut connection = connection();
        for part in bytes.chunks(step) {
            receive(&mut connection, START, part);
        }
        prop_assert!(connection.output().len() < 1_000);
    }
}
