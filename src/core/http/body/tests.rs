//! Bodies, good and bad, cut anywhere.

use super::*;

/// What went out, what was consumed, if it ended.
type Relayed = Result<(Vec<u8>, usize, bool), BodyError>;

/// Feeds `input` in slices of `step` bytes.
fn relay(framing: Framing, keep: bool, input: &[u8], step: usize) -> Relayed {
    relay_through(&mut Body::new(framing, keep), input, step)
}

fn relay_through(body: &mut Body, input: &[u8], step: usize) -> Relayed {
    let mut out = Vec::new();
    let mut consumed = 0;
    for slice in input.chunks(step) {
        let mut at = 0;
        while at < slice.len() && !body.is_done() {
            let piece = body.feed(&slice[at..])?;
            assert!(piece.consumed > 0, "no progress");
            out.extend_from_slice(&slice[at..at + piece.forward]);
            if piece.ends_line {
                out.extend_from_slice(LINE_END);
            }
            at += piece.consumed;
            consumed += piece.consumed;
            assert_eq!(piece.done, body.is_done());
        }
    }
    out.extend_from_slice(body.trailers());
    Ok((out, consumed, body.is_done()))
}

#[test]
fn a_length_is_exact_and_surplus_is_left() {
    for step in 1..8 {
        let (out, consumed, done) = relay(Framing::Length(5), true, b"helloGET /", step).unwrap();
        assert_eq!((out.as_slice(), consumed, done), (&b"hello"[..], 5, true));
    }
    let (_, _, done) = relay(Framing::Length(5), true, b"hell", 4).unwrap();
    assert!(!done);
}

#[test]
fn no_body_and_an_empty_one_are_done_at_once() {
    for framing in [Framing::None, Framing::Length(0)] {
        let mut body = Body::new(framing, true);
        assert!(body.is_done());
        assert_eq!(body.feed(b"GET /"), Ok(whole(0, true)));
        assert_eq!(body.on_end(), Ok(()));
    }
}

#[test]
fn only_a_body_until_close_may_end_with_the_connection() {
    let mut body = Body::new(Framing::UntilClose, true);
    assert_eq!(body.feed(b"abc"), Ok(whole(3, false)));
    assert_eq!(body.on_end(), Ok(()));
    assert!(body.is_done());
    for framing in [Framing::Length(4), Framing::Chunked] {
        let mut body = Body::new(framing, true);
        body.feed(b"3\r\n").unwrap();
        assert_eq!(body.on_end(), Err(BodyError::Truncated));
    }
}

#[test]
fn a_plain_chunked_body_is_one_piece() {
    let input = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nrest";
    let mut body = Body::new(Framing::Chunked, true);
    let end = input.len() - 4;
    assert_eq!(body.feed(input), Ok(whole(end, true)));
    assert_eq!(body.payload_bytes(), 15);
    assert!(body.trailers().is_empty());
}

#[test]
fn chunked_bodies_come_out_alike_at_any_split() {
    // Input, kept framing, bare data.
    let table: &[(&[u8], &[u8], &[u8])] = &[
        (b"0\r\n\r\n", b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b"000\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (
            b"3;name=\"v;\"\r\nabc\r\n0 ; last\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
            b"abc",
        ),
        (
            b"3 \t;x\r\nabc\r\n0;\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
            b"abc",
        ),
        (
            b"1\r\na\r\n0\r\nX-Sum:  1 \r\nContent-Length: 9\r\n\r\n",
            b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"a",
        ),
        (
            b"1\r\na\r\n0\r\nTransfer_Encoding: x\r\nHOST: b\r\n\r\n",
            b"1\r\na\r\n0\r\n\r\n",
            b"a",
        ),
    ];
    for (input, framed, bare) in table {
        for step in 1..=input.len() {
            for (keep, wanted) in [(true, framed), (false, bare)] {
                let (out, consumed, done) = relay(Framing::Chunked, keep, input, step).unwrap();
                assert_eq!(
                    out.escape_ascii().to_string(),
                    wanted.escape_ascii().to_string()
                );
                assert_eq!((consumed, done), (input.len(), true));
            }
        }
    }
}

