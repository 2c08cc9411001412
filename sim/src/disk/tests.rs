//! Tests of the virtual disk: what each kind of end leaves, over many seeds.

use super::content::SECTOR_BYTES;
use super::*;
use crate::draw::Stream;
use std::ffi::OsStr;

const FILE: &str = "/data/file";

fn draw(seed: u64) -> Draw {
    Draw::new(seed, Stream::Traffic)
}

/// A disk with a durable folder, `/data`.
fn disk(seed: u64) -> VirtualDisk {
    let disk = VirtualDisk::new(draw(seed));
    disk.create_folder(Path::new("/data")).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    disk
}

/// A disk with a durable file of these bytes, and the file.
fn disk_with(seed: u64, bytes: &[u8]) -> (VirtualDisk, Box<dyn DiskFile>) {
    let disk = disk(seed);
    let mut file = disk.create(Path::new(FILE)).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
    disk.sync_folder(Path::new("/data")).unwrap();
    file.seek_to(0).unwrap();
    (disk, file)
}

fn read(disk: &VirtualDisk, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.read_into(Path::new(path), &mut bytes).ok().map(|_| bytes)
}

/// What came of 200 seeds.
fn outcomes<T: Ord>(run: impl Fn(u64) -> T) -> BTreeSet<T> {
    (0..200).map(run).collect()
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    for seed in 0..50 {
        let (disk, _file) = disk_with(seed, &[7; 3_000]);
        disk.crash(&mut draw(seed));
        assert_eq!(read(&disk, FILE).unwrap(), [7; 3_000]);
    }
}

#[test]
fn a_write_that_was_not_synced_is_seen_and_each_sector_of_it_may_be_lost() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 4 * SECTOR_BYTES]);
        file.write_all(&[2; 4 * SECTOR_BYTES]).unwrap();
        assert_eq!(read(&disk, FILE).unwrap(), [2; 4 * SECTOR_BYTES]);
        disk.crash(&mut draw(seed));
        let bytes = read(&disk, FILE).unwrap();
        bytes
            .chunks(SECTOR_BYTES)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
                sector[0]
            })
            .collect::<Vec<_>>()
    });
    for expected in [[1, 1, 1, 1], [2, 2, 2, 2], [2, 2, 1, 1], [1, 2, 1, 2], [1, 1, 2, 2]] {
        assert!(found.contains(expected.as_slice()), "{expected:?} of {found:?}");
    }
}

#[test]
fn of_writes_over_each_other_the_earlier_may_be_what_survives() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 8]);
        for byte in [2, 3] {
            file.seek_to(0).unwrap();
            file.write_all(&[byte; 8]).unwrap();
        }
        disk.crash(&mut draw(seed));
        read(&disk, FILE).unwrap()
    });
    assert_eq!(found, [vec![1; 8], vec![2; 8], vec![3; 8]].into());
}

#[test]
fn a_file_that_grew_may_have_its_old_size_or_zeros_where_bytes_did_not_arrive() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; SECTOR_BYTES]);
        file.seek_to(SECTOR_BYTES as u64).unwrap();
        file.write_all(&[2; 2 * SECTOR_BYTES]).unwrap();
        disk.crash(&mut draw(seed));
        let bytes = read(&disk, FILE).unwrap();
        bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>()
    });
    assert_eq!(found, [vec![1], vec![1, 0, 2], vec![1, 2, 0], vec![1, 2, 2]].into());
}

#[test]
fn a_file_made_anew_over_another_may_have_the_old_bytes() {
    let found = outcomes(|seed| {
        let (disk, _file) = disk_with(seed, &[1; 8]);
        disk.create(Path::new(FILE)).unwrap();
        assert_eq!(read(&disk, FILE), Some(vec![]));
        disk.crash(&mut draw(seed));
        read(&disk, FILE).unwrap()
    });
    assert_eq!(found, [vec![], vec![1; 8]].into());
}

