//! Strings as JSON has them (RFC 8259 section 7).

use crate::core::text;

/// Appends a string with its quotes.
pub fn push_string(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    value.chars().for_each(|it| push_character(it, out));
    out.push(b'"');
}

/// Appends a character as it stands between them.
pub(crate) fn push_character(character: char, out: &mut Vec<u8>) {
    match character {
        '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
        // The two Unicode line ends, and all control characters, those of the C1 set too:
        // some readers split lines there, and some terminals obey them.
        '\u{2028}' | '\u{2029}' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
            text::push(out, format_args!("\\u{:04x}", u32::from(character)));
        }
        _ => {
            let mut bytes = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_string_or_a_line_is_escaped() {
        let mut out = Vec::new();
        push_string("a\"\\\n\u{9b}\u{2028}<\u{e9}", &mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "\"a\\\"\\\\\\u000a\\u009b\\u2028<\u{e9}\"");
    }
}
