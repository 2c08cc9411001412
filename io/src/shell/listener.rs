//! The planes' listening sockets.

use crate::service::{Plane, PlaneAddrs};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use sheratan_core::{Millis, Timestamp};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Connections that the kernel completes before the hub accepts them: room for a thousand nodes that reconnect at once.
const BACKLOG: i32 = 4_096;

/// How long accepting pauses when the process has run out of descriptors.
const NO_DESCRIPTOR_PAUSE: Millis = Millis::new(100);

/// Both planes' sockets.
pub struct Listeners {
    listeners: Vec<Listener>,
    paused_until: Timestamp,
}

struct Listener {
    plane: Plane,
    token: Token,
    socket: TcpListener,
    is_ready: bool,
}

/// A plane's address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    plane: Plane,
    addr: SocketAddr,
    source: io::Error,
}

impl Listeners {
    /// Listens on both planes' addresses; returns the addresses, with the ports that were chosen for port 0.
    pub fn bind(asked: &PlaneAddrs, tokens: [(Token, Plane); 2]) -> Result<(Self, PlaneAddrs), BindError> {
        let mut listeners = Vec::new();
        for (token, plane) in tokens {
            let addr = asked.of(plane);
            let socket = listen(addr).map_err(|source| BindError { plane, addr, source })?;
            listeners.push(Listener { plane, token, socket, is_ready: true });
        }
        let addr_of = |plane| {
            let listener = listeners.iter().find(|listener| listener.plane == plane).expect("each plane has one");
            let fail = |source| BindError { plane, addr: asked.of(plane), source };
            listener.socket.local_addr().map_err(fail)
        };
        let addrs = PlaneAddrs { control: addr_of(Plane::Control)?, data: addr_of(Plane::Data)? };
        Ok((Listeners { listeners, paused_until: Timestamp::ZERO }, addrs))
    }

    /// Registers the sockets with a poll.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for listener in &mut self.listeners {
            listener.socket.register(registry, listener.token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Deregisters the sockets, to register them with another poll. There they count as ready, since their events are
    /// lost.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        for listener in &mut self.listeners {
            listener.socket.deregister(registry)?;
            listener.is_ready = true;
        }
        Ok(())
    }

    /// Marks the socket with this token as ready.
    pub fn ready(&mut self, token: Token) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.token == token) {
            listener.is_ready = true;
        }
    }

    /// The next accepted connection, if there is one.
    pub fn accept(&mut self, now: Timestamp) -> Option<(TcpStream, SocketAddr, Plane)> {
        if now < self.paused_until {
            return None;
        }
        for listener in self.listeners.iter_mut().filter(|listener| listener.is_ready) {
            loop {
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        // A reply is one write, so Nagle's algorithm would only delay it. A socket that refuses the
                        // option is closed already.
                        _ = stream.set_nodelay(true);
                        // On a dual-stack socket IPv4 peers have mapped addresses: from here on they are IPv4.
                        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                        return Some((stream, peer, listener.plane));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.is_ready = false;
                        break;
                    }
                    // The client disconnected before it was accepted.
                    Err(error) if is_client_error(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "connections cannot be accepted; the next try is in {} ms", NO_DESCRIPTOR_PAUSE.get());
                        self.paused_until = now + NO_DESCRIPTOR_PAUSE;
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Whether connections may wait to be accepted.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        now >= self.paused_until && self.listeners.iter().any(|listener| listener.is_ready)
    }

    /// When accepting resumes after a pause.
    pub fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// Closes the sockets: clients are refused from now on.
    pub fn close(&mut self) {
        self.listeners.clear();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Unix it lets a restarted hub have its port back at once; on Windows it would let another program share it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn is_client_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { plane, addr, source } = self;
        let plane = plane.as_str();
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "the {plane} plane cannot listen on {addr}: the port is taken; stop what uses it, or choose another with --{plane}-addr"
            ),
            _ => write!(f, "the {plane} plane cannot listen on {addr}: {source}; choose another with --{plane}-addr"),
        }
    }
}

impl std::error::Error for BindError {}
