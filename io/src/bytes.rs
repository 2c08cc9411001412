//! Bytes of files: numbers, all little-endian, and checksums.

use crc32fast::Hasher;

/// The number at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

/// The number at an offset.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

/// The bytes at an offset.
pub fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller has checked the length")
}

/// The CRC-32 of what the hasher has taken and of all bytes but the four at `hole`, which hold it.
pub fn crc_around(mut hasher: Hasher, bytes: &[u8], hole: usize) -> u32 {
    hasher.update(&bytes[..hole]);
    hasher.update(&bytes[hole + 4..]);
    hasher.finalize()
}
