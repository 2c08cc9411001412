//! A diagnose bundle, unpacked.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

/// An archive that `sheratan-hub diagnose` wrote.
#[derive(PartialEq, Eq, Debug)]
pub struct Bundle {
    /// The archive as it is.
    pub archive: Vec<u8>,
    /// Its files' names, in its order.
    pub names: Vec<String>,
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Reads an archive.
    pub fn open(path: &Path) -> Bundle {
        let archive = fs::read(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        let mut zip = zip::ZipArchive::new(Cursor::new(&archive)).expect("it is an archive");
        let (mut names, mut files) = (Vec::new(), BTreeMap::new());
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).expect("the archive has as many files as it says");
            let name = file.name().expect("a name is text").into_owned();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("the file is whole");
            names.push(name.clone());
            files.insert(name, bytes);
        }
        Bundle { archive, names, files }
    }

    /// A file.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        let bytes = self.files.get(name).unwrap_or_else(|| panic!("{name} is missing: {:?}", self.missing(name)));
        std::str::from_utf8(bytes).expect("all files are text")
    }

    /// A file of JSON.
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_else(|error| panic!("{name} is no JSON: {error}"))
    }

    /// A file of JSON lines.
    #[track_caller]
    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// What the manifest says of a file.
    #[track_caller]
    pub fn entry(&self, name: &str) -> Value {
        let manifest = self.json("manifest.json");
        let mut files = manifest["files"].as_array().expect("the manifest lists files").iter();
        files.find(|file| file["name"] == name).unwrap_or_else(|| panic!("the manifest has no line for {name}")).clone()
    }

    /// Why a file is missing; `None` if it is there.
    pub fn missing(&self, name: &str) -> Option<String> {
        self.entry(name)["missing"].as_str().map(str::to_owned)
    }
}
