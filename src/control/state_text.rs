//! The text in which changes by hand are kept: a line for the version, one for each change, and
//! one with a checksum, so that a file that was cut or damaged is not taken for a shorter one.
//!
//! ```text
//! weir state 1
//! steer app b1 draining -
//! steer app b2 enabled 5
//! add app b4 10.0.0.4:80 -
//! remove app b3
//! end 5fc05b31
//! ```

use std::fmt::Write as _;

use crate::admin::observed::service_word;
use crate::config::model::WEIGHT_MAX;
use crate::control::overlay::{Added, Edit, Overlay, Steered};
use crate::core::backend::Service;
use crate::core::proxy_header::crc32c::crc32c;

const HEAD: &str = "weir state 1";
const HEAD_OF_ANY: &str = "weir state ";
/// The longest text that is read, in bytes.
pub(super) const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// All that was changed, as text.
pub(super) fn write(overlay: &Overlay) -> String {
    let mut text = format!("{HEAD}\n");
    for ((upstream, backend), steered) in overlay.steered() {
        let (upstream, backend) = (escaped(upstream), escaped(backend));
        let service = service_word(steered.service);
        let weight = weight_word(steered.weight);
        // A string takes all.
        let _ = writeln!(text, "steer {upstream} {backend} {service} {weight}");
    }
    for ((upstream, backend), added) in overlay.added() {
        let (upstream, backend) = (escaped(upstream), escaped(backend));
        let (address, weight) = (escaped(&added.address), weight_word(added.weight));
        let _ = writeln!(text, "add {upstream} {backend} {address} {weight}");
    }
    for (upstream, backend) in overlay.removed() {
        let (upstream, backend) = (escaped(upstream), escaped(backend));
        let _ = writeln!(text, "remove {upstream} {backend}");
    }
    let sum = crc32c(&[text.as_bytes()]);
    let _ = writeln!(text, "end {sum:08x}");
    text
}

/// What a text says.
///
/// # Errors
/// Why it cannot be used, in words that follow the name of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Overlay, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let head = text.lines().next().unwrap_or_default();
    if head != HEAD && head.starts_with(HEAD_OF_ANY) {
        return Err(format!(
            "it is `{head}`, of another version; `{HEAD}` is known"
        ));
    }
    if head != HEAD {
        return Err(format!("it does not begin with `{HEAD}`"));
    }
    let changes = checked(text).ok_or_else(|| "it is cut or damaged".to_owned())?;
    let mut overlay = Overlay::default();
    for (at, line) in changes.lines().enumerate().skip(1) {
        let read = change(&mut overlay, line);
        read.ok_or_else(|| format!("line {}: `{line}` is no change", at + 1))?;
    }
    Ok(overlay)
}

/// What stands before the last line, which must have the checksum of it.
fn checked(text: &str) -> Option<&str> {
    let lines = text.strip_suffix('\n')?;
    let (changes, last) = text.split_at(lines.rfind('\n')? + 1);
    let sum = crc32c(&[changes.as_bytes()]);
    (last == format!("end {sum:08x}\n")).then_some(changes)
}

fn change(overlay: &mut Overlay, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["steer", upstream, backend, service, weight] => {
            let services = [Service::Full, Service::Draining, Service::Disabled];
            let steered = Steered {
                service: services
                    .into_iter()
                    .find(|it| service_word(*it) == service)?,
                weight: read_weight(weight)?,
            };
            overlay.put(unescaped(upstream)?, unescaped(backend)?, steered);
        }
        ["add", upstream, backend, address, weight] => {
            let added = Added {
                address: unescaped(address)?,
                weight: read_weight(weight)?,
            };
            let name = (unescaped(upstream)?, unescaped(backend)?);
            overlay.edit(Edit::Add(name, added));
        }
        ["remove", upstream, backend] => {
            let name = (unescaped(upstream)?, unescaped(backend)?);
            overlay.put_removed(name);
        }
        _ => return None,
    }
    Some(())
}

fn weight_word(weight: Option<u32>) -> String {
    weight.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

fn read_weight(word: &str) -> Option<Option<u32>> {
    match word {
        "-" => Some(None),
        digits => digits.parse().ok().filter(|it| *it <= WEIGHT_MAX).map(Some),
    }
}

/// A name as one word.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter == '%' || letter.is_whitespace() || letter.is_control() {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02x}");
            }
        } else {
            out.push(letter);
        }
    }
    out
}

fn unescaped(word: &str) -> Option<String> {
    let mut parts = word.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overlay() -> impl Strategy<Value = Overlay> {
        let service = prop_oneof![
            Just(Service::Full),
            Just(Service::Draining),
            Just(Service::Disabled)
        ];
        let weight = prop::option::of(0..=WEIGHT_MAX);
        let steered = (service, weight).prop_map(|(service, weight)| Steered { service, weight });
        let one = (".{1,12}", ".{1,12}", steered, 0..3);
        prop::collection::vec(one, 0..9).prop_map(|all| {
            let mut overlay = Overlay::default();
            for (upstream, backend, steered, kind) in all {
                let added = Added {
                    address: format!("{backend}:1"),
                    weight: steered.weight,
                };
                match kind {
                    0 => overlay.put(upstream, backend, steered),
                    1 => overlay.edit(Edit::Add((upstream, backend), added)),
                    _ => overlay.put_removed((upstream, backend)),
                }
            }
            overlay
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(overlay in overlay()) {
            let text = write(&overlay);
            prop_assert_eq!(read(text.as_bytes()), Ok(overlay));
        }

        #[test]
        fn what_is_cut_anywhere_is_refused(overlay in overlay()) {
            let text = write(&overlay).into_bytes();
            for end in 0..text.len() {
                prop_assert!(read(&text[..end]).is_err(), "at {}", end);
            }
        }

        #[test]
        fn what_is_damaged_anywhere_is_refused(overlay in overlay(), bit in 0..8_u32) {
            let text = write(&overlay).into_bytes();
            for at in 0..text.len() {
                let mut damaged = text.clone();
                damaged[at] ^= 1 << bit;
                prop_assert!(read(&damaged).is_err(), "at {}", at);
            }
        }

        #[test]
        fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn nonsense_with_a_good_checksum_is_read_or_refused(
            lines in prop::collection::vec("(steer )?[a-z%0-9 -]{0,30}", 0..5)
        ) {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let text = format!("{HEAD}\n{lines}");
            let sum = crc32c(&[text.as_bytes()]);
            if let Ok(overlay) = read(format!("{text}end {sum:08x}\n").as_bytes()) {
                let again = write(&overlay);
                prop_assert_eq!(read(again.as_bytes()), Ok(overlay));
            }
        }
    }

    #[test]
    fn the_form_of_version_1_stays() {
        let mut overlay = Overlay::default();
        let draining = Steered {
            service: Service::Draining,
            weight: Some(5),
        };
        overlay.put("app".to_owned(), "b 1%".to_owned(), draining);
        let text = write(&overlay);
        assert!(
            text.starts_with("weir state 1\nsteer app b%201%25 draining 5\nend "),
            "{text}"
        );
    }

    #[test]
    fn another_version_is_told_of() {
        let told = read(b"weir state 2\nend 00000000\n").expect_err("not known");
        assert!(told.contains("another version"), "{told}");
        let told = read(b"nonsense").expect_err("not known");
        assert!(told.contains("does not begin"), "{told}");
    }
}
