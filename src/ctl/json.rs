//! What weir says in sentences or in YAML, for programs.

use serde_yaml::Value;

use crate::core::json::push_string;
use crate::core::text;

/// A sentence, and whether what was asked for is done or so.
pub(super) fn message(is_ok: bool, words: &str) -> String {
    let mut out = Vec::new();
    text::push(&mut out, format_args!("{{\"ok\":{is_ok},\"message\":"));
    push_string(words.trim_end(), &mut out);
    out.extend_from_slice(b"}\n");
    text_of(out)
}

/// A document of YAML; none where it is none.
pub(super) fn document(yaml: &str) -> Option<String> {
    Some(written(&serde_yaml::from_str(yaml).ok()?))
}

/// A status with one of its upstreams and none of the others; none where it is no status.
pub(super) fn with_upstream(status: &str, name: &str) -> Option<String> {
    let mut status: Value = serde_yaml::from_str(status).ok()?;
    let upstreams = status.get_mut("upstreams")?.as_sequence_mut()?;
    upstreams.retain(|it| it.get("name").and_then(Value::as_str) == Some(name));
    Some(written(&status))
}

fn written(it: &Value) -> String {
    let mut out = Vec::new();
    value(it, &mut out);
    out.push(b'\n');
    text_of(out)
}

fn text_of(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

fn value(it: &Value, out: &mut Vec<u8>) {
    match it {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(is_so) => text::push(out, format_args!("{is_so}")),
        Value::Number(number) => text::push(out, format_args!("{number}")),
        Value::String(text) => push_string(text, out),
        Value::Sequence(list) => {
            let items = list.iter().map(|it| (None, it));
            group((b'[', b']'), items, out);
        }
        Value::Mapping(map) => {
            let items = map.iter().map(|(key, it)| (Some(key), it));
            group((b'{', b'}'), items, out);
        }
        Value::Tagged(tagged) => value(&tagged.value, out),
    }
}

fn group<'a>(
    (begin, end): (u8, u8),
    items: impl Iterator<Item = (Option<&'a Value>, &'a Value)>,
    out: &mut Vec<u8>,
) {
    out.push(begin);
    for (at, (key, it)) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match key {
            Some(Value::String(key)) => push_string(key, out),
            Some(key) => {
                let mut text = Vec::new();
                value(key, &mut text);
                push_string(&text_of(text), out);
            }
            None => {}
        }
        if key.is_some() {
            out.push(b':');
        }
        value(it, out);
    }
    out.push(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_documents_are_json() {
        assert_eq!(
            message(false, "no \"b\"\nnor\tc\n"),
            "{\"ok\":false,\"message\":\"no \\\"b\\\"\\u000anor\\u0009c\"}\n"
        );
        let yaml = "a: 1\nb: [x, 2, true, ~, {c: {}}]\n3: 10s\n";
        assert_eq!(
            document(yaml).as_deref(),
            Some("{\"a\":1,\"b\":[\"x\",2,true,null,{\"c\":{}}],\"3\":\"10s\"}\n")
        );
        assert_eq!(document("a: [").as_deref(), None);
    }

    #[test]
    fn a_status_is_told_of_one_upstream() {
        let status = "{\"pid\":7,\"upstreams\":[{\"name\":\"a\"},{\"name\":\"b\",\"n\":1}]}";
        assert_eq!(
            with_upstream(status, "b").as_deref(),
            Some("{\"pid\":7,\"upstreams\":[{\"name\":\"b\",\"n\":1}]}\n")
        );
        assert_eq!(with_upstream("[]", "b"), None);
    }
}
