//! The machine, this program, and the configuration of a hub that is started here.

use super::asked::pretty;
use super::subject::Subject;
use super::{Content, Gathered};
use crate::platform;
use serde_json::json;
use sha2::{Digest, Sha256};
use sheratan_io::config::table::SETTINGS;
use sheratan_io::journal::{Build, FORMAT_VERSION};
use std::fs;
use std::path::Path;

/// Files that identify containers.
const CONTAINER_FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// What the container's memory is limited to.
const CONTAINER_MEMORY: &str = "/sys/fs/cgroup/memory.max";

/// The settings; for a secret only whether it is set.
pub fn config(subject: &Subject) -> Gathered {
    let config = subject.config.as_ref().map_err(|error| format!("no hub would start here: {error}"))?;
    let settings = config.describe().into_iter().map(|described| {
        let setting = SETTINGS.iter().find(|setting| setting.name == described.name);
        if setting.is_none_or(|setting| setting.is_secret()) {
            json!({"name": described.name, "is_set": !described.value.is_empty(), "source": described.source})
        } else {
            json!({"name": described.name, "value": described.value, "source": described.source})
        }
    });
    let said = json!({"settings": settings.collect::<Vec<_>>(), "notices": config.notices});
    Ok(pretty(subject, said, "hub.toml and the environment of this process".into()))
}

/// The names of all environment variables, unredacted: a secret in a name is found when the archive is searched.
pub fn environment(_subject: &Subject) -> Gathered {
    let mut names: Vec<_> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let lines = names.into_iter().map(|name| name.replace(char::is_control, "?") + "\n");
    Ok(Content { bytes: lines.collect::<String>().into_bytes(), source: "this process".into() })
}

/// This program.
pub fn versions(subject: &Subject) -> Gathered {
    let executable = match digest_of_executable() {
        Ok((bytes, sha256)) => json!({"bytes": bytes, "sha256": sha256}),
        Err(error) => json!({"unknown": error.to_string()}),
    };
    let said = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": Build::THIS,
        "target": env!("SHERATAN_BUILD_TARGET"),
        "profile": env!("SHERATAN_BUILD_PROFILE"),
        "rustc": env!("SHERATAN_BUILD_RUSTC"),
        "journal_format": FORMAT_VERSION,
        "executable": executable,
    });
    Ok(pretty(subject, said, "this program".into()))
}

/// The system's properties that do not change from day to day.
pub fn os(subject: &Subject) -> Gathered {
    let containers: Vec<_> = CONTAINER_FILES.into_iter().filter(|file| Path::new(file).exists()).collect();
    let said = json!({
        "os": std::env::consts::OS,
        "name": os_name(),
        "kernel": platform::kernel(),
        "architecture": std::env::consts::ARCH,
        "processors": std::thread::available_parallelism().ok(),
        "memory_bytes": platform::memory_bytes(),
        "container": {
            "marks": containers,
            "is_kubernetes": std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            "memory_max": fs::read_to_string(CONTAINER_MEMORY).ok().map(|text| text.trim().to_owned()),
        },
    });
    Ok(pretty(subject, said, "the system".into()))
}

fn digest_of_executable() -> std::io::Result<(u64, String)> {
    let mut file = fs::File::open(std::env::current_exe()?)?;
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hasher)?;
    Ok((bytes, hex::encode(hasher.finalize())))
}

/// The name of a Linux distribution.
fn os_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}
