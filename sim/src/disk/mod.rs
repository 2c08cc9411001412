//! Virtual disk: files in memory that lose what real ones lose when the power fails.
//!
//! What a program sees and what survives a power cut differ. A file is its visible bytes and an undo log of the writes
//! that were not synced; a folder is its visible names and a list of the changes to them that were not synced. A sync
//! clears the undo log; [`VirtualDisk::crash`] undoes, sector by sector and name by name, what its draw says was not on
//! the disk yet. [`VirtualDisk::kill`] ends the process only: all that was written stays.
//!
//! The strictest reading of POSIX holds: a file's sync says nothing about its name, nor a folder's about the folder's
//! own.
//!
//! Every operation that changes something has a number, so that a run can be repeated up to any of them and die there:
//! [`VirtualDisk::crash_at`]. From then on all operations fail until [`VirtualDisk::crash`] or [`VirtualDisk::kill`];
//! file handles of the dead process stay unusable.

mod content;
mod mistakes;

use crate::draw::Draw;
use content::Content;
use sheratan_io::disk::{Disk, DiskFile, DiskReader, Lock, LockFailure, unreadable};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Rates of faults, in permille of the operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Writes that fail after some of their bytes.
    pub write_permille: u64,
    /// Opens of a file, renames and unlinks that fail: too many open files, no permission.
    pub name_permille: u64,
    /// Syncs of a file that fail. The unsynced writes may stay unsynced, be lost at once, or stay visible and never
    /// reach the disk although the next sync succeeds.
    pub sync_permille: u64,
}

/// A file system in memory. Cheap to clone; all clones are the same disk.
#[derive(Clone, Debug)]
pub struct VirtualDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    draw: Draw,
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// The node of each visible name; the root folder always exists and has none.
    names: BTreeMap<PathBuf, u64>,
    /// The node of each name after a power cut, if none of `changes` survives.
    synced_names: BTreeMap<PathBuf, u64>,
    /// Changes to names that were not synced, oldest first.
    changes: Vec<NameChange>,
    /// The number of the lock that is held on each path.
    locks: BTreeMap<PathBuf, u64>,
    next_lock: u64,
    /// Whether folders can be locked: file systems of networks may lock files only.
    are_folders_locked: bool,
    /// Counts the processes; handles of earlier ones are unusable.
    generation: u64,
    ops: u64,
    crash_at: Option<u64>,
    is_dead: bool,
    is_full: bool,
    faults: Faults,
    /// Bits that were flipped: the file, the byte, the bit.
    flipped: Vec<(u64, u64, u8)>,
    tally: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
enum Node {
    Folder,
    File(Content),
}

/// One change of names: each path with its new node.
#[derive(Clone, Debug)]
struct NameChange(Vec<(PathBuf, Option<u64>)>);

/// How an operation ends.
enum Fate {
    Done,
    /// It is not done, and the disk dies.
    Before,
    /// It is done in part, where that is possible, and the disk dies.
    Midway,
    /// It is done without being reported, and the disk dies.
    After,
}

impl VirtualDisk {
    /// An empty disk. `draw` decides on faults, and on how the operation ends at which the disk dies.
    pub fn new(draw: Draw) -> Self {
        VirtualDisk(Arc::new(Mutex::new(State {
            draw,
            nodes: BTreeMap::new(),
            next_node: 1,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            locks: BTreeMap::new(),
            next_lock: 1,
            are_folders_locked: true,
            generation: 0,
            ops: 0,
            crash_at: None,
            is_dead: false,
            is_full: false,
            faults: Faults::default(),
            flipped: Vec::new(),
            tally: BTreeMap::new(),
        })))
    }

    /// How many operations changed something. Reads are not counted: to die at one is to die before the next change.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Makes the disk die at operation number `op` (the first is 1): before, after or within it.
    pub fn crash_at(&self, op: u64) {
        self.state().crash_at = Some(op);
    }

    /// Whether it died; [`crash`](Self::crash) or [`kill`](Self::kill) must follow.
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Cuts the power and restores it: synced data is there, and of the rest what `draw` decides.
    pub fn crash(&self, draw: &mut Draw) {
        let mut state = self.state();
        state.count("power cut");
        state.lose_names(draw);
        for node in state.nodes.values_mut() {
            if let Node::File(content) = node {
                content.lose(draw);
            }
        }
        state.restart();
    }

