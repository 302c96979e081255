//! Memory as a run of words that several processes may share: a sealed, sparse memfd, or pages that
//! only this process sees.
//!
//! A page that nobody has written takes no memory. The size is sealed (`F_ADD_SEALS`, fcntl(2))
//! before the descriptor is handed to anybody, so no other holder can shrink the file and make an
//! access fault (SIGBUS, mmap(2)).

#![allow(
    unsafe_code,
    reason = "a mapping is only to be had as a raw pointer, which this file turns into a slice"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use super::word::AtomicU64;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Words in shared memory. Unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
    /// Whether its content stands in a file, which others may have.
    is_file: bool,
}

impl Mapping {
    /// New shared memory of so many words, all zero, and the descriptor by which other processes
    /// reach it. The descriptor is close-on-exec.
    ///
    /// # Errors
    /// When the kernel has no memfd, no descriptor or no address space for it.
    pub fn create(words: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("weir-board", flags)?;
        rustix::fs::ftruncate(&fd, bytes_of(words)? as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::SEAL)?;
        Ok((Self::map(fd.as_fd(), words, RIGHTS)?, fd))
    }

    /// New memory of so many words that only this process sees, all zero.
    ///
    /// # Errors
    /// When the kernel has no memory or no address space for it.
    pub(crate) fn private(words: usize) -> io::Result<Self> {
        let bytes = bytes_of(words)?;
        // SAFETY: with a null hint the kernel chooses a range that nothing else uses.
        let base = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, RIGHTS, MapFlags::PRIVATE)
        }?;
        Self::at(base, words, false)
    }

    /// All of the memory behind a descriptor that [`Mapping::create`] gave, perhaps to another
    /// process. The descriptor may be closed afterwards.
    ///
    /// # Errors
    /// `InvalidData` when its size is not sealed; else as the kernel says.
    pub fn attach(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::map(fd, sealed_words(fd)?, RIGHTS)
    }

    /// The same, only to be read: who writes there ends this process.
    ///
    /// # Errors
    /// As [`Mapping::attach`].
    pub fn observe(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::map(fd, sealed_words(fd)?, ProtFlags::READ)
    }

    /// The words.
    #[must_use]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is the start of a live mapping of `words` words, page-aligned, readable,
        // and writable where it is written to, until `drop`; the seals keep a file at least that
        // long. Every bit pattern is an AtomicU64, and all processes access the words atomically
        // only.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    /// Unmaps the pages of shared memory: they count no more as this process's until it looks at
    /// them again. Their content stays (`MADV_DONTNEED`, madvise(2)). Of private memory nothing.
    pub(crate) fn release(&self) {
        if !self.is_file {
            return;
        }
        let (base, bytes) = (self.base.as_ptr().cast(), self.words * 8);
        // SAFETY: the range is a live mapping of a file, so what is read there next is what the
        // file has, which is what was there before.
        let _ = unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxDontNeed) };
    }

    fn map(fd: BorrowedFd<'_>, words: usize, rights: ProtFlags) -> io::Result<Self> {
        let bytes = bytes_of(words)?;
        // SAFETY: with a null hint the kernel chooses a range that nothing else uses.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, rights, MapFlags::SHARED, fd, 0) }?;
        Self::at(base, words, true)
    }

    fn at(base: *mut std::ffi::c_void, words: usize, is_file: bool) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            words,
            is_file,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `map` was given, and no slice of it outlives `self`.
        // It fails only for a range that is no mapping.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}

const RIGHTS: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// How large the memory behind a descriptor is, for good.
fn sealed_words(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let seals = rustix::fs::fcntl_get_seals(fd)?;
    if !seals.contains(SIZE_SEALS) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let bytes = rustix::fs::fstat(fd)?.st_size;
    usize::try_from(bytes / 8).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn bytes_of(words: usize) -> io::Result<usize> {
    let bytes = words.checked_mul(8).filter(|&bytes| bytes > 0);
    bytes.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn two_mappings_of_a_descriptor_are_one_memory() {
        let (one, fd) = Mapping::create(1000).expect("memory");
        let two = Mapping::attach(fd.as_fd()).expect("the same");
        drop(fd);
        assert!(one.words().iter().all(|word| word.load(Relaxed) == 0));
        one.words()[999].store(7, Relaxed);
        assert_eq!(two.words()[999].load(Relaxed), 7);
        drop(one);
        assert_eq!(two.words()[999].load(Relaxed), 7);
    }

    #[test]
    fn private_memory_is_zero_and_writable() {
        let memory = Mapping::private(1000).expect("memory");
        assert!(memory.words().iter().all(|word| word.load(Relaxed) == 0));
        memory.words()[999].store(7, Relaxed);
        assert_eq!(memory.words()[999].load(Relaxed), 7);
        assert!(Mapping::private(0).is_err() && Mapping::private(usize::MAX).is_err());
    }

    #[test]
    fn memory_that_is_released_keeps_what_is_there() {
        let (shared, _fd) = Mapping::create(1000).expect("memory");
        let private = Mapping::private(1000).expect("memory");
        for memory in [shared, private] {
            memory.words()[999].store(7, Relaxed);
            memory.release();
            assert_eq!(memory.words()[999].load(Relaxed), 7);
        }
    }

    #[test]
    fn memory_that_could_shrink_or_has_no_words_is_refused() {
        let (_, sealed) = Mapping::create(1000).expect("memory");
        let attached = Mapping::attach(sealed.as_fd()).expect("the same");
        assert_eq!(attached.words().len(), 1000);
        let (_, writable) = Mapping::create(1).expect("memory");
        assert_eq!(
            Mapping::attach(writable.as_fd())
                .expect("the same")
                .words()
                .len(),
            1
        );
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("test", flags).expect("a memfd");
        rustix::fs::ftruncate(&open, 8000).expect("a size");
        let error = Mapping::attach(open.as_fd()).expect_err("not sealed");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(rustix::fs::ftruncate(&sealed, 0).is_err());
    }

    #[test]
    fn untouched_memory_costs_nothing() {
        let (memory, fd) = Mapping::create(1 << 23).expect("memory");
        memory.words()[1 << 22].store(1, Relaxed);
        let blocks = rustix::fs::fstat(&fd).expect("a state").st_blocks;
        assert!(
            blocks * 512 <= 2 * 1024 * 1024,
            "{blocks} blocks for one word"
        );
    }
}
