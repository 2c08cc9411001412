//! Requested memory: the bytes that a thread requests from the allocator, counted while a [`Count`] exists.
//!
//! Resident memory also has what the allocator adds (headers, size classes, holes) and depends on what was freed
//! before. Requested bytes are exact and the same on each machine, and the slack of a vector that grew counts in full.
//!
//! The crates for this (`stats_alloc`, `cap`) count the whole process, all the time: the timed figures would pay for
//! it, and those of an older build, which they are compared with, would not. Here an allocation pays for the read of a
//! thread-local variable.
#![allow(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait, and there is no other way to see allocations")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;

/// The system's allocator, with what each thread requests counted.
pub struct Counting;

/// Counts what this thread requests until it is dropped; one at a time on a thread.
pub struct Count {
    /// It is the count of the thread that started it.
    _thread: PhantomData<*const ()>,
}

/// Bytes since the count began. What was freed that was there before counts against them.
#[derive(Clone, Copy)]
struct Bytes {
    live: i64,
    peak: i64,
}

thread_local! {
    // Neither lazily initialised nor dropped, so reading it allocates nothing and is possible at any time of a thread.
    static BYTES: Cell<Option<Bytes>> = const { Cell::new(None) };
}

impl Count {
    /// Starts to count.
    pub fn start() -> Self {
        let old = BYTES.replace(Some(Bytes { live: 0, peak: 0 }));
        assert!(old.is_none(), "a thread counts once at a time");
        Count { _thread: PhantomData }
    }

    /// Bytes requested since the start and not freed.
    pub fn live(&self) -> i64 {
        self.bytes().live
    }

    /// The most that was live at any moment since the start.
    pub fn peak(&self) -> i64 {
        self.bytes().peak
    }

    fn bytes(&self) -> Bytes {
        BYTES.get().expect("it counts until it is dropped")
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        BYTES.set(None);
    }
}

/// Does not allocate and does not panic, as `GlobalAlloc` asks: it reads and writes one variable.
fn add(bytes: i64) {
    // No error is possible: the variable has no destructor.
    _ = BYTES.try_with(|cell| {
        let Some(Bytes { live, peak }) = cell.get() else { return };
        let live = live.wrapping_add(bytes);
        cell.set(Some(Bytes { live, peak: peak.max(live) }));
    });
}

/// A layout's size is at most `isize::MAX`.
fn signed(size: usize) -> i64 {
    size as i64
}

// SAFETY: each method hands its arguments to the same method of `System` unchanged and returns its result unchanged, so
// what `System` guarantees holds here, and what a caller guarantees here is what `System` asks for. Blocks are only
// ever `System`'s. Beside that only `add` is called, which touches no block, does not allocate and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are passed on.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            add(signed(layout.size()));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            add(signed(layout.size()));
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's guarantees are passed on.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            add(signed(size) - signed(layout.size()));
        }
        moved
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.dealloc(block, layout) };
        add(-signed(layout.size()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn what_is_requested_is_counted_to_the_byte_and_the_peak_stays() {
        let count = Count::start();
        let mut block = black_box(Vec::<u8>::with_capacity(1_000));
        assert_eq!((count.live(), count.peak()), (1_000, 1_000));
        block.reserve_exact(3_000);
        assert_eq!(count.live(), 3_000, "a block that grows in place or moves is one block");
        block.shrink_to(500);
        let zeroed = black_box(vec![0u8; 64]);
        assert_eq!(count.live(), 564);
        drop((block, zeroed));
        assert_eq!((count.live(), count.peak()), (0, 3_000));
    }

    #[test]
    fn what_was_there_before_or_is_another_threads_is_not_counted() {
        let before = black_box(vec![1u8; 100]);
        let count = Count::start();
        std::thread::scope(|scope| {
            scope.spawn(|| black_box(vec![1u8; 1 << 20])).join().expect("it ends well");
        });
        assert!(count.live() < 1 << 16, "{} bytes are the handle's, not the thread's block", count.live());
        let live = count.live();
        drop(before);
        assert_eq!(count.live(), live - 100);
        drop(count);
        let count = Count::start();
        assert_eq!((count.live(), count.peak()), (0, 0), "each count begins at zero");
    }
}