    /// Ends the process at once (kill -9): written data is in the system's memory and stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.count("process kill");
        state.restart();
    }

    /// Makes all written data and names durable, as the operating system does in time without a sync.
    pub fn write_back(&self) {
        let mut state = self.state();
        if state.is_dead {
            return;
        }
        for node in state.nodes.values_mut() {
            if let Node::File(content) = node {
                content.settle();
            }
        }
        state.changes.clear();
        state.synced_names = state.names.clone();
        state.sweep();
    }

    /// An independent disk with the files as they are visible now, all durable: a copy that an operator made.
    pub fn copy_files(&self, draw: Draw) -> VirtualDisk {
        let copy = VirtualDisk::new(draw);
        let (from, mut to) = (self.state(), copy.state());
        for (path, node) in &from.names {
            let node = match &from.nodes[node] {
                Node::Folder => Node::Folder,
                Node::File(content) => Node::File(Content::of(content.bytes.clone())),
            };
            to.add(path, node);
        }
        drop((from, to));
        copy.write_back();
        copy
    }

    /// Sets the rates of faults.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Runs something that looks at the disk from outside: no open fails by chance meanwhile.
    pub fn observe<T>(&self, act: impl FnOnce() -> T) -> T {
        let name_permille = std::mem::take(&mut self.state().faults.name_permille);
        let seen = act();
        self.state().faults.name_permille = name_permille;
        seen
    }

    /// Removes a file that is locked, as somebody does who tidies up: its holder's lock excludes nobody any more.
    pub fn remove_lock(&self, path: &Path) {
        let mut state = self.state();
        if state.locks.remove(path).is_some() {
            state.count("removed lock");
        }
    }

    /// Runs something on a machine that does not see the locks of folders.
    pub fn without_folder_locks<T>(&self, act: impl FnOnce() -> T) -> T {
        self.state().are_folders_locked = false;
        let done = act();
        self.state().are_folders_locked = true;
        done
    }

    /// Sets whether the disk is full: then nothing can be created, and no file grows.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Flips one bit at rest in the written part of a fully synced segment or snapshot. Returns the file and the byte's
    /// offset; `None` if there is no such file. The journal cannot distinguish damage in its last batch from a torn
    /// tail, so that batch is spared, and one more that may follow it without an acknowledgement.
    pub fn flip_bit(&self, draw: &mut Draw) -> Option<(PathBuf, u64)> {
        self.flip(draw, |state, path, node| {
            let is_kept = is_segment(path) || path.extension().is_some_and(|extension| extension == "snap");
            match &state.nodes[&node] {
                Node::File(content) if is_kept && content.is_synced() => {
                    let is_newest =
                        state.names.keys().rfind(|path| is_segment(path)).is_some_and(|newest| **newest == *path);
                    if is_newest { content.latest_at() } else { usize::MAX }
                }
                _ => 0,
            }
        })
    }

    /// Flips one bit in one of the wanted files, synced or not.
    pub fn flip_bit_of(&self, draw: &mut Draw, is_wanted: impl Fn(&Path) -> bool) -> Option<(PathBuf, u64)> {
        self.flip(draw, |state, path, node| match &state.nodes[&node] {
            Node::File(_) if is_wanted(path) => usize::MAX,
            _ => 0,
        })
    }

    /// Flips one bit in one of the files; `spared_from` returns the offset from which a file is spared.
    fn flip(&self, draw: &mut Draw, spared_from: impl Fn(&State, &Path, u64) -> usize) -> Option<(PathBuf, u64)> {
        let mut state = self.state();
        let from = |path: &Path, node: u64| spared_from(&state, path, node);
        let candidates: Vec<_> = state.names.iter().filter(|(path, node)| from(path, **node) > 0).collect();
        if candidates.is_empty() {
            return None;
        }
        let (path, node) = draw.pick(&candidates);
        let (path, node, spared_from) = (path.to_path_buf(), **node, from(path, **node));
        let bytes = &mut state.content_mut(node).bytes;
        // The zeros after it are a segment's preallocated space.
        let content_end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
        let at = draw.below(content_end.min(spared_from) as u64);
        let mask = 1 << draw.below(8);
        bytes[at as usize] ^= mask;
        state.flipped.push((node, at, mask));
        state.count("bit flip");
        Some((path, at))
    }

    /// Makes one sector of one of the wanted files unreadable, until it is written again. Returns the file and the
    /// sector's offset; `None` if there is no such file.
    pub fn spoil_sector_of(&self, draw: &mut Draw, is_wanted: impl Fn(&Path) -> bool) -> Option<(PathBuf, u64)> {
        let mut state = self.state();
        let candidates = state.names.iter().filter(|(path, node)| {
            is_wanted(path) && matches!(&state.nodes[node], Node::File(content) if !content.bytes.is_empty())
        });
        let candidates: Vec<_> = candidates.map(|(path, node)| (path.clone(), *node)).collect();
        if candidates.is_empty() {
            return None;
        }
        let (path, node) = draw.pick(&candidates).clone();
        let at = state.content_mut(node).spoil(draw);
        state.count("bad sector");
        Some((path, at))
    }

    /// Makes all sectors readable again, as a disk sometimes does.
    pub fn heal(&self) {
        for node in self.state().nodes.values_mut() {
            if let Node::File(content) = node {
                content.heal();
            }
        }
    }

    /// Restores all flipped bits, as an operator with a good copy does.
    pub fn unflip(&self) {
        let mut state = self.state();
        for (node, at, mask) in std::mem::take(&mut state.flipped) {
            if let Some(Node::File(content)) = state.nodes.get_mut(&node)
                && let Some(byte) = content.bytes.get_mut(at as usize)
            {
                *byte ^= mask;
            }
        }
    }

    /// The summed size of all files.
    pub fn bytes(&self) -> u64 {
        let sizes = |node: &Node| if let Node::File(content) = node { content.bytes.len() as u64 } else { 0 };
        self.state().nodes.values().map(sizes).sum()
    }

    /// The visible files with their sizes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let size = |node: &u64| match &state.nodes[node] {
            Node::Folder => None,
            Node::File(content) => Some(content.bytes.len() as u64),
        };
        state.names.iter().filter_map(|(path, node)| Some((path.clone(), size(node)?))).collect()
    }

    /// Faults that were injected, by name.
    pub fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.state().tally.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no operation panics while it holds the lock")
    }

    fn handle(&self, state: &mut State, node: u64) -> Handle {
        state.content_mut(node).open_count += 1;
        Handle { disk: self.clone(), node, generation: state.generation, at: 0, is_at_end: false }
    }
}

