//! What the fuzz targets share: input as a sequence of choices, files of a disk in memory, and planted faults.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the lists are for the core")]

use sheratan_io::disk::Disk;
use sheratan_sim::disk::VirtualDisk;
use sheratan_sim::draw::{Draw, Stream};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Panics in a build with planted faults, if `is_reached`: each target has one, where only an input that went through
/// all of its parts gets to.
pub fn planted(is_reached: bool) {
    assert!(!(cfg!(feature = "planted") && is_reached), "the planted fault");
}

/// The input, read as choices from its start. An input that has ended gives zeros and empty texts.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The parts between bytes with the value 255, so that a part can grow or shrink without moving the others' ends.
    pub fn parts(&mut self) -> impl Iterator<Item = Input<'a>> {
        self.rest().split(|byte| *byte == 0xff).map(Input)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}

/// A disk in memory that never fails by itself.
pub fn disk() -> VirtualDisk {
    VirtualDisk::new(Draw::new(0, Stream::Disk))
}

/// The disk as the journal takes it.
pub fn shared(disk: &VirtualDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// A whole file.
pub fn read(disk: &VirtualDisk, path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    disk.open_to_read(path).expect("it was listed").read_to_end(&mut bytes).expect("the disk does not fail");
    bytes
}

/// Gives a file these bytes.
pub fn write(disk: &VirtualDisk, path: &Path, bytes: &[u8]) {
    disk.create_folder(path.parent().expect("files are in folders")).expect("the disk does not fail");
    let mut file = disk.create(path).expect("the disk does not fail");
    file.write_all(bytes).expect("the disk does not fail");
    file.sync().expect("the disk does not fail");
}

/// Damages files as the input says, for as long as it says anything: bytes get other values, ends are lost, files go.
pub fn damage(disk: &VirtualDisk, input: &mut Input, is_damaged: impl Fn(&Path) -> bool) {
    while !input.is_empty() {
        let files: Vec<PathBuf> =
            disk.files().into_iter().map(|(path, _)| path).filter(|path| is_damaged(path)).collect();
        let Some(path) = files.get(usize::from(input.byte()) % files.len().max(1)) else { return };
        let mut bytes = read(disk, path);
        let (place, act) = (usize::from(input.u16()), input.byte());
        match act % 8 {
            0 => bytes.truncate(place),
            1 => {
                disk.remove(path).expect("the disk does not fail");
                continue;
            }
            _ => match bytes.get_mut(place) {
                Some(byte) => *byte ^= input.byte().max(1),
                None => continue,
            },
        }
        write(disk, path, &bytes);
    }
}
