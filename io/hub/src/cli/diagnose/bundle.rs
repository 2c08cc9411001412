//! The bundle: all files with a manifest, packed so that the same files result in the same bytes. The finished archive
//! is searched for secrets: in each unpacked file, in the files' names, and in the archive's bytes.

use super::Gathered;
use crate::cli::failure::Failure;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheratan_core::Utc;
use sheratan_io::redact::Redactor;
use sheratan_io::rfc3339::Rfc3339;
use std::fmt::Write as _;
use std::io::{Cursor, Read, Write};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// What the archive's readers are to know how to read.
const BUNDLE_FORMAT: u32 = 1;

/// Mode of an unpacked file: its owner's alone, as the archive is.
const FILE_MODE: u32 = 0o600;

const README: &str = "README.txt";
const MANIFEST: &str = "manifest.json";

/// All gathered files.
pub struct Bundle {
    /// The instant, the only difference between two bundles of a hub that is down.
    pub created: Utc,
    /// Whether the hub answered.
    pub hub: String,
    /// The files, in order.
    pub entries: Vec<Entry>,
}

/// One file.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// Its contents, or why it is missing.
    pub content: Gathered,
}

impl Bundle {
    /// The archive's bytes.
    pub fn pack(&self, redactor: &Redactor) -> Result<Vec<u8>, Failure> {
        self.try_pack(redactor).map_err(|error| Failure::local("the archive cannot be made", error))
    }