#[test]
fn a_name_lasts_only_when_its_folder_was_synced_and_names_survive_in_their_order() {
    let found = outcomes(|seed| {
        let disk = disk(seed);
        for name in ["a", "b"] {
            disk.create(&Path::new("/data").join(name)).unwrap().sync().unwrap();
        }
        disk.rename(Path::new("/data/a"), Path::new("/data/c")).unwrap();
        disk.crash(&mut draw(seed));
        let mut names = disk.names(Path::new("/data")).unwrap();
        names.sort();
        names.join(OsStr::new("")).into_string().unwrap()
    });
    assert_eq!(found, ["", "a", "ab", "bc"].map(str::to_owned).into());
}

#[test]
fn a_removed_file_may_come_back_until_its_folder_is_synced() {
    let after = |is_synced: bool| {
        outcomes(|seed| {
            let (disk, _file) = disk_with(seed, &[1; 8]);
            disk.remove(Path::new(FILE)).unwrap();
            assert_eq!(read(&disk, FILE), None);
            if is_synced {
                disk.sync_folder(Path::new("/data")).unwrap();
            }
            disk.crash(&mut draw(seed));
            read(&disk, FILE).is_some()
        })
    };
    assert_eq!(after(false), [false, true].into());
    assert_eq!(after(true), [false].into());
}

#[test]
fn what_is_in_a_folder_whose_own_name_was_not_synced_may_be_gone_with_it() {
    let found = outcomes(|seed| {
        let disk = VirtualDisk::new(draw(seed));
        disk.create_folder(Path::new("/data")).unwrap();
        disk.create(Path::new(FILE)).unwrap();
        disk.sync_folder(Path::new("/data")).unwrap();
        disk.crash(&mut draw(seed));
        disk.names(Path::new("/data")).is_ok()
    });
    assert_eq!(found, [false, true].into());
}

#[test]
fn a_file_is_appended_to_wherever_its_end_is_and_a_cut_is_lost_with_the_power_like_a_write() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 4]);
        let mut end = disk.open_to_append(Path::new(FILE)).unwrap();
        file.write_all(&[2; 8]).unwrap();
        end.write_all(&[3; 2]).unwrap();
        assert_eq!(read(&disk, FILE).unwrap(), [[2; 8].as_slice(), &[3; 2]].concat());
        file.sync().unwrap();
        end.set_len(3).unwrap();
        end.write_all(&[4]).unwrap();
        assert_eq!(read(&disk, FILE), Some(vec![2, 2, 2, 4]));
        disk.crash(&mut draw(seed));
        read(&disk, FILE).unwrap()
    });
    assert!(found.contains(&[[2; 8].as_slice(), &[3; 2]].concat()) && found.contains([2, 2, 2, 4].as_slice()));
}

#[test]
fn a_file_that_is_read_again_is_the_same_though_another_has_its_name() {
    let (disk, _file) = disk_with(1, &[1; 4]);
    let reader = disk.open_to_read(Path::new(FILE)).unwrap();
    assert!(reader.is_at(Path::new(FILE)).unwrap());
    disk.rename(Path::new(FILE), Path::new("/data/other")).unwrap();
    disk.create(Path::new(FILE)).unwrap();
    assert!(!reader.is_at(Path::new(FILE)).unwrap() && reader.is_at(Path::new("/data/other")).unwrap());
    let mut bytes = Vec::new();
    reader.again().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [1; 4]);
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote_and_its_files_are_dead() {
    let (disk, mut file) = disk_with(1, &[1; 8]);
    file.write_all(&[2; 8]).unwrap();
    disk.rename(Path::new(FILE), Path::new("/data/other")).unwrap();
    disk.kill();
    assert_eq!(read(&disk, "/data/other").unwrap(), [2; 8]);
    assert!(file.write_all(&[3; 8]).is_err() && file.sync().is_err());
    assert_eq!(read(&disk, "/data/other").unwrap(), [2; 8]);
}

