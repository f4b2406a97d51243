//! The C library's allocator: what a large document took goes back to the kernel.

/// Keeps large blocks out of the heap. glibc raises its threshold up to 32 MiB each time such a block is freed
/// (`M_MMAP_THRESHOLD`, mallopt(3)): then documents of megabytes share the heap with what lives for long, which keeps it
/// from shrinking. Musl has no such option and needs none.
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
