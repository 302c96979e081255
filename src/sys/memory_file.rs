//! Files in memory that hand a text to another process: a sealed memfd (memfd_create(2)).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A file in memory with these bytes, which nobody can change any more. Close-on-exec.
///
/// # Errors
/// When the kernel has no memory or no descriptor for it.
pub fn create(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// All bytes of such a file.
///
/// # Errors
/// When it cannot be read, or holds more than `bytes_max`.
pub fn read(fd: OwnedFd, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_kept(&File::from(fd), bytes_max)
}

/// The same of one that may be read again.
///
/// # Errors
/// As [`read`].
pub fn read_kept(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; length];
    // The place where a file is read is common to all who have its descriptor from each other,
    // and several may read at once.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_may_read_it_at_once() {
        let text = vec![b'x'; 1_000_000];
        let fd = create("test", &text).expect("memory");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (fd, text) = (&fd, &text);
                scope.spawn(move || {
                    for _ in 0..20 {
                        let same = fd.try_clone().expect("a duplicate");
                        assert!(read(same, 1_000_000).expect("readable") == *text);
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_written_once_is_read_any_time_and_never_changed() {
        let fd = create("test", b"some text").expect("memory");
        for _ in 0..2 {
            let again = fd.try_clone().expect("a duplicate");
            assert_eq!(read(again, 9).expect("readable"), b"some text");
        }
        assert!(rustix::io::write(&fd, b"more").is_err());
        let error = read(fd, 8).expect_err("it is longer");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
