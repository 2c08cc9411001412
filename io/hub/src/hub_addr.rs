//! `hub.addr`: shows scripts and the command line where a hub listens, and whether it is ready.

use serde::{Deserialize, Serialize};
use sheratan_io::platform;
use sheratan_io::service::PlaneAddrs;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The contents of a running hub's `<data-dir>/hub.addr`.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct HubAddr {
    /// The hub's process.
    pub pid: Option<u32>,
    /// The address of the control plane.
    pub control: String,
    /// The address of the data plane.
    pub data: String,
    /// Whether the hub has recovered.
    #[serde(default)]
    pub ready: bool,
}

impl HubAddr {
    /// The file's path in a data folder.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("hub.addr")
    }

    /// What the file of a data folder says; `None` without one. A hub that was killed leaves its own.
    pub fn read(data_dir: &Path) -> Option<HubAddr> {
        let bytes = fs::read(HubAddr::path(data_dir)).ok()?;
        // A torn file is being written.
        serde_json::from_slice(&bytes).ok()
    }
}

/// The file of a running hub, which removes it at its end, so that it never names a port on which no hub listens.
pub struct AddrFile {
    path: PathBuf,
    addrs: PlaneAddrs,
}

// A convenience: a hub serves without it, such as on a full disk.
impl AddrFile {
    /// Only the holder of the folder's lock may write it.
    pub fn write(data_dir: &Path, addrs: PlaneAddrs) -> AddrFile {
        let mut file = AddrFile { path: HubAddr::path(data_dir), addrs };
        // There is no log yet; if it fails again, `set_ready` reports it.
        _ = file.put(false);
        file
    }

    /// Where the hub listens.
    pub fn addrs(&self) -> PlaneAddrs {
        self.addrs
    }

    /// The hub has recovered.
    pub fn set_ready(&mut self) {
        if let Err(error) = self.put(true) {
            // What an earlier hub left would send clients to its ports.
            _ = fs::remove_file(&self.path);
            let file = self.path.display();
            tracing::warn!(%file, %error, "clients that look for the hub in its data folder do not find it: give them its address");
        }
    }

    /// Written to a temporary file and renamed, so that no reader sees half of it.
    fn put(&mut self, is_ready: bool) -> io::Result<()> {
        let temporary = self.path.with_extension("addr.new");
        let (pid, PlaneAddrs { control, data }) = (Some(std::process::id()), self.addrs);
        let addr = HubAddr { pid, control: control.to_string(), data: data.to_string(), ready: is_ready };
        let mut file = platform::create_new_private(&temporary)?;
        file.write_all(format!("{}\n", serde_json::to_string(&addr)?).as_bytes())?;
        platform::rename(&temporary, &self.path)
    }
}

impl Drop for AddrFile {
    fn drop(&mut self) {
        // A file that cannot be removed misleads until the next start, which replaces it.
        _ = fs::remove_file(&self.path);
    }
}
