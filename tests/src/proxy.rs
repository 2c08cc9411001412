//! A proxy between a client and a plane of a hub, as gateways and networks are on a bad day.
//!
//! It passes requests on, each over a connection of its own, unless a fault is set for their path.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to a request instead of its being passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is answered with this status and body, and does not arrive.
    Answer(u16, &'static str),
    /// The connection is reset, and it does not arrive.
    Reset,
    /// It arrives, and is answered with this status and body instead of the hub's.
    Replace(u16, &'static str),
    /// It arrives, and the first half of the hub's answer comes back.
    Half,
    /// It arrives, and the connection is reset.
    Swallow,
    /// It arrives, and in the hub's answer this text is replaced by another one of its length.
    Alter(&'static str, &'static str),
    /// It does not arrive, and nothing comes back until the proxy is dropped.
    Hang,
}

/// What a gateway, a network or a server that is no hub may do to a request or its answer.
pub const FAULTS: [Fault; 12] = [
    Fault::Answer(502, BAD_GATEWAY),
    Fault::Answer(503, r#"{"message":"no healthy upstream"}"#),
    Fault::Answer(504, r#"{"ok":false,"error":"bad_request"}"#),
    Fault::Answer(504, r#"{"ok":false,"error":"lease_lost"}"#),
    Fault::Answer(404, r#"{"error":"not_found"}"#),
    Fault::Answer(200, "<html>captive portal</html>"),
    Fault::Answer(200, r#"{"ok":true}"#),
    Fault::Answer(200, r#"{"ok":true,"status":"ok"}"#),
    Fault::Replace(502, BAD_GATEWAY),
    Fault::Reset,
    Fault::Half,
    Fault::Swallow,
];

/// What nginx answers while the server behind it restarts.
pub const BAD_GATEWAY: &str =
    "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>";

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default, Debug)]
struct Plan {
    /// A part of a path, how many more requests fail, and how.
    faults: Vec<(String, u64, Fault)>,
    asked: HashMap<String, u64>,
    is_over: bool,
}

impl Proxy {
    /// A proxy of the plane at that address.
    pub fn to(plane: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it listens");
        let state = Arc::new(State { to: plane, plan: Mutex::default(), changed: Condvar::new() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { return };
                // A connection that breaks is a client that went away.
                thread::spawn(move || _ = serve(&stream, &state));
            }
        });
        Proxy { addr, state }
    }

    /// Lets the next requests fail whose path has this part.
    pub fn fail(&self, path: &str, times: u64, fault: Fault) {
        self.state.plan.lock().expect("no thread panics").faults.push((path.to_owned(), times, fault));
    }

    /// Lets all requests pass from now on.
    pub fn heal(&self) {
        self.state.plan.lock().expect("no thread panics").faults.clear();
    }

    /// How many requests came whose path has this part.
    pub fn asked(&self, path: &str) -> u64 {
        let plan = self.state.plan.lock().expect("no thread panics");
        plan.asked.iter().filter(|(asked, _)| asked.contains(path)).map(|(_, count)| count).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.plan.lock().expect("no thread panics").is_over = true;
        self.state.changed.notify_all();
    }
}

impl State {
    fn fault_of(&self, path: &str) -> Option<Fault> {
        let mut plan = self.plan.lock().expect("no thread panics");
        *plan.asked.entry(path.to_owned()).or_default() += 1;
        let (_, left, fault) = plan.faults.iter_mut().find(|(part, left, _)| path.contains(part) && *left > 0)?;
        *left -= 1;
        Some(*fault)
    }
}

fn serve(client: &TcpStream, state: &State) -> io::Result<()> {
    while let Some((head, body)) = read_message(client)? {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = |status: u16, body: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        match state.fault_of(&path) {
            None => {
                let reply = pass_on(state, &head, &body)?;
                let mut out = client;
                out.write_all(&reply)?;
            }
            Some(Fault::Answer(status, body)) => (&*client).write_all(answer(status, body).as_bytes())?,
            Some(Fault::Replace(status, text)) => {
                pass_on(state, &head, &body)?;
                (&*client).write_all(answer(status, text).as_bytes())?;
            }
            Some(Fault::Half) => {
                let reply = pass_on(state, &head, &body)?;
                (&*client).write_all(&reply[..reply.len() - reply.len() / 4])?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Fault::Alter(from, to)) => {
                assert_eq!(from.len(), to.len(), "the answer keeps its length");
                let reply = String::from_utf8_lossy(&pass_on(state, &head, &body)?).replace(from, to);
                (&*client).write_all(reply.as_bytes())?;
            }
            Some(Fault::Swallow) => {
                pass_on(state, &head, &body)?;
                return reset(client);
            }
            Some(Fault::Reset) => return reset(client),
            Some(Fault::Hang) => {
                let plan = state.plan.lock().expect("no thread panics");
                drop(state.changed.wait_while(plan, |plan| !plan.is_over).expect("no thread panics"));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Closes a connection so that the other side reads an error.
fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn pass_on(state: &State, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut hub = TcpStream::connect(state.to)?;
    hub.write_all(head.as_bytes())?;
    hub.write_all(body)?;
    let (head, body) = read_message(&hub)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok([head.as_bytes(), &body].concat())
}

/// A request or a reply: its head, and its body by `Content-Length`. `None` at the end of the connection.
fn read_message(mut stream: &TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
