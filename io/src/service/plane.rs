//! Planes: the two addresses of a hub, for nodes and operators and for clients and workers.

use std::net::SocketAddr;

/// A plane of the hub.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plane {
    /// Nodes and operators.
    Control,
    /// Clients and workers.
    Data,
}

impl Plane {
    /// The other plane.
    pub const fn other(self) -> Plane {
        match self {
            Plane::Control => Plane::Data,
            Plane::Data => Plane::Control,
        }
    }

    /// The plane's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Plane::Control => "control",
            Plane::Data => "data",
        }
    }
}

/// The addresses of both planes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaneAddrs {
    /// Of the control plane.
    pub control: SocketAddr,
    /// Of the data plane.
    pub data: SocketAddr,
}

impl PlaneAddrs {
    /// The address of a plane.
    pub const fn of(&self, plane: Plane) -> SocketAddr {
        match plane {
            Plane::Control => self.control,
            Plane::Data => self.data,
        }
    }
}
