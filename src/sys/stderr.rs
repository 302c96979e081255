//! A writer for the log that never makes the loop wait.
//!
//! Standard error is often a pipe, and whoever reads it may stall. Its file description is shared
//! with other processes, so it must not be made non-blocking. Instead each write is preceded by a
//! look whether it would block, and kept to a size that cannot block after such a look. What does
//! not fit is dropped, counted, and owned up to in the next line that does.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether standard error is the journal, which has times of its own and takes priorities: the
/// service manager says which file the journal is (systemd.exec(5), `JOURNAL_STREAM`), and that may
/// have been redirected since.
#[must_use]
pub fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is_it = |file: rustix::fs::Stat| is_named(&named, file.st_dev, file.st_ino);
    rustix::fs::fstat(io::stderr()).is_ok_and(is_it)
}

fn is_named(named: &str, device: u64, inode: u64) -> bool {
    let parts = named.split_once(':');
    parts.is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// The most that is written after one look: a pipe that is writable takes this much (pipe(7),
/// `PIPE_BUF`).
const CHUNK_BYTES: usize = 4096;

/// Writes whole lines where they do not block, and drops them where they do.
///
/// One call of `write` is one line, and always reports all of it as written.
#[derive(Debug)]
pub struct LossyWriter<F> {
    descriptor: F,
    lines_lost: u64,
    /// What its own lines begin with.
    mark: &'static str,
    /// The last thing written was a part of a line.
    torn: bool,
}

impl LossyWriter<io::Stderr> {
    /// The writer for standard error; its own lines begin with `mark`.
    #[must_use]
    pub fn stderr(mark: &'static str) -> Self {
        Self {
            mark,
            ..Self::new(io::stderr())
        }
    }
}

impl<F: AsFd> LossyWriter<F> {
    /// A writer for any descriptor.
    pub(crate) fn new(descriptor: F) -> Self {
        Self {
            descriptor,
            lines_lost: 0,
            mark: "",
            torn: false,
        }
    }

    /// Says how many lines were lost; `false` when even that does not fit.
    fn confess(&mut self) -> bool {
        if self.lines_lost == 0 {
            return true;
        }
        let line_end = if self.torn { "\n" } else { "" };
        let (mark, lost) = (self.mark, self.lines_lost);
        let notice = format!("{line_end}{mark}weir: {lost} log lines were lost\n");
        if write_ready(&self.descriptor, notice.as_bytes()).bytes < notice.len() {
            return false;
        }
        self.lines_lost = 0;
        self.torn = false;
        true
    }
}

impl<F: AsFd> Write for LossyWriter<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let done = if self.confess() {
            write_ready(&self.descriptor, line).bytes
        } else {
            0
        };
        if done < line.len() {
            self.lines_lost += 1;
            self.torn |= done > 0;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How far a write came.
#[derive(Debug)]
pub struct WriteProgress {
    /// Bytes that were written.
    pub bytes: usize,
    /// Why no more were; none when that was all, or when more would have blocked.
    pub error: Option<io::Error>,
}

/// Writes as much of `bytes` as does not block. Each write ends with a line where it can, so that
/// lines of several processes do not mix: a write of so few bytes is not interrupted by another
/// one (pipe(7); files opened to append, write(2)).
pub fn write_lines(descriptor: impl AsFd, bytes: &[u8]) -> WriteProgress {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let chunk = &rest[..whole_lines(rest)];
        let progress = write_ready(&descriptor, chunk);
        done += progress.bytes;
        if progress.bytes < chunk.len() {
            let error = progress.error;
            return WriteProgress { bytes: done, error };
        }
    }
    WriteProgress {
        bytes: done,
        error: None,
    }
}

/// The length of the whole lines that fit one write; all that fits when a line is longer.
fn whole_lines(bytes: &[u8]) -> usize {
    let fits = &bytes[..bytes.len().min(CHUNK_BYTES)];
    let last = fits.iter().rposition(|&byte| byte == b'\n');
    last.map_or(fits.len(), |last| last + 1)
}

/// Writes as much of `bytes` as does not block.
pub(crate) fn write_ready(descriptor: impl AsFd, bytes: &[u8]) -> WriteProgress {
    let mut done = 0;
    let mut error = None;
    while done < bytes.len() && is_ready(&descriptor) {
        let chunk = &bytes[done..bytes.len().min(done + CHUNK_BYTES)];
        match rustix::io::write(&descriptor, chunk) {
            Ok(count) if count > 0 => done += count,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => break,
            Err(errno) => {
                error = Some(errno.into());
                break;
            }
        }
    }
    WriteProgress { bytes: done, error }
}

/// Whether a write would return at once, with success or with an error.
fn is_ready(descriptor: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&descriptor, PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let answered = poll(&mut fds, Some(&at_once));
    let ready = PollFlags::OUT | PollFlags::ERR | PollFlags::HUP;
    answered.is_ok() && fds[0].revents().intersects(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn full_pipe() -> (File, LossyWriter<OwnedFd>) {
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        let mut writer = LossyWriter::new(write_end);
        while writer.lines_lost == 0 {
            writer.write_all(&[b'x'; CHUNK_BYTES]).expect("never fails");
        }
        (File::from(read_end), writer)
    }

    fn read_some(from: &mut File, bytes: usize) -> Vec<u8> {
        let mut seen = vec![0; bytes];
        from.read_exact(&mut seen).expect("they were written");
        seen
    }

    #[test]
    fn a_line_that_would_block_is_dropped() {
        let (_reader, mut writer) = full_pipe();
        writer.write_all(b"one more\n").expect("never fails");
        assert_eq!(writer.lines_lost, 2);
    }

    #[test]
    fn the_next_line_that_fits_says_how_many_were_lost() {
        let (mut reader, mut writer) = full_pipe();
        read_some(&mut reader, 4 * CHUNK_BYTES);
        writer.write_all(b"here again\n").expect("never fails");
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("readable");
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.ends_with("weir: 1 log lines were lost\nhere again\n"));
    }

    #[test]
    fn what_follows_a_torn_line_starts_on_a_line_of_its_own() {
        let (mut reader, mut writer) = full_pipe();
        read_some(&mut reader, CHUNK_BYTES);
        writer.lines_lost = 0;
        writer
            .write_all(&[b'y'; 3 * CHUNK_BYTES])
            .expect("never fails");
        assert_eq!(writer.lines_lost, 1);
        assert!(writer.torn);
        read_some(&mut reader, 4 * CHUNK_BYTES);
        writer.write_all(b"whole\n").expect("never fails");
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("readable");
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.ends_with("y\nweir: 1 log lines were lost\nwhole\n"));
    }

    #[test]
    fn a_write_ends_with_a_line_where_it_can() {
        assert_eq!(whole_lines(b"one\ntwo\nthr"), 8);
        assert_eq!(whole_lines(b"one"), 3);
        let mut long = vec![b'x'; CHUNK_BYTES - 1];
        long.extend(b"\nmore\n");
        assert_eq!(whole_lines(&long), CHUNK_BYTES);
        long.insert(0, b'x');
        assert_eq!(whole_lines(&long), CHUNK_BYTES);
    }

    #[test]
    fn a_failed_write_says_why_and_one_that_would_block_does_not() {
        let full = File::options().write(true).open("/dev/full");
        let progress = write_lines(full.expect("it is there"), b"line\n");
        assert_eq!(progress.bytes, 0);
        let error = progress.error.expect("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let (reader, writer) = full_pipe();
        let progress = write_lines(&writer.descriptor, b"line\n");
        assert!(progress.bytes == 0 && progress.error.is_none());
        drop(reader);
        let progress = write_lines(&writer.descriptor, b"line\n");
        let error = progress.error.expect("nobody reads it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_journal_is_the_file_that_is_named() {
        assert!(is_named("8:1234", 8, 1234));
        for named in [
            "", "8", "8:", ":1234", "8:1235", "9:1234", "8:1234:1", "8 :1234",
        ] {
            assert!(!is_named(named, 8, 1234), "{named}");
        }
    }

    #[test]
    fn what_was_lost_is_told_with_its_mark() {
        let (mut reader, mut writer) = full_pipe();
        writer.mark = "<4>";
        read_some(&mut reader, 4 * CHUNK_BYTES);
        writer.write_all(b"<6>here again\n").expect("never fails");
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("readable");
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.ends_with("<4>weir: 1 log lines were lost\n<6>here again\n"));
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, mut writer) = full_pipe();
        drop(reader);
        writer.write_all(b"to nobody\n").expect("never fails");
    }
}