    /// What is missing, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.entries.iter().filter_map(|entry| Some((entry.name, entry.content.as_ref().err()?.as_str())))
    }

    /// The names of the archive's files.
    pub fn names(&self) -> Vec<&'static str> {
        self.files(&[], &[]).map(|(name, _)| name).collect()
    }

    fn try_pack(&self, redactor: &Redactor) -> Result<Vec<u8>, ZipError> {
        let mut manifest = serde_json::to_vec_pretty(&redactor.redact_value(self.manifest())).expect("a tree is JSON");
        manifest.push(b'\n');
        let readme = self.readme();
        // Without a date of its own, each file has the earliest date of the format.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(FILE_MODE);
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in self.files(readme.as_bytes(), &manifest) {
            archive.start_file(name, options)?;
            archive.write_all(bytes)?;
        }
        Ok(archive.finish()?.into_inner())
    }

    /// What is there, in the archive's order.
    fn files<'a>(&'a self, readme: &'a [u8], manifest: &'a [u8]) -> impl Iterator<Item = (&'static str, &'a [u8])> {
        let there = self.entries.iter().filter_map(|entry| Some((entry.name, &*entry.content.as_ref().ok()?.bytes)));
        [(README, readme), (MANIFEST, manifest)].into_iter().chain(there)
    }

    /// The digest of each file, except the manifest's own.
    fn manifest(&self) -> Value {
        let readme = self.readme();
        let there = |name: &str, bytes: &[u8], source: &str| json!({"name": name, "bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes)), "source": source});
        let entries = self.entries.iter().map(|entry| match &entry.content {
            Ok(content) => there(entry.name, &content.bytes, &content.source),
            Err(reason) => json!({"name": entry.name, "missing": reason}),
        });
        let files = std::iter::once(there(README, readme.as_bytes(), "this program")).chain(entries);
        json!({
            "bundle_format": BUNDLE_FORMAT,
            "created_utc": Rfc3339::new(self.created).to_string(),
            "hub": self.hub,
            "files": files.collect::<Vec<_>>(),
        })
    }

    fn readme(&self) -> String {
        let mut text = format!(
            "What `sheratan-hub diagnose` saw of a Sheratan Hub. {MANIFEST} says when, of which hub, what is\n\
             missing and why, and the size and SHA-256 of each file.\n\n\
             There is no token and no key in it: what is here is on a list of what may be shown, and the\n\
             archive was searched for every secret that the process knew, in all usual encodings. Jobs, their\n\
             params and results, nodes' labels and endpoints, and values of environment variables are left out.\n\
             `sha256:` with 8 digits stands where a secret would have been.\n\n"
        );
        for entry in &self.entries {
            writeln!(text, "{:<22}{}", entry.name, entry.about).expect("a text takes all");
        }
        text
    }
}

/// Opens the finished archive again and searches all of it.
///
/// # Errors
/// A secret is in it. The message says where, and never what.
pub fn search(archive: &[u8], redactor: &Redactor) -> Result<(), Failure> {
    let found = find(archive, redactor).map_err(|error| Failure::local("the archive cannot be read back", error))?;
    let Some(place) = found else { return Ok(()) };
    Err(Failure::Local(format!(
        "a secret is in {}: nothing was written. {}",
        redactor.redact_text(&place),
        "Take it out of what that file shows; if the secret is an ordinary word, change it"
    )))
}

/// The first place in the archive that has a secret.
fn find(archive: &[u8], redactor: &Redactor) -> Result<Option<String>, ZipError> {
    let mut files = ZipArchive::new(Cursor::new(archive))?;
    for index in 0..files.len() {
        let mut file = files.by_index(index)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let name = file.name()?;
        if redactor.contains(&bytes) {
            return Ok(Some(name.into_owned()));
        }
        if redactor.contains(name.as_bytes()) {
            return Ok(Some("a file's name".into()));
        }
    }
    Ok(redactor.contains(archive).then(|| "the archive itself".into()))
}

#[cfg(test)]
mod tests {
    use super::super::Content;
    use super::*;
    use sheratan_io::secret::Secret;

    fn bundle(text: &str) -> Bundle {
        let content = |text: &str| Ok(Content { bytes: text.as_bytes().to_vec(), source: "the test".into() });
        let entry = |name, content| Entry { name, about: "A file.", content };
        let entries = vec![entry("a.txt", content(text)), entry("b.txt", Err("it is not there".into()))];
        Bundle { created: Utc::ZERO, hub: "down".into(), entries }
    }

    fn redactor(secret: &str) -> Redactor {
        Redactor::new(&[&Secret::new(secret.as_bytes())])
    }

    fn unpacked(archive: &[u8], name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        ZipArchive::new(Cursor::new(archive)).unwrap().by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_manifest_has_the_digest_of_each_file_and_a_line_for_what_is_missing() {
        let archive = bundle("hello").pack(&redactor("a secret")).unwrap();
        let manifest: Value = serde_json::from_slice(&unpacked(&archive, MANIFEST)).unwrap();
        let files = manifest["files"].as_array().unwrap();
        assert_eq!(files.len(), 3);
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(files[1], json!({"name": "a.txt", "bytes": 5, "sha256": sha256, "source": "the test"}));
        assert_eq!(files[2], json!({"name": "b.txt", "missing": "it is not there"}));
        assert_eq!(files[0]["sha256"], hex::encode(Sha256::digest(unpacked(&archive, README))));
        assert_eq!(bundle("hello").names(), [README, MANIFEST, "a.txt"]);
    }

    #[test]
    fn the_same_files_result_in_the_same_bytes() {
        let pack = |text| bundle(text).pack(&redactor("a secret")).unwrap();
        assert_eq!(pack("hello"), pack("hello"));
        assert_ne!(pack("hello"), pack("hallo"));
    }

    #[test]
    fn a_secret_is_found_in_a_file_however_it_is_packed() {
        let secret = "correct-horse-battery";
        for text in [
            secret.to_owned(),
            secret.repeat(100),
            "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5".into(),
            "correct%2Dhorse%2dbattery".into(),
        ] {
            let archive = bundle(&text).pack(&redactor(secret)).unwrap();
            let said = search(&archive, &redactor(secret)).unwrap_err().to_string();
            assert!(said.starts_with("a secret is in a.txt: nothing was written"), "{said}");
            search(&archive, &redactor("another secret")).unwrap();
        }
    }

    #[test]
    fn free_text_in_the_manifest_passes_the_redactor() {
        let secret = "correct-horse-battery";
        let mut bundle = bundle("");
        bundle.hub = format!("down: no hub runs on /home/{secret}");
        let archive = bundle.pack(&redactor(secret)).unwrap();
        search(&archive, &redactor(secret)).unwrap();
    }
}