#[test]
fn bad_chunks_are_refused_with_their_reason_at_any_split() {
    use BodyError::{ChunkSize, ChunkTooLarge, Extension, LineEnd, Trailer};
    let table: &[(&[u8], BodyError)] = &[
        (b"\r\n", ChunkSize),
        (b"g\r\n", ChunkSize),
        (b"0x5\r\nhello", ChunkSize),
        (b"-5\r\nhello", ChunkSize),
        (b"+5\r\nhello", ChunkSize),
        (b" 5\r\nhello", ChunkSize),
        (b"5 \r\nhello", ChunkSize),
        (b"5_\r\nhello", ChunkSize),
        (b";x\r\nhello", ChunkSize),
        (b"8000000000000000\r\n", ChunkTooLarge),
        (b"ffffffffffffffff\r\n", ChunkTooLarge),
        (b"00000000000000005\r\nhello", ChunkTooLarge),
        (b"5\nhello\r\n", LineEnd),
        (b"5\rhello", LineEnd),
        (b"5;x\nhello", Extension),
        (b"5;x\rhello", LineEnd),
        (b"5;\0\r\nhello", Extension),
        (b"5;a\x7f\r\nhello", Extension),
        (b"5\r\nhelloX\r\n", LineEnd),
        (b"5\r\nhello\n", LineEnd),
        (b"5\r\nhello\rX", LineEnd),
        (b"5\r\nhello\r\n\r\n", ChunkSize),
        (b"0\r\n\rX", LineEnd),
        (b"0\r\nno colon\r\n\r\n", Trailer),
        (b"0\r\n folded: x\r\n\r\n", Trailer),
        (b"0\r\na : x\r\n\r\n", Trailer),
        (b"0\r\na: x\nb: y\r\n\r\n", LineEnd),
        (b"0\r\na: x\rb\r\n\r\n", Trailer),
        (b"0\r\n\na: x\r\n\r\n", Trailer),
    ];
    for (input, wanted) in table {
        for step in 1..=input.len() {
            for keep in [true, false] {
                let found = relay(Framing::Chunked, keep, input, step);
                assert_eq!(found, Err(*wanted), "{}", input.escape_ascii());
            }
        }
    }
}

#[test]
fn chunks_of_a_response_may_be_odd_and_come_out_right() {
    use Oddity::{
        ChunkExtension, ChunkLineFeed, ControlByte, FieldName, FoldedLine, PaddedChunkSize,
        SpaceBeforeColon,
    };
    let plain = b"5\r\nhello\r\n0\r\n\r\n".as_slice();
    let trailer = b"5\r\nhello\r\n0\r\nX: y z\r\n\r\n".as_slice();
    let table: &[(&[u8], &[u8], &[Oddity])] = &[
        (plain, plain, &[]),
        (b"5 ;x\r\nhello\r\n0\r\n\r\n", plain, &[]),
        (b"5   \r\nhello\r\n0   \r\n\r\n", plain, &[PaddedChunkSize]),
        (b"5\t\r\nhello\r\n0\r\n\r\n", plain, &[PaddedChunkSize]),
        (
            b"00000000000000000005\r\nhello\r\n0\r\n\r\n",
            b"000000005\r\nhello\r\n0\r\n\r\n",
            &[PaddedChunkSize],
        ),
        (b"5\nhello\r\n0\r\n\r\n", plain, &[ChunkLineFeed]),
        (b"5\r\nhello\n0\r\n\r\n", plain, &[ChunkLineFeed]),
        (b"5\r\nhello\r\n0\n\r\n", plain, &[ChunkLineFeed]),
        (b"5\r\nhello\r\n0\r\n\n", plain, &[ChunkLineFeed]),
        (b"5\nhello\n0\n\n", plain, &[ChunkLineFeed]),
        (
            b"5 \nhello\n0\t\n\n",
            plain,
            &[PaddedChunkSize, ChunkLineFeed],
        ),
        (b"5;\x01\r\nhello\r\n0\r\n\r\n", plain, &[ChunkExtension]),
        (trailer, trailer, &[]),
        (
            b"5\r\nhello\r\n0\r\nX : y\r\n z\r\n\r\n",
            trailer,
            &[SpaceBeforeColon, FoldedLine],
        ),
        (b"5\r\nhello\r\n0\r\nX: y z\n\n", trailer, &[ChunkLineFeed]),
        (
            b"5\r\nhello\r\n0\r\nX: y z\n\r\n",
            trailer,
            &[ChunkLineFeed],
        ),
        (
            b"5\r\nhello\r\n0\r\nA[]: b\r\nX: y\x01z\r\n\r\n",
            trailer,
            &[FieldName, ControlByte],
        ),
        (
            b"5\r\nhello\r\n0\r\nContent-Length : 9\r\n\r\n",
            plain,
            &[SpaceBeforeColon],
        ),
    ];
    for (input, wanted, kinds) in table {
        for step in 1..=input.len() {
            for (keep, wanted) in [(true, *wanted), (false, b"hello")] {
                let mut body = Body::of_response(Framing::Chunked, keep);
                let found = relay_through(&mut body, input, step);
                let wanted = Ok((wanted.to_vec(), input.len(), true));
                assert_eq!(found, wanted, "{}", input.escape_ascii());
                assert_eq!(body.oddities(), Oddities::of(kinds));
            }
        }
    }
}

