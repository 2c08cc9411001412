//! Identity: the key with which a worker signs its heartbeats, kept in a file.
//!
//! The file holds the secret key as 64 hex digits. It is made when it is not there, and readable by its owner only: whoever
//! reads it can send heartbeats in the node's name.

use crate::cli::failure::Failure;
use crate::client::calls::Heartbeat;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Map, Value};
use sheratan_core::integrity::canonical::{self, Rule};
use sheratan_core::integrity::json;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Instant;
use zeroize::Zeroizing;

/// A node's key.
pub struct Identity {
    key: SigningKey,
    /// When the key was read, on the clock that is never set, and what the calendar showed.
    started: (Instant, u64),
}

impl Identity {
    /// Reads the key in a file, or makes one there.
    pub fn open(path: &Path) -> Result<Identity, Failure> {
        let named = |error: io::Error| Failure::local(format_args!("the key in {}", path.display()), error);
        let seed = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => make(path).map_err(named)?,
            seed => seed.map_err(named)?,
        };
        let shown = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        Ok(Identity { key: SigningKey::from_bytes(&seed), started: (Instant::now(), shown) })
    }

    /// The body of a signed heartbeat. Its time and its counter show that it is no recorded one; the counter grows also if
    /// the machine's clock is set back meanwhile.
    pub fn sign(&self, heartbeat: &Heartbeat) -> Vec<u8> {
        let (started, shown) = self.started;
        let counter = shown.saturating_add(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let Ok(Value::Object(mut body)) = serde_json::to_value(heartbeat) else {
            unreachable!("a heartbeat is an object with keys that are strings")
        };
        body.insert("ts_utc".to_owned(), format!("{:.3}", jiff::Timestamp::now()).into());
        body.insert("counter".to_owned(), counter.into());
        body.insert("public_key".to_owned(), hex::encode(self.key.verifying_key().to_bytes()).into());
        let signature = self.key.sign(&signed_bytes(&body));
        body.insert("signature".to_owned(), hex::encode(signature.to_bytes()).into());
        text(&body)
    }
}

/// What a signature covers.
fn signed_bytes(body: &Map<String, Value>) -> Vec<u8> {
    let text = text(body);
    let object = json::parse_object(&text).expect("it is an object that was just written");
    let mut signed = Vec::new();
    canonical::write_object(object.members(), "signature", Rule::AsSent, &mut signed);
    signed
}

fn text(body: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(body).expect("keys are strings, and a buffer takes all")
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    check_mode(path)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *seed)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it must be 64 hex digits"))?;
    Ok(seed)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let advice = format!("others may read it (mode {mode:o}): chmod 600, and change the key if somebody did");
    Err(io::Error::new(ErrorKind::PermissionDenied, advice))
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a key. The file appears with its whole content; if another worker made one meanwhile, that is the key.
fn make(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| io::Error::other(error.to_string()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", *Zeroizing::new(hex::encode(*seed)))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(seed),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            node_id: "knoten-ü😀".to_owned(),
            health: "GREEN",
            zone: None,
            capabilities: vec!["a".to_owned()],
            attestation: None,
        }
    }

    #[test]
    fn a_key_is_made_once_and_signs_what_is_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let body = Identity::open(&path).expect("it is made").sign(&heartbeat());
        let again = Identity::open(&path).expect("it is read");
        let body: Map<String, Value> = serde_json::from_slice(&body).expect("JSON");
        let of = |member: &str| hex::decode(body[member].as_str().expect("text")).expect("hex");
        let key = again.key.verifying_key();
        assert_eq!(of("public_key"), key.to_bytes());
        let signature = Signature::from_slice(&of("signature")).expect("a signature");
        VerifyingKey::verify_strict(&key, &signed_bytes(&body), &signature).expect("it is the key's");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its owner may");
            assert!(Identity::open(&path).is_err(), "others may read it");
        }
    }
}