#[test]
fn a_lock_keeps_others_out_until_it_is_dropped_or_its_process_ends() {
    let disk = disk(1);
    let path = Path::new("/data/lock");
    let first = disk.lock(path).unwrap();
    assert!(matches!(disk.lock(path), Err(LockFailure::Held(_))) && disk.is_locked(path));
    drop(first);
    let second = disk.lock(path).unwrap();
    disk.kill();
    let third = disk.lock(path).unwrap();
    drop(second);
    assert!(disk.is_locked(path), "a dead process' lock releases no other's");
    drop(third);
    assert!(!disk.is_locked(path));
}

#[test]
fn a_lock_whose_file_was_removed_excludes_nobody_and_releases_no_others() {
    let disk = disk(1);
    let path = Path::new("/data/lock");
    let first = disk.lock(path).unwrap();
    assert!(first.is_at(path).unwrap());
    disk.remove_lock(path);
    assert!(!first.is_at(path).unwrap() && !disk.is_locked(path));
    let second = disk.lock(path).unwrap();
    assert!(!first.is_at(path).unwrap() && second.is_at(path).unwrap());
    drop(first);
    assert!(disk.is_locked(path));
}

#[test]
fn a_machine_that_does_not_see_locks_of_folders_is_kept_out_by_files_only() {
    let disk = disk(1);
    let (folder, path) = (Path::new("/data"), Path::new("/data/lock"));
    let _locks = (disk.lock_folder(folder).unwrap(), disk.lock(path).unwrap());
    assert!(disk.lock_folder(folder).is_err());
    disk.without_folder_locks(|| {
        assert!(disk.lock_folder(folder).unwrap().is_at(folder).unwrap());
        assert!(disk.lock(path).is_err());
    });
    assert!(disk.lock_folder(folder).is_err(), "the first still holds it");
}

#[test]
fn at_a_crash_point_the_operation_is_done_or_not_or_in_part_and_nothing_goes_after_it() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 8]);
        disk.crash_at(disk.ops() + 2);
        file.write_all(&[2; 4]).unwrap();
        assert!(!disk.is_dead());
        file.write_all(&[3; 4]).unwrap_err();
        assert!(disk.is_dead());
        file.sync().unwrap_err();
        disk.create(Path::new("/data/other")).unwrap_err();
        disk.kill();
        assert!(!disk.is_dead() && disk.create(Path::new("/data/other")).is_ok());
        read(&disk, FILE).unwrap().iter().filter(|byte| **byte == 3).count()
    });
    assert_eq!(found, (0..=4).collect());
}

#[test]
fn a_failed_write_arrives_in_part() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 4]);
        disk.set_faults(Faults { write_permille: 1_000, ..Faults::default() });
        file.write_all(&[2; 4]).unwrap_err();
        assert_eq!(disk.tally(), [("write error", 1)].into());
        read(&disk, FILE).unwrap().iter().filter(|byte| **byte == 2).count()
    });
    assert_eq!(found, (0..4).collect());
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_what_was_written_may_never_arrive() {
    let found = outcomes(|seed| {
        let (disk, mut file) = disk_with(seed, &[1; 4]);
        file.write_all(&[2; 4]).unwrap();
        disk.set_faults(Faults { sync_permille: 1_000, ..Faults::default() });
        file.sync().unwrap_err();
        let seen = read(&disk, FILE).unwrap()[0];
        disk.set_faults(Faults::default());
        file.sync().unwrap();
        disk.crash(&mut draw(seed));
        (seen, read(&disk, FILE).unwrap()[0])
    });
    assert_eq!(found, [(2, 2), (1, 1), (2, 1)].into());
}