#[test]
fn chunks_of_a_response_that_have_two_readings_are_refused() {
    use BodyError::{ChunkSize, ChunkTooLarge, Extension, ExtensionTooLong, LineEnd, Trailer};
    let blanks = [b"5".as_slice(), &[b' '; 1026], b"\r\nhello"].concat();
    let zeros = [[b'0'; 1034].as_slice(), b"5\r\nhello"].concat();
    let table: &[(&[u8], BodyError)] = &[
        (b" 5\r\nhello", ChunkSize),
        (b"\n5\r\nhello", ChunkSize),
        (b"5 5\r\nhello", ChunkSize),
        (b"0x5\r\nhello", ChunkSize),
        (b"+5\r\nhello", ChunkSize),
        (b"5\rhello", LineEnd),
        (b"5 \rhello", LineEnd),
        (b"5;a\nhello", Extension),
        (b"5 ;a\nhello", Extension),
        (b"5;\0\r\nhello", Extension),
        (b"8000000000000000\r\n", ChunkTooLarge),
        (b"000000001000000000\r\n", ChunkTooLarge),
        (b"5\r\nhelloX\r\n", LineEnd),
        (b"5\r\nhello\rX", LineEnd),
        (b"5\r\nhello\r\n\r\n", ChunkSize),
        (b"0\r\n\rX", LineEnd),
        (b"0\r\nno colon\r\n\r\n", Trailer),
        (b"0\r\n folded: x\r\n\r\n", Trailer),
        (b"0\r\na: x\r\n \r\n\r\n", Trailer),
        (b"0\r\na: x\rb\r\n\r\n", Trailer),
        (b"0\r\na: x\0b\r\n\r\n", Trailer),
        (&blanks, ExtensionTooLong),
        (&zeros, ExtensionTooLong),
    ];
    for (input, wanted) in table {
        for step in (1..=input.len().min(40)).chain([input.len()]) {
            for keep in [true, false] {
                let mut body = Body::of_response(Framing::Chunked, keep);
                let found = relay_through(&mut body, input, step);
                assert_eq!(found, Err(*wanted), "{}", input.escape_ascii());
            }
        }
    }
}

#[test]
fn padding_of_many_small_chunks_is_no_flood() {
    let chunk = b"1       \r\nx\r\n".repeat(20_000);
    let mut body = Body::of_response(Framing::Chunked, true);
    let (out, ..) = relay_through(&mut body, &chunk, 4096).unwrap();
    assert_eq!(out.len(), 20_000 * b"1\r\nx\r\n".len());
}

#[test]
fn a_response_that_ends_before_its_last_line_is_cut_short() {
    for input in [
        b"5\r\nhello\r\n0\r\n".as_slice(),
        b"0",
        b"0\n",
        b"0\r\nX: y\r\n",
    ] {
        let mut body = Body::of_response(Framing::Chunked, true);
        relay_through(&mut body, input, 100).unwrap();
        assert_eq!(body.on_end(), Err(BodyError::Truncated));
    }
}

#[test]
fn the_largest_chunk_size_is_taken() {
    let mut body = Body::new(Framing::Chunked, true);
    body.feed(b"7fffffffffffffff\r\n").unwrap();
    assert_eq!(body.opaque_bytes(), i64::MAX as u64);
}

#[test]
fn extensions_and_trailers_have_limits() {
    let long = [b"1;".as_slice(), &vec![b'x'; 1025]].concat();
    let found = relay(Framing::Chunked, true, &long, 100);
    assert_eq!(found, Err(BodyError::ExtensionTooLong));

    let chunk = [b"1;".as_slice(), &vec![b'x'; 1000], b"\r\na\r\n"].concat();
    let found = relay(Framing::Chunked, true, &chunk.repeat(20), 777);
    assert_eq!(found, Err(BodyError::ExtensionTooLong));

    let trailer = [b"0\r\na: ".as_slice(), &vec![b'x'; TRAILER_BYTES_MAX]].concat();
    let found = relay(Framing::Chunked, true, &trailer, 1000);
    assert_eq!(found, Err(BodyError::TrailerTooLong));

    let many = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(33), b"\r\n"].concat();
    let found = relay(Framing::Chunked, true, &many, 1000);
    assert_eq!(found, Err(BodyError::TrailerTooLong));
}

#[test]
fn data_may_be_moved_unseen() {
    let mut body = Body::new(Framing::Chunked, true);
    assert_eq!(body.opaque_bytes(), 0);
    body.feed(b"10\r\nab").unwrap();
    assert_eq!(body.opaque_bytes(), 14);
    body.skip(14);
    assert_eq!(body.feed(b"\r\n0\r\n\r\n"), Ok(whole(7, true)));
    assert_eq!(body.payload_bytes(), 16);

    let mut body = Body::new(Framing::Length(3), true);
    body.skip(3);
    assert!(body.is_done());
}

#[test]
fn a_chunk_line_is_the_length_in_hexadecimal() {
    for (length, line) in [(1, "1\r\n"), (10, "a\r\n"), (65_536, "10000\r\n")] {
        assert_eq!(ChunkLine::new(length).as_bytes(), line.as_bytes());
    }
}

#[test]
fn each_framing_has_one_way_towards_each_receiver() {
    use Reframing::{Chunked, Enchunk, Plain, Unchunk};
    for (framing, new, old) in [
        (Framing::None, Reframing::None, Reframing::None),
        (Framing::Length(1), Plain, Plain),
        (Framing::Chunked, Chunked, Unchunk),
        (Framing::UntilClose, Enchunk, Plain),
    ] {
        assert_eq!(Reframing::towards(framing, true), new);
        assert_eq!(Reframing::towards(framing, false), old);
    }
}
