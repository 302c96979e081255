//! Code and constants of this process that are mapped and not in use.

#![allow(
    unsafe_code,
    reason = "only the loader knows what is mapped, and unmapping takes a raw address"
)]

use std::ffi::{c_int, c_void};

use libc::{PF_W, PT_LOAD, dl_phdr_info};
use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Unmaps the read-only pages of all programs and libraries of this process (`MADV_DONTNEED`,
/// madvise(2)). What is used again is mapped again by itself, 64 KiB at a time.
///
/// Reading a configuration and opening a service runs code that serving never does, and a page
/// that is mapped is among the last that a kernel short of memory gives up.
pub fn release() {
    // SAFETY: the callback has the type that is asked for, does not unwind, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
}

unsafe extern "C" fn release_object(
    info: *mut dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid structure.
    let (base, first, count) = unsafe {
        let count = usize::from((*info).dlpi_phnum);
        ((*info).dlpi_addr, (*info).dlpi_phdr, count)
    };
    if first.is_null() {
        return 0;
    }
    // SAFETY: so many headers begin there. They stay where they are as long as the object is
    // loaded, and it cannot be unloaded during the call.
    let headers = unsafe { std::slice::from_raw_parts(first, count) };
    let page = page_size();
    for header in headers {
        if header.p_type != PT_LOAD || header.p_flags & PF_W != 0 {
            continue;
        }
        let (Ok(first), Ok(bytes)) = (
            usize::try_from(base.wrapping_add(header.p_vaddr)),
            usize::try_from(header.p_memsz),
        ) else {
            continue;
        };
        let start = first & !(page - 1);
        let length = bytes + (first - start);
        let address = std::ptr::with_exposed_provenance_mut::<c_void>(start);
        // SAFETY: the loader has mapped these pages from a file, privately and not to be written,
        // so they come back with the same content; those of the kernel's own object (vdso(7)) the
        // kernel gives again. What is relocated lies in segments with `PF_W`, even if protected
        // later; code with relocations (`DT_TEXTREL`) is nothing that Rust or libc are built as.
        let _ = unsafe { madvise(address, length, Advice::LinuxDontNeed) };
    }
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What of this program's code is mapped, in KiB (`/proc/self/smaps`, proc(5)).
    fn resident_code_kib() -> u64 {
        let program = fs::read_link("/proc/self/exe").expect("a program");
        let program = program.to_str().expect("a path in UTF-8");
        let maps = fs::read_to_string("/proc/self/smaps").expect("maps");
        let mut is_code = false;
        let mut sum = 0;
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("Rss:") if is_code => {
                    sum += words.next().expect("a number").parse::<u64>().expect("KiB");
                }
                Some(first) if !first.ends_with(':') => {
                    is_code = words.next() == Some("r-xp") && line.ends_with(program);
                }
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn code_that_is_not_used_is_not_mapped() {
        // Other tests run meanwhile and bring in their own.
        let shrinks = || {
            let before = resident_code_kib();
            release();
            (1..before).contains(&resident_code_kib())
        };
        assert!((0..100).any(|_| shrinks()));
    }
}
