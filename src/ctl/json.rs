//! What weir says in sentences or in YAML, for programs.

use std::fmt::Write as _;

use serde_yaml::Value;

/// A sentence, and whether what was asked for is done or so.
pub(super) fn message(is_ok: bool, words: &str) -> String {
    let mut text = format!("{{\"ok\":{is_ok},\"message\":");
    string(words.trim_end(), &mut text);
    text + "}\n"
}

/// A document of YAML; none where it is none.
pub(super) fn document(yaml: &str) -> Option<String> {
    let mut text = String::new();
    value(&serde_yaml::from_str(yaml).ok()?, &mut text);
    Some(text + "\n")
}

fn value(it: &Value, out: &mut String) {
    match it {
        Value::Null => out.push_str("null"),
        Value::Bool(is_so) => drop(write!(out, "{is_so}")),
        Value::Number(number) => drop(write!(out, "{number}")),
        Value::String(text) => string(text, out),
        Value::Sequence(list) => {
            let items = list.iter().map(|it| (None, it));
            group(('[', ']'), items, out);
        }
        Value::Mapping(map) => {
            let items = map.iter().map(|(key, it)| (Some(key), it));
            group(('{', '}'), items, out);
        }
        Value::Tagged(tagged) => value(&tagged.value, out),
    }
}

fn group<'a>(
    (begin, end): (char, char),
    items: impl Iterator<Item = (Option<&'a Value>, &'a Value)>,
    out: &mut String,
) {
    out.push(begin);
    for (at, (key, it)) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        match key {
            Some(Value::String(key)) => string(key, out),
            Some(key) => {
                let mut text = String::new();
                value(key, &mut text);
                string(&text, out);
            }
            None => {}
        }
        if key.is_some() {
            out.push(':');
        }
        value(it, out);
    }
    out.push(end);
}

/// RFC 8259 section 7.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => drop(write!(out, "\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_documents_are_json() {
        assert_eq!(
            message(false, "no \"b\"\nnor\tc\n"),
            "{\"ok\":false,\"message\":\"no \\\"b\\\"\\nnor\\u0009c\"}\n"
        );
        let yaml = "a: 1\nb: [x, 2, true, ~, {c: {}}]\n3: 10s\n";
        assert_eq!(
            document(yaml).as_deref(),
            Some("{\"a\":1,\"b\":[\"x\",2,true,null,{\"c\":{}}],\"3\":\"10s\"}\n")
        );
        assert_eq!(document("a: [").as_deref(), None);
    }
}