impl State {
    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn content(&self, node: u64) -> &Content {
        match &self.nodes[&node] {
            Node::File(content) => content,
            Node::Folder => unreachable!("a folder is never taken for a file"),
        }
    }

    fn content_mut(&mut self, node: u64) -> &mut Content {
        match self.nodes.get_mut(&node).expect("a node that is named or open exists") {
            Node::File(content) => content,
            Node::Folder => unreachable!("a folder is never taken for a file"),
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.is_dead { Err(io::Error::other("the disk is dead")) } else { Ok(()) }
    }

    /// Counts an operation and decides how it ends. If that is [`Fate::Before`], it must not be done.
    fn begin(&mut self) -> io::Result<Fate> {
        self.check_alive()?;
        self.ops += 1;
        if self.crash_at.is_none_or(|op| self.ops < op) {
            return Ok(Fate::Done);
        }
        self.is_dead = true;
        self.count("crash point");
        Ok(match self.draw.below(3) {
            0 => Fate::Before,
            1 => Fate::Midway,
            _ => Fate::After,
        })
    }

    /// Runs an operation that cannot be done in part.
    fn run_atomic<T>(&mut self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.begin()? {
            Fate::Done => act(self),
            Fate::Before => self.dead_error(),
            Fate::Midway | Fate::After => {
                act(self)?;
                self.dead_error()
            }
        }
    }

    /// An open that fails by chance, which says nothing about the file.
    fn fail_open(&mut self) -> io::Result<()> {
        if self.faults.name_permille > 0 && self.draw.chance(self.faults.name_permille) {
            self.count("failed open");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    /// A rename or an unlink that fails by chance.
    fn fail_name(&mut self, what: &'static str) -> io::Result<()> {
        if self.faults.name_permille > 0 && self.draw.chance(self.faults.name_permille) {
            self.count(what);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    fn dead_error<T>(&self) -> io::Result<T> {
        Err(io::Error::other("the disk died at this operation"))
    }

    fn no_space<T>(&mut self) -> io::Result<T> {
        self.count("no space");
        Err(io::ErrorKind::StorageFull.into())
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find_file(&self, path: &Path) -> io::Result<u64> {
        let node = self.find(path)?;
        match self.nodes[&node] {
            Node::File(_) => Ok(node),
            Node::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The names of a file or folder. O(names).
    fn paths(&self, node: u64) -> impl Iterator<Item = &Path> {
        self.names.iter().filter(move |(_, named)| **named == node).map(|(path, _)| path.as_path())
    }

    fn check_folder(&self, path: &Path) -> io::Result<()> {
        if is_root(path) {
            return Ok(());
        }
        match self.nodes[&self.find(path)?] {
            Node::Folder => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> u64 {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.change(vec![(path.to_path_buf(), Some(id))]);
        id
    }

    fn change(&mut self, names: Vec<(PathBuf, Option<u64>)>) {
        let change = NameChange(names);
        change.apply(&mut self.names);
        self.changes.push(change);
        self.sweep();
    }

    /// Makes the changes in a folder durable, and earlier changes that they depend on.
    fn sync_names(&mut self, folder: &Path) {
        let mut needed = BTreeSet::new();
        let mut synced: Vec<_> = (0..self.changes.len())
            .rev()
            .filter(|at| {
                let change = &self.changes[*at];
                let is_synced = change.paths().any(|path| folder_of(path) == folder || needed.contains(path));
                if is_synced {
                    needed.extend(change.paths().map(Path::to_path_buf));
                }
                is_synced
            })
            .collect();
        synced.reverse();
        for at in &synced {
            self.changes[*at].apply(&mut self.synced_names);
        }
        let mut at = 0;
        self.changes.retain(|_| {
            at += 1;
            synced.binary_search(&(at - 1)).is_err()
        });
        self.sweep();
    }

    /// Applies the unsynced changes up to a drawn point, one for all folders or one for each, and drops the others.
    fn lose_names(&mut self, draw: &mut Draw) {
        let changes = std::mem::take(&mut self.changes);
        let is_one_point = draw.chance(500);
        let one_point = draw.between(0, changes.len() as u64);
        let mut points: BTreeMap<PathBuf, u64> = BTreeMap::new();
        let mut lost: BTreeSet<PathBuf> = BTreeSet::new();
        for (at, change) in changes.iter().enumerate() {
            let survives = change.paths().all(|path| {
                let point = points.entry(folder_of(path).to_path_buf());
                let point = *point.or_insert_with(|| draw.between(0, changes.len() as u64));
                let point = if is_one_point { one_point } else { point };
                (at as u64) < point && !lost.contains(path)
            });
            if survives {
                change.apply(&mut self.synced_names);
            } else {
                lost.extend(change.paths().map(Path::to_path_buf));
            }
        }
        // Names in a folder that was lost are lost.
        let mut names = std::mem::take(&mut self.synced_names);
        let all = names.clone();
        names.retain(|path, _| path.ancestors().all(|above| is_root(above) || all.contains_key(above)));
        (self.names, self.synced_names) = (names.clone(), names);
    }

    fn restart(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.crash_at = None;
        self.is_dead = false;
        for node in self.nodes.values_mut() {
            if let Node::File(content) = node {
                content.open_count = 0;
            }
        }
        self.sweep();
    }

    /// Removes the files that have no name and no open handle.
    fn sweep(&mut self) {
        let mut known: BTreeSet<u64> = self.names.values().chain(self.synced_names.values()).copied().collect();
        known.extend(self.changes.iter().flat_map(|change| change.0.iter().filter_map(|(_, node)| *node)));
        self.nodes
            .retain(|id, node| known.contains(id) || matches!(node, Node::File(content) if content.open_count > 0));
    }

    fn write(&mut self, node: u64, at: usize, bytes: &[u8]) -> io::Result<()> {
        let fate = self.begin()?;
        if self.is_full && at + bytes.len() > self.content(node).bytes.len() {
            return self.no_space();
        }
        let part = self.draw.below(bytes.len() as u64) as usize;
        match fate {
            // The rest of the sector would have to be read first.
            Fate::Done if self.content(node).is_partly_bad(at..at + bytes.len()) => {
                self.count("write into a bad sector");
                Err(unreadable())
            }
            Fate::Done if self.draw.chance(self.faults.write_permille) => {
                self.count("write error");
                self.content_mut(node).write(at, &bytes[..part]);
                Err(io::Error::other("the disk failed to write"))
            }
            Fate::Done => {
                self.content_mut(node).write(at, bytes);
                Ok(())
            }
            Fate::Before => self.dead_error(),
            Fate::Midway => {
                self.content_mut(node).write(at, &bytes[..part]);
                self.dead_error()
            }
            Fate::After => {
                self.content_mut(node).write(at, bytes);
                self.dead_error()
            }
        }
    }

    fn cut(&mut self, node: u64, bytes: usize) -> io::Result<()> {
        let fate = self.begin()?;
        if matches!(fate, Fate::Done) && self.draw.chance(self.faults.write_permille) {
            self.count("write error");
            return Err(io::Error::other("the disk failed to cut a file"));
        }
        if !matches!(fate, Fate::Before) {
            self.content_mut(node).cut(bytes);
        }
        if matches!(fate, Fate::Done) { Ok(()) } else { self.dead_error() }
    }

    fn sync(&mut self, node: u64) -> io::Result<()> {
        match self.begin()? {
            Fate::Done if mistakes::forgets_file(self.paths(node)) => Ok(()),
            Fate::Done if self.draw.chance(self.faults.sync_permille) => {
                self.count("sync error");
                let fate = self.draw.below(3);
                let content = self.content_mut(node);
                match fate {
                    0 => {}
                    1 => content.revert(),
                    _ => content.go_stale(),
                }
                Err(io::Error::other("the disk failed to sync"))
            }
            Fate::Done => {
                self.content_mut(node).settle();
                Ok(())
            }
            // The unsynced writes stay unsynced: a later power cut decides on them.
            Fate::Before | Fate::Midway => self.dead_error(),
            Fate::After => {
                self.content_mut(node).settle();
                self.dead_error()
            }
        }
    }

    fn fill(&mut self, node: u64, at: usize, bytes: usize) -> io::Result<()> {
        let fate = self.begin()?;
        if self.is_full {
            return self.no_space();
        }
        let part = self.draw.below(bytes as u64) as usize;
        let content = self.content_mut(node);
        match fate {
            Fate::Done | Fate::After => {
                content.write(at, &vec![0; bytes]);
                content.settle();
            }
            Fate::Midway => content.write(at, &vec![0; part]),
            Fate::Before => {}
        }
        if matches!(fate, Fate::Done) { Ok(()) } else { self.dead_error() }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        for (path, node) in &self.0 {
            match node {
                Some(node) => names.insert(path.clone(), *node),
                None => names.remove(path),
            };
        }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }
}

impl Disk for VirtualDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state().run_atomic(|state| {
            let missing: Vec<_> = path.ancestors().take_while(|above| state.check_folder(above).is_err()).collect();
            for folder in missing.into_iter().rev() {
                if state.names.contains_key(folder) {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                state.add(folder, Node::Folder);
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure> {
        let mut state = self.state();
        state.check_alive().and_then(|()| state.check_folder(folder_of(path))).map_err(LockFailure::Io)?;
        if state.locks.contains_key(path) {
            return Err(LockFailure::Held(None));
        }
        let number = state.next_lock;
        state.next_lock += 1;
        state.locks.insert(path.to_path_buf(), number);
        Ok(Box::new(VirtualLock { disk: self.clone(), path: path.to_path_buf(), number: Some(number) }))
    }

    fn lock_folder(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure> {
        if self.state().are_folders_locked {
            return self.lock(path);
        }
        Ok(Box::new(VirtualLock { disk: self.clone(), path: path.to_path_buf(), number: None }))
    }

    fn is_locked(&self, path: &Path) -> bool {
        self.state().locks.contains_key(path)
    }

    fn pause(&self, _: Duration) {}

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let node = state.run_atomic(|state| {
            if state.is_full {
                return state.no_space();
            }
            state.check_folder(folder_of(path))?;
            if state.names.contains_key(path) {
                let node = state.find_file(path)?;
                state.content_mut(node).cut(0);
                return Ok(node);
            }
            Ok(state.add(path, Node::File(Content::default())))
        })?;
        Ok(Box::new(self.handle(&mut state, node)))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.check_alive()?;
        let node = state.find_file(path)?;
        state.fail_open()?;
        Ok(Box::new(self.handle(&mut state, node)))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.check_alive()?;
        let node = match state.find_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.run_atomic(|state| {
                if state.is_full {
                    return state.no_space();
                }
                state.check_folder(folder_of(path))?;
                Ok(state.add(path, Node::File(Content::default())))
            })?,
            found => found?,
        };
        state.content_mut(node).is_appended = true;
        let mut file = self.handle(&mut state, node);
        file.is_at_end = true;
        Ok(Box::new(file))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskReader>> {
        let mut state = self.state();
        state.check_alive()?;
        let node = state.find_file(path)?;
        state.fail_open()?;
        Ok(Box::new(self.handle(&mut state, node)))
    }

    fn read_into(&self, path: &Path, buffer: &mut Vec<u8>) -> io::Result<Vec<Range<usize>>> {
        buffer.clear();
        let mut state = self.state();
        state.check_alive()?;
        let node = state.find_file(path)?;
        state.fail_open()?;
        let content = state.content(node);
        buffer.extend_from_slice(&content.bytes);
        let holes = content.holes(0..content.bytes.len());
        holes.iter().for_each(|hole| buffer[hole.clone()].fill(0));
        Ok(holes)
    }

    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.check_alive()?;
        let node = state.find_file(path)?;
        state.fail_open()?;
        let content = state.content(node);
        let bytes = bytes_max.min(content.bytes.len());
        if content.holes(0..bytes).is_empty() { Ok(content.bytes[..bytes].to_vec()) } else { Err(unreadable()) }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.check_alive()?;
        Ok(state.content(state.find_file(path)?).bytes.len() as u64)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        state.check_alive()?;
        state.check_folder(folder)?;
        let inside = state.names.keys().filter(|path| folder_of(path) == folder);
        Ok(inside.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().run_atomic(|state| {
            state.check_folder(folder_of(to))?;
            let node = state.find_file(from)?;
            state.fail_name("failed rename")?;
            state.change(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(node))]);
            Ok(())
        })
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().run_atomic(|state| {
            state.check_folder(folder_of(to))?;
            let node = state.find_file(from)?;
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.change(vec![(to.to_path_buf(), Some(node))]);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().run_atomic(|state| {
            state.find_file(path)?;
            state.fail_name("failed unlink")?;
            state.change(vec![(path.to_path_buf(), None)]);
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.state().run_atomic(|state| {
            state.check_folder(path)?;
            if !mistakes::forgets_folder(path) {
                state.sync_names(path);
            }
            Ok(())
        })
    }
}

/// A file that a process has open.
#[derive(Debug)]
struct Handle {
    disk: VirtualDisk,
    node: u64,
    generation: u64,
    at: usize,
    /// Whether it is in append mode.
    is_at_end: bool,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation != self.generation {
            return Err(io::Error::other("the process that opened this file is gone"));
        }
        Ok(state)
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        let at = if self.is_at_end { state.content(self.node).bytes.len() } else { self.at };
        state.write(self.node, at, bytes)?;
        drop(state);
        self.at = at + bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        state.check_alive()?;
        let content = state.content(self.node);
        let read = content.bytes.get(self.at..).unwrap_or_default().read(buffer)?;
        if !content.holes(self.at..self.at + read).is_empty() {
            return Err(unreadable());
        }
        drop(state);
        self.at += read;
        Ok(read)
    }
}

impl Seek for Handle {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at as u64, by),
            SeekFrom::End(by) => (DiskFile::len(self)?, by),
        };
        let at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        self.at = at as usize;
        Ok(at)
    }
}

impl DiskReader for Handle {
    fn again(&self) -> io::Result<Box<dyn DiskReader>> {
        let mut state = self.state()?;
        state.check_alive()?;
        Ok(Box::new(self.disk.handle(&mut state, self.node)))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let state = self.state()?;
        state.check_alive()?;
        Ok(state.find(path)? == self.node)
    }
}

impl DiskFile for Handle {
    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync(self.node)
    }

    fn fill_with_zeros(&mut self, bytes: u64) -> io::Result<()> {
        self.state()?.fill(self.node, self.at, bytes as usize)?;
        self.at += bytes as usize;
        Ok(())
    }

    fn seek_to(&mut self, offset: u64) -> io::Result<()> {
        self.at = offset as usize;
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.state()?.cut(self.node, bytes as usize)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.content(self.node).bytes.len() as u64)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        DiskReader::is_at(self, path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.content_mut(self.node).open_count -= 1;
            state.sweep();
        }
    }
}

#[derive(Debug)]
struct VirtualLock {
    disk: VirtualDisk,
    path: PathBuf,
    /// `None` on a folder where folders cannot be locked.
    number: Option<u64>,
}

impl VirtualLock {
    fn is_held(&self, state: &State) -> bool {
        self.number.is_none() || state.locks.get(&self.path).copied() == self.number
    }
}

impl Lock for VirtualLock {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(path == self.path && self.is_held(&self.disk.state()))
    }

    fn name_owner(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for VirtualLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // A lock that was removed, or released by a restart, may be another process' by now.
        if self.number.is_some() && self.is_held(&state) {
            state.locks.remove(&self.path);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path == Path::new("/") || path == Path::new("")
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("journal-") && name.ends_with(".seg")
}

#[cfg(test)]
mod tests;
