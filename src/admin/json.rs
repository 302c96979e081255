//! JSON as it is written here (RFC 8259).

use std::fmt::Display;

use crate::core::json::push_string;
use crate::core::text;

/// Writes one value, part by part, into a text. The caller keeps the order: what an object or a
/// list holds comes between its beginning and its end.
#[derive(Debug)]
pub(crate) struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Whether something stands before in the object or list.
    needs_comma: bool,
}

impl<'a> JsonWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            needs_comma: false,
        }
    }

    pub(crate) fn begin_object(&mut self) {
        self.separate();
        self.out.push(b'{');
        self.needs_comma = false;
    }

    pub(crate) fn end_object(&mut self) {
        self.out.push(b'}');
        self.needs_comma = true;
    }

    pub(crate) fn begin_list(&mut self) {
        self.separate();
        self.out.push(b'[');
        self.needs_comma = false;
    }

    pub(crate) fn end_list(&mut self) {
        self.out.push(b']');
        self.needs_comma = true;
    }

    /// The name of the value that comes next.
    pub(crate) fn key(&mut self, key: &str) {
        self.separate();
        push_string(key, self.out);
        self.out.push(b':');
        self.needs_comma = false;
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.separate();
        push_string(value, self.out);
    }

    /// A number, `true`, `false` or `null`.
    pub(crate) fn plain(&mut self, value: impl Display) {
        self.separate();
        text::push(self.out, format_args!("{value}"));
    }

    pub(crate) fn text_field(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text(value);
    }

    pub(crate) fn field(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.plain(value);
    }

    /// The same, with `null` for nothing.
    pub(crate) fn optional_field(&mut self, key: &str, value: Option<impl Display>) {
        self.key(key);
        match value {
            Some(value) => self.plain(value),
            None => self.plain("null"),
        }
    }

    fn separate(&mut self) {
        if self.needs_comma {
            self.out.push(b',');
        }
        self.needs_comma = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_separated_where_they_follow_each_other() {
        let mut out = Vec::new();
        let mut json = JsonWriter::new(&mut out);
        json.begin_object();
        json.text_field("a", "x\"\\\n<");
        json.key("b");
        json.begin_list();
        json.plain(1);
        json.begin_object();
        json.end_object();
        json.text("y z");
        json.end_list();
        json.field("c", true);
        json.optional_field("d", None::<u8>);
        json.end_object();
        let expected = r#"{"a":"x\"\\\u000a<","b":[1,{},"y z"],"c":true,"d":null}"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
