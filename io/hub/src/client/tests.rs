//! How each kind of reply is handled, against a stub that sends given replies.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

/// Answers one request with `answer`, where `LENGTH` stands for the body's; gives the request's head.
fn stub(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        let length = answer.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
        (&stream).write_all(answer.replace("LENGTH", &length.to_string()).as_bytes()).unwrap();
        head
    });
    (url, served)
}

fn client(url: &str, token: Result<Credential, NoToken>) -> Client {
    let endpoint = Endpoint { url: url.to_owned(), origin: "the test".to_owned(), access: Access::Open };
    Client::new(endpoint.clone(), endpoint, token)
}

fn token() -> Result<Credential, NoToken> {
    Ok(Credential::new(Token::new(Secret::new("s3cret")).unwrap(), "the token file"))
}

fn get(client: &Client) -> Result<serde_json::Value, CallError> {
    client.get(Plane::Data, "/x", Duration::ZERO)
}

#[test]
fn a_closed_port_says_that_no_hub_answers_and_how_to_start_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = get(&client(&url, token())).unwrap_err();
    assert!(matches!(error, CallError::Unreachable { may_have_arrived: false, .. }));
    assert!(error.is_transient());
    let text = error.to_string();
    let start = format!("no hub answers at {url} (connection refused): start one with `sheratan-hub serve`");
    assert!(text.starts_with(&start), "{text}");
    assert!(text.ends_with("(this address is from the test)"), "{text}");
}

#[test]
fn a_connection_that_ends_without_an_answer_may_have_carried_the_request() {
    let (url, served) = stub("");
    let error = get(&client(&url, token())).unwrap_err();
    assert!(matches!(error, CallError::Unreachable { may_have_arrived: true, .. }), "{error:?}");
    served.join().unwrap();
}

#[test]
fn a_refusal_keeps_its_code_its_words_and_when_to_come_back() {
    let (url, served) = stub(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: LENGTH\r\n\r\n\
         {\"status\":429,\"ok\":false,\"error\":\"backpressure\",\"detail\":\"the queue is full\",\"queue_depth\":5}",
    );
    let error = get(&client(&url, token())).unwrap_err();
    served.join().unwrap();
    assert_eq!(error.code(), Some("backpressure"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "the hub refused with 429 backpressure: the queue is full");
}

#[test]
fn a_refused_token_says_where_it_came_from_and_never_what_it_is() {
    const ANSWER: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: LENGTH\r\n\r\n\
         {\"status\":403,\"ok\":false,\"error\":\"auth_failure\",\"detail\":\"not ours\"}";
    let (url, served) = stub(ANSWER);
    let known = client(&url, token());
    let text = get(&known).unwrap_err().to_string();
    assert!(text.ends_with("not ours (it was read from the token file)"), "{text}");
    assert!(served.join().unwrap().contains("s3cret"), "the token is sent");
    assert!(!text.contains("s3cret"));

    let (url, served) = stub(ANSWER);
    let unknown = client(&url, Err(NoToken { searched: "no file a".to_owned() }));
    let error = get(&unknown).unwrap_err();
    assert!(error.to_string().ends_with("not ours (no token was found: no file a)"), "{error}");
    assert!(!error.is_transient());
    assert!(!served.join().unwrap().to_lowercase().contains("sheratan-token"));
}

#[test]
fn a_result_without_the_signature_that_the_hub_wants_says_which_key_is_missing() {
    let (url, served) = stub(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: LENGTH\r\n\r\n\
         {\"status\":403,\"ok\":false,\"error\":\"result_integrity_fail\",\"reason\":\"missing_integrity\",\"detail\":\"no\"}",
    );
    let error = get(&client(&url, token())).unwrap_err();
    served.join().unwrap();
    assert!(error.to_string().contains("SHERATAN_RESULT_HMAC_KEY"), "{error}");
}

#[test]
fn an_answer_that_is_not_the_hubs_is_told_from_a_refusal() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: LENGTH\r\n\r\nnot found",
        "HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\n<html>",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: LENGTH\r\n\r\n{\"status\":502,\"ok\":false,\"error\":\"lease_lost\"}",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: LENGTH\r\n\r\n{\"ok\":false,\"error\":\"auth_failure\"}",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: LENGTH\r\n\r\n{\"status\":403,\"ok\":true,\"error\":\"x\"}",
        "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: LENGTH\r\n\r\n{\"status\":302,\"ok\":false,\"error\":\"x\"}",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: LENGTH\r\n\r\n{\"error\":\"no healthy upstream\"}",
    ] {
        let (url, served) = stub(answer);
        let error = get(&client(&url, token())).unwrap_err();
        served.join().unwrap();
        assert!(matches!(error, CallError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains("is no hub"), "{error}");
        assert!(error.is_transient() && error.may_have_been_applied(), "{error:?}");
    }
}

#[test]
fn a_hub_whose_journal_failed_says_whether_the_request_may_be_applied() {
    for (member, may_have_been) in [(",\"applied\":\"no\"", false), (",\"applied\":\"unknown\"", true), ("", true)] {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: LENGTH\r\n\r\n\
             {{\"status\":503,\"ok\":false,\"error\":\"journal_unavailable\"{member}}}"
        );
        let (url, served) = stub(answer.leak());
        let error = get(&client(&url, token())).unwrap_err();
        served.join().unwrap();
        assert_eq!((error.is_transient(), error.may_have_been_applied()), (true, may_have_been), "{member}");
    }
}

#[test]
fn the_token_travels_in_the_header_that_is_asked_for() {
    for (auth, header) in [
        (Auth::Own, Some("x-sheratan-token: s3cret")),
        (Auth::OwnAsBearer, Some("authorization: Bearer s3cret")),
        (Auth::Other("other"), Some("x-sheratan-token: other")),
        (Auth::None, None),
    ] {
        let (url, served) = stub("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\n{}");
        let request = Request { plane: Plane::Control, body: Some(b"{}"), path: "/x", auth, wait: Duration::ZERO };
        assert_eq!(client(&url, token()).exchange(&request).unwrap().status, 200);
        let head = served.join().unwrap();
        match header {
            Some(header) => assert!(head.lines().any(|line| line == header), "{head}"),
            None => assert!(!head.contains("s3cret"), "{head}"),
        }
    }
}

#[test]
fn what_comes_in_several_forms_is_asked_for_in_one() {
    let (url, served) = stub("HTTP/1.1 406 Not Acceptable\r\nContent-Length: LENGTH\r\n\r\n");
    let answer = client(&url, token()).fetch(Plane::Data, "/metrics", "text/plain; version=0.0.4").unwrap();
    assert_eq!(answer.status, 406);
    let head = served.join().unwrap();
    let accepts: Vec<_> = head.lines().filter(|line| line.starts_with("accept:")).collect();
    assert_eq!(accepts, ["accept: text/plain; version=0.0.4"], "{head}");
}

#[test]
fn neither_client_nor_token_shows_the_secret_when_debugged() {
    let shown = format!("{:?}", token().unwrap());
    assert_eq!(shown, "Credential(from the token file)");
}
