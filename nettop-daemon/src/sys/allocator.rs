//! The C library's allocator: what a large document took goes back to the kernel. Musl's does so by itself.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Keeps large blocks out of the heap. glibc raises its threshold up to 32 MiB each time such a block is freed
/// (`M_MMAP_THRESHOLD`, mallopt(3)): then documents of megabytes share the heap with what lives for long, which keeps it
/// from shrinking. Musl has no such option.
pub fn keep_large_blocks_apart() {
    #[cfg(target_env = "gnu")]
    {
        /// glibc's own value before it raises it.
        const MMAP_THRESHOLD_BYTES: i32 = 128 << 10;
        // SAFETY: sets a parameter; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        }
    }
}

/// Gives pages without a used block back to the kernel, some seconds after the last time: to be called between documents.
/// A document has small blocks by the thousand. By itself glibc shrinks a heap only at its end, where one used block keeps
/// all that is below it (`systrim`, `heap_trim`; glibc 2.36).
pub fn give_back_unused() {
    /// The next document takes its pages again, which costs a fault each.
    const TRIM_INTERVAL: Duration = Duration::from_secs(10);
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    // Who finds it locked has another do it.
    let Ok(mut last) = LAST.try_lock() else { return };
    if last.is_some_and(|last| last.elapsed() < TRIM_INTERVAL) {
        return;
    }
    *last = Some(Instant::now());
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(target_env = "gnu")]
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resident_kib() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn pages_between_used_blocks_go_back() {
        let mut blocks: Vec<Vec<u8>> = (0..64 << 10).map(|_| vec![1; 1 << 10]).collect();
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 64 == 0
        });
        let before = resident_kib();
        give_back_unused();
        let after = resident_kib();
        assert!(after + (32 << 10) < before, "{before} KiB, then {after} KiB");
        assert_eq!(blocks.len(), 1 << 10);
    }
}