#[test]
fn what_was_forgotten_by_a_failed_sync_arrives_when_it_is_written_once_more() {
    for seed in 0..50 {
        let (disk, mut file) = disk_with(seed, &[1; 4]);
        file.write_all(&[2; 4]).unwrap();
        disk.set_faults(Faults { sync_permille: 1_000, ..Faults::default() });
        file.sync().unwrap_err();
        disk.set_faults(Faults::default());
        file.seek_to(0).unwrap();
        file.write_all(&[2; 4]).unwrap();
        file.sync().unwrap();
        disk.crash(&mut draw(seed));
        assert_eq!(read(&disk, FILE).unwrap(), [2; 4]);
    }
}

#[test]
fn a_full_disk_takes_what_needs_no_room() {
    let (disk, mut file) = disk_with(1, &[1; 8]);
    disk.set_full(true);
    file.write_all(&[2; 8]).unwrap();
    let kind = |error: io::Error| error.kind();
    assert_eq!(file.write_all(&[2; 1]).map_err(kind), Err(io::ErrorKind::StorageFull));
    assert_eq!(disk.create(Path::new("/data/b")).map(drop).map_err(kind), Err(io::ErrorKind::StorageFull));
    assert_eq!(file.fill_with_zeros(9).map_err(kind), Err(io::ErrorKind::StorageFull));
    disk.set_full(false);
    file.write_all(&[2; 1]).unwrap();
    assert_eq!((disk.bytes(), disk.files()), (9, vec![(FILE.into(), 9)]));
    assert_eq!(disk.tally(), [("no space", 3)].into());
}

#[test]
fn a_bit_flips_in_what_was_written_to_a_synced_segment_before_its_last_batches_and_nowhere_else() {
    let (disk, _file) = disk_with(1, &[1; 8]);
    assert_eq!(disk.flip_bit(&mut draw(1)), None);
    let path = Path::new("/data/journal-00000000000000000001.seg");
    let mut file = disk.create(path).unwrap();
    file.write_all(&[1, 1, 1, 0, 0, 0]).unwrap();
    assert_eq!(disk.flip_bit(&mut draw(1)), None, "it is not synced");
    file.sync().unwrap();
    assert_eq!(disk.flip_bit(&mut draw(1)), None, "it has one batch");
    for _ in 0..2 {
        file.write_all(&[2]).unwrap();
    }
    file.sync().unwrap();
    let (found, at) = disk.flip_bit(&mut draw(1)).unwrap();
    assert!(found == path && at < 6);
    assert_ne!(read(&disk, "/data/journal-00000000000000000001.seg").unwrap(), [1, 1, 1, 0, 0, 0, 2, 2]);
}

#[test]
fn a_file_that_is_neither_named_nor_open_is_forgotten() {
    let (disk, file) = disk_with(1, &[1; 8]);
    disk.remove(Path::new(FILE)).unwrap();
    disk.sync_folder(Path::new("/data")).unwrap();
    assert_eq!(disk.bytes(), 8);
    drop(file);
    assert_eq!(disk.bytes(), 0);
}

#[test]
fn a_bad_sector_is_neither_read_nor_written_in_part_and_readable_once_it_was_written_whole() {
    for seed in 0..50 {
        let (disk, mut file) = disk_with(seed, &[1; 2 * SECTOR_BYTES]);
        let (_, at) = disk.spoil_sector_of(&mut draw(seed), |_| true).unwrap();
        let whole = |disk: &VirtualDisk| {
            let mut bytes = Vec::new();
            disk.open_to_read(Path::new(FILE)).unwrap().read_to_end(&mut bytes).map(|_| bytes)
        };
        assert!(whole(&disk).is_err());
        file.seek_to(at + 1).unwrap();
        assert!(file.write_all(&[2; SECTOR_BYTES - 1]).is_err(), "a part of it");
        file.seek_to(at).unwrap();
        file.write_all(&[3; SECTOR_BYTES]).unwrap();
        assert_eq!(whole(&disk).unwrap()[at as usize], 3);
    }
}
