//! Origin: whether a request that carries no token comes from a web page that is not the hub's.
//!
//! A browser on this machine sends what any page tells it to. It says so: `Sec-Fetch-Site` and `Origin` name the page,
//! and after DNS rebinding `Host` is the page's own name. Programs send none of the first two, and a name of this
//! machine, a name without a dot, or the hub's address, as the third. With a valid token nothing of this is looked at: behind a proxy any name
//! is right.

use super::problem::Problem;
use super::{Caller, Settings, header};
use crate::http::Request;
use std::net::IpAddr;

/// The header that shows that the request comes from elsewhere.
pub fn foreign(settings: &Settings, caller: &Caller, request: &Request) -> Result<Option<&'static str>, Problem> {
    let site = header::single(request, "Sec-Fetch-Site")?;
    if site.is_some_and(|site| !matches!(site, b"none" | b"same-origin")) {
        return Ok(Some("Sec-Fetch-Site"));
    }
    let origin = header::single(request, "Origin")?;
    if origin.is_some_and(|origin| !is_own_origin(settings, origin)) {
        return Ok(Some("Origin"));
    }
    // Only a browser on this machine can be led here by a name of somebody else.
    let host = header::single(request, "Host")?.filter(|_| caller.ip.is_loopback());
    Ok(host.filter(|host| !is_own_host(settings, host)).map(|_| "Host"))
}

fn is_own_origin(settings: &Settings, origin: &[u8]) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let Some(host) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    let (name, port) = split_port(host);
    let is_named = settings.host_names.iter().any(|own| *own == name.to_ascii_lowercase());
    // Another port of this machine is another program's page.
    let own_ports = [settings.addrs.control.port(), settings.addrs.data.port()];
    is_named || is_own_name(settings, name) && port.is_some_and(|port| own_ports.contains(&port))
}

fn is_own_host(settings: &Settings, host: &[u8]) -> bool {
    let is_own = |name: &str| is_own_name(settings, name) || is_local_name(name);
    std::str::from_utf8(host).is_ok_and(|host| is_own(split_port(host).0))
}

/// Whether a name is one of a host file, a container's network or a search list: nobody registers a name without a dot,
/// so no page has led a browser here by it.
fn is_local_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_own_name(settings: &Settings, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if name == "localhost" || settings.host_names.contains(&name) {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    let Ok(ip) = literal.parse::<IpAddr>() else { return false };
    // A literal address leads to no other machine: where the hub listens on all of its addresses, each is right.
    let listens_on = |own: IpAddr| own == ip || own.is_unspecified();
    ip.to_canonical().is_loopback()
        || [settings.addrs.control, settings.addrs.data].iter().any(|own| listens_on(own.ip()))
}

/// A host's name without its port and without the dot that ends a full name.
fn split_port(host: &str) -> (&str, Option<u16>) {
    let name_end = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon));
    let (name, port) = name_end.map_or((host, None), |colon| (&host[..colon], host[colon + 1..].parse().ok()));
    (name.strip_suffix('.').unwrap_or(name), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, Limits};
    use crate::service::{Origin, Plane};
    use sheratan_core::Timestamp;
    use std::net::Ipv4Addr;

    const NOW: Timestamp = Timestamp::from_millis(1);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

    fn of(ip: IpAddr, version: &str, headers: &str) -> Option<&'static str> {
        let mut wire = Connection::new(NOW, &Limits::default());
        wire.received(NOW, format!("GET /health {version}\r\n{headers}\r\n").as_bytes());
        let request = wire.next_request(NOW).expect("a whole request came");
        let caller = Caller { plane: Plane::Control, ip, origin: Origin { connection: 1, request: request.id() } };
        let settings = Settings { host_names: vec!["hub.example".into()], ..Settings::local(NOW) };
        foreign(&settings, &caller, &request).unwrap_or_else(|problem| panic!("{}", problem.detail))
    }

    #[test]
    fn a_name_of_this_machine_or_of_the_hub_is_right_and_another_is_not() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for host in [
            "localhost",
            "LocalHost.:8787",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]:1",
            "hub.example",
            "HUB.example:80",
            "x",
            "my_hub-1:8787",
        ] {
            assert_eq!(of(local, "HTTP/1.1", &format!("Host: {host}\r\n")), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "[2001:db8::1]",
            "127.0.0.1.evil.example:8787",
            "a.hub.example",
        ] {
            assert_eq!(of(local, "HTTP/1.1", &format!("Host: {host}\r\n")), Some("Host"), "{host}");
            assert_eq!(of(FAR, "HTTP/1.1", &format!("Host: {host}\r\n")), None, "{host}");
        }
        assert_eq!(of(local, "HTTP/1.0", ""), None, "HTTP/1.0 needs no Host");
    }

    #[test]
    fn a_page_of_another_site_is_told_by_what_its_browser_says() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let table = [
            ("Sec-Fetch-Site: none", None),
            ("Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:8787", None),
            ("Origin: http://127.0.0.1:8788", None),
            ("Origin: https://hub.example", None),
            ("Sec-Fetch-Site: cross-site", Some("Sec-Fetch-Site")),
            ("Sec-Fetch-Site: same-site", Some("Sec-Fetch-Site")),
            ("Origin: http://localhost:3000", Some("Origin")),
            ("Origin: http://localhost", Some("Origin")),
            ("Origin: http://hub:8787", Some("Origin")),
            ("Origin: https://evil.example", Some("Origin")),
            ("Origin: null", Some("Origin")),
        ];
        for (header, expected) in table {
            for ip in [local, FAR] {
                assert_eq!(of(ip, "HTTP/1.1", &format!("Host: localhost\r\n{header}\r\n")), expected, "{header}");
            }
        }
    }
}
