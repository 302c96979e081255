//! Of a private key nothing stays in memory that was given back, where it passes through weir's
//! hands: the text of its file and what it stands for.

#![cfg(feature = "tls")]
#![allow(
    unsafe_code,
    reason = "what is given back can only be looked at from within an allocator"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::slice;

use weir::tls::material::Secret;
use weir::tls::{certificates_in, key_in};

/// Looks for what is wanted in all that is given back.
struct Looking;

/// So many bytes of a secret are none by chance.
const WANTED_BYTES: usize = 16;

thread_local! {
    static WANTED: RefCell<Vec<[u8; WANTED_BYTES]>> = const { RefCell::new(Vec::new()) };
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

fn look_at(bytes: &[u8]) {
    WANTED.with_borrow(|wanted| {
        let found = bytes
            .windows(WANTED_BYTES)
            .any(|window| wanted.iter().any(|it| it == window));
        FOUND.set(FOUND.get() + usize::from(found));
    });
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Looking {
    /// Zeroed, so that all of it may be looked at later.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if IS_LOOKING.get() {
            // SAFETY: it is the caller's until now, and was initialized from the beginning.
            look_at(unsafe { slice::from_raw_parts(pointer, layout.size()) });
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// How many blocks were given back with some of it in them.
fn left_behind(secrets: &[&[u8]], act: impl FnOnce()) -> usize {
    let pieces = secrets.iter().flat_map(|secret| {
        let pieces = secret.chunks_exact(WANTED_BYTES).skip(2).step_by(3);
        pieces.filter_map(|piece| piece.try_into().ok())
    });
    WANTED.set(pieces.collect());
    FOUND.set(0);
    IS_LOOKING.set(true);
    act();
    IS_LOOKING.set(false);
    WANTED.take();
    FOUND.get()
}

/// The whole lines of base64.
fn lines(pem: &[u8]) -> Vec<&[u8]> {
    let lines = pem.split(|it| *it == b'\n');
    lines.filter(|line| line.len() == 64).collect()
}

#[test]
fn what_is_given_back_is_seen() {
    let secret: Vec<u8> = (0..200).collect();
    assert_eq!(left_behind(&[&secret], || drop(secret.clone())), 1);
    assert_eq!(
        left_behind(&[&secret], || drop(Secret::new(secret.clone()))),
        0
    );
}

#[test]
fn a_key_that_is_read_leaves_nothing_behind() {
    // Of another key: that of this one has its modulus.
    let certificate: &[u8] = include_bytes!("certificates/two.pem");
    for key in [
        &include_bytes!("certificates/site-rsa.key")[..],
        include_bytes!("certificates/site-rsa-pkcs1.key"),
        include_bytes!("certificates/site-sec1.key"),
    ] {
        let der = key_in(key).expect("a key");
        let mut secrets = lines(key);
        secrets.push(der.bytes());
        let (both, cut) = ([certificate, key].concat(), &key[..key.len() - 40]);
        let two = [key, key].concat();
        let spoiled = [cut, b"=x\n", &key[key.len() - 40..]].concat();
        let read = || {
            assert_eq!(key_in(key).as_ref(), Ok(&der));
            assert_eq!(key_in(&both).as_ref(), Ok(&der));
            certificates_in(&both).expect("a certificate");
            for wrong in [&two[..], cut, &spoiled] {
                key_in(wrong).expect_err("there is not just one");
            }
            let mut longer = der.clone();
            longer.extend(&[0; 4_000]);
        };
        assert_eq!(left_behind(&secrets, read), 0);
    }
}
