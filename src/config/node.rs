//! YAML as a tree in which every node knows its place. Knows nothing of what the keys mean.
//!
//! `serde_yaml` knows the place of everything that it reads, and tells it only in errors: its
//! parser is private, its tree has no places, and a visitor is given values alone. So each scalar
//! and each key is read by a visitor that keeps the value aside and then fails: the error carries
//! the place, the scalar has been consumed, and reading goes on behind it. One pass gives every
//! place, for good files as for bad ones. Mappings keep their order and their duplicates; the
//! caller judges both.
//!
//! That is the simplest of the honest ways. The scanner below, `unsafe-libyaml`, has a mark on each
//! event, but it is C in all but syntax: `unsafe`, aliases, and the rules by which `10s` is text
//! and `8080` a number would have to be written here again. A reader of our own for places alone
//! could disagree with the other about what the file says. Reading the file once more for each
//! message, up to the node that it is about, takes time with the square of many errors, and good
//! files have places as well. What this way rests on is how one message of a crate ends that is
//! not developed any further, ` at line 1 column 2`, as serde hides the error's type from
//! visitors. The tests below hold it; with any other end a value has the place of the key around
//! it, and none is lost.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::problem::Position;
use super::yaml_words;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Of a scalar, where it stands; of a list or mapping, its key or else its first entry.
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value. Keys are taken as they are written: `502` is text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

impl Node {
    /// The value as a message names it.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "empty".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            // With its point or exponent, which tells it from an integer.
            Value::Float(value) => format!("{value:?}"),
            Value::Text(text) => describe_text(text),
            Value::List(items) if items.is_empty() => "an empty list".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Text in quotes, escaped and of bounded length.
pub(super) fn describe_text(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return format!("{text:?}");
    }
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{shown:?}...")
}

/// Longest file, in bytes.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of lists and mappings.
const DEPTH_MAX: usize = 32;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 512;
/// Bytes of text and nodes together after aliases are expanded, so that a small file cannot
/// grow without bound.
const EXPANDED_BYTES_MAX: usize = 4 * FILE_BYTES_MAX;
/// What a node counts towards that limit beyond its text.
const NODE_BYTES: usize = 8;

/// Reads one document.
///
/// # Errors
///
/// What the file breaks of YAML or of the limits above, and where.
pub(super) fn parse(text: &str) -> Result<Node, (Position, String)> {
    check_text(text)?;
    // Some editors put a byte order mark first, which serde_yaml takes for a document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(document) = documents.next() else {
        return Err((Position::START, EMPTY.to_owned()));
    };
    let in_words = |(at, message)| yaml_words::in_words(text, at, message);
    let root = read_document(document).map_err(in_words)?;
    if let Some(second) = documents.next() {
        let second = read_document(second).map_err(in_words)?;
        let at = at_first_key(second).at;
        let message = "a second YAML document begins; the file must hold one".to_owned();
        return Err((at, message));
    }
    Ok(root)
}

/// A file of many aliases meets one of two limits: ours, and that of the YAML reader on how often
/// it follows one.
const ALIASES: &str = "from here on the file is too large once its aliases (such as *name) are \
                       expanded; it may have 4 MiB";
const JUMPS: &str = "from here on its aliases (such as *name), each of them expanded, are too \
                     many: more than 100 times what the file itself holds";

/// The key under which a mapping names others whose entries it has, too.
const MERGE: &str = "<<";
const NOT_MERGED: &str = "`<<` takes the entries of mappings: it must be an alias of one, such as \
                          *name, or a list of them";

const EMPTY: &str = "the file is empty; it must name what to listen on and where to forward";

/// What libyaml would refuse without telling the place.
fn check_text(text: &str) -> Result<(), (Position, String)> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes; at most {FILE_BYTES_MAX} are allowed",
            text.len()
        );
        return Err((Position::START, message));
    }
    let is_forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    match text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        Some((index, c)) => Err((
            Position::of_byte(text, index),
            format!("the character {c:?} is not allowed in YAML"),
        )),
        None => check_brackets(text),
    }
}

/// libyaml takes time with the square of the nesting, long before the depth is counted here.
/// Brackets in text and comments count too, so the bound is one that no real file reaches.
fn check_brackets(text: &str) -> Result<(), (Position, String)> {
    const OPEN_MAX: usize = 10_000;
    let mut open: usize = 0;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > OPEN_MAX {
            let message = format!("more than {OPEN_MAX} brackets are open");
            return Err((Position::of_byte(text, index), message));
        }
    }
    Ok(())
}

fn read_document(document: serde_yaml::Deserializer<'_>) -> Result<Node, (Position, String)> {
    let mut builder = Builder {
        kept: None,
        refusal: None,
        furthest: Position::START,
        budget_bytes: EXPANDED_BYTES_MAX,
    };
    let seed = NodeSeed {
        builder: &mut builder,
        at: Position::START,
        depth: 0,
    };
    let result = seed.deserialize(document);
    let node = builder.settle(result, Position::START);
    node.map_err(|error| {
        // What says no place has gone as far as this.
        let at = error
            .location()
            .map_or(builder.furthest, |location| Position {
                line: location.line(),
                column: location.column(),
            });
        let message = builder.refusal.take();
        let message = message.unwrap_or_else(|| without_place(&error.to_string(), at));
        if message.contains("repetition limit exceeded") {
            return (builder.furthest, JUMPS.to_owned());
        }
        if message == ALIASES {
            // Its place is that of what an alias stands for.
            return (builder.furthest, message);
        }
        (at, message)
    })
}

/// The message without the place, which is reported in front of it.
fn without_place(message: &str, at: Position) -> String {
    let place = format!(" at line {} column {}", at.line, at.column);
    let message = message.replace(&place, "");
    match message.as_str() {
        "EOF while parsing a value" => EMPTY.to_owned(),
        _ => message,
    }
}

/// What one run shares: the value a failing visitor kept, and what is left of the limit.
struct Builder {
    kept: Option<Value>,
    /// Why reading ends, without the path that `serde_yaml` puts in front.
    refusal: Option<String>,
    /// The last place that was read. Aliases lead back, so that it stays before the one that is
    /// being expanded.
    furthest: Position,
    budget_bytes: usize,
}

/// The message of the error that a visitor fails with after it kept a value.
const KEPT: &str = "value kept";

impl Builder {
    fn keep<T, E: Error>(&mut self, value: Value) -> Result<T, E> {
        let text_bytes = if let Value::Text(text) = &value {
            text.len()
        } else {
            0
        };
        self.charge(text_bytes)?;
        self.kept = Some(value);
        Err(E::custom(KEPT))
    }

    fn refuse<E: Error>(&mut self, message: String) -> E {
        let error = E::custom(&message);
        self.refusal = Some(message);
        error
    }

    fn charge<E: Error>(&mut self, text_bytes: usize) -> Result<(), E> {
        match self.budget_bytes.checked_sub(text_bytes + NODE_BYTES) {
            Some(left) => {
                self.budget_bytes = left;
                Ok(())
            }
            None => Err(self.refuse(ALIASES.to_owned())),
        }
    }

    /// Entries with those of the mappings that stand under `<<` behind them, unless the key is
    /// there (<https://yaml.org/type/merge.html>).
    fn merged<E: Error>(&mut self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, E> {
        while let Some(index) = entries.iter().position(|entry| entry.key == MERGE) {
            let value = entries.remove(index).value.value;
            let sources = if let Value::List(items) = value {
                items.into_iter().map(|item| item.value).collect()
            } else {
                vec![value]
            };
            for source in sources {
                let Value::Map(added) = source else {
                    return Err(self.refuse(NOT_MERGED.to_owned()));
                };
                for entry in added {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(entries)
    }

    /// A node from what reading it gave: a container as it is, a kept scalar with the place
    /// that its error tells.
    fn settle<E: fmt::Display>(&mut self, read: Result<Value, E>, at: Position) -> Result<Node, E> {
        match (read, self.kept.take()) {
            (Ok(value), _) => Ok(Node { at, value }),
            (Err(error), Some(value)) => {
                let at = place_of(&error).unwrap_or(at);
                // libyaml puts a missing value further down.
                if value != Value::Null {
                    self.furthest = self.furthest.max(at);
                }
                Ok(Node { at, value })
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// The place that an error of `serde_yaml` tells in its text. Visitors see errors only through
/// serde's trait, which has no other way to it. None at the very start of a file.
fn place_of(error: &impl fmt::Display) -> Option<Position> {
    let text = error.to_string();
    let (_, place) = text.rsplit_once(KEPT)?;
    let (line, column) = place.strip_prefix(" at line ")?.split_once(" column ")?;
    Some(Position {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

/// Reads any node. Scalars fail with [`KEPT`].
struct NodeSeed<'b> {
    builder: &'b mut Builder,
    /// The place of a container, and of whatever has none of its own.
    at: Position,
    depth: usize,
}

impl NodeSeed<'_> {
    fn go_deeper<E: Error>(&mut self) -> Result<usize, E> {
        if self.depth < DEPTH_MAX {
            return Ok(self.depth + 1);
        }
        Err(self.builder.refuse(format!(
            "lists and mappings are nested more than {DEPTH_MAX} deep"
        )))
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.builder.keep(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.builder.keep(Value::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.builder.keep(Value::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.builder.keep(Value::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        let value = i128::try_from(value).unwrap_or(i128::MAX);
        self.builder.keep(Value::Integer(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.builder.keep(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.builder.keep(Value::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.builder.keep(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Err(self.builder.refuse(EMPTY.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.go_deeper()?;
        self.builder.charge(0)?;
        let mut items = Vec::new();
        loop {
            let seed = NodeSeed {
                builder: self.builder,
                at: self.at,
                depth,
            };
            let item = match seq.next_element_seed(seed) {
                Ok(None) => return Ok(Value::List(items)),
                Ok(Some(value)) => self.builder.settle(Ok(value), self.at)?,
                Err(error) => self.builder.settle(Err(error), self.at)?,
            };
            items.push(at_first_key(item));
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.go_deeper()?;
        self.builder.charge(0)?;
        let mut entries = Vec::new();
        loop {
            let key = match map.next_key_seed(KeySeed(self.builder)) {
                Ok(None) => return self.builder.merged(entries).map(Value::Map),
                Ok(Some(value)) => self.builder.settle(Ok(value), self.at)?,
                Err(error) => self.builder.settle(Err(error), self.at)?,
            };
            let Value::Text(name) = key.value else {
                return Err(self.builder.refuse("a key must be text".to_owned()));
            };
            let seed = NodeSeed {
                builder: self.builder,
                at: key.at,
                depth,
            };
            let read = map.next_value_seed(seed);
            let mut value = self.builder.settle(read, key.at)?;
            if value.value == Value::Null {
                // libyaml puts a missing value at the next token, lines below.
                value.at = key.at;
            }
            entries.push(Entry {
                key: name,
                key_at: key.at,
                value,
            });
        }
    }
}

/// A mapping in a list stands where its first key does.
fn at_first_key(mut node: Node) -> Node {
    if let Value::Map(entries) = &node.value
        && let Some(first) = entries.first()
    {
        node.at = first.key_at;
    }
    node
}

/// Reads a key as it is written. Fails with [`KEPT`].
struct KeySeed<'b>(&'b mut Builder);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of one word")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Value, E> {
        if key.len() > KEY_BYTES_MAX {
            return Err(self
                .0
                .refuse(format!("a key is longer than {KEY_BYTES_MAX} bytes")));
        }
        self.0.keep(Value::Text(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line, each scalar and key with its place.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(show).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|e| {
                        let (line, column) = (e.key_at.line, e.key_at.column);
                        format!("{}@{line}:{column}={}", e.key, show(&e.value))
                    })
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                format!("{}@{}:{}", node.describe(), node.at.line, node.at.column)
            }
        }
    }

    #[test]
    fn keys_and_scalars_know_their_places() {
        let cases = [
            ("a: 1", "{a@1:1=1@1:4}"),
            (
                "a:\n  b: x\n  'c': \"y\"\n",
                "{a@1:1={b@2:3=\"x\"@2:6, c@3:3=\"y\"@3:8}}",
            ),
            ("a: [1, true, 2.5]", "{a@1:1=[1@1:5, true@1:8, 2.5@1:14]}"),
            (
                "a:\n- x\n- b: 1\n  c: 2\n",
                "{a@1:1=[\"x\"@2:3, {b@3:3=1@3:6, c@4:3=2@4:6}]}",
            ),
            ("a: {b: 1}\na: 2", "{a@1:1={b@1:5=1@1:8}, a@2:1=2@2:4}"),
            ("a:\n\n\nb: ~\n", "{a@1:1=empty@1:1, b@4:1=empty@4:1}"),
            ("502: x", "{502@1:1=\"x\"@1:6}"),
            ("ä: ö ü\nb: 1", "{ä@1:1=\"ö ü\"@1:4, b@2:1=1@2:4}"),
            ("42", "42@1:1"),
            ("\u{feff}a: 7", "{a@1:1=7@1:4}"),
            ("a: &x [1]\nb: *x", "{a@1:1=[1@1:8], b@2:1=[1@1:8]}"),
            ("a: &x 7\nb: [*x, 8]", "{a@1:1=7@1:4, b@2:1=[7@1:4, 8@2:9]}"),
            ("a: |\n  text\nb: 1", "{a@1:1=\"text\\n\"@1:4, b@3:1=1@3:4}"),
            ("a: {}\nb: []", "{a@1:1={}, b@2:1=[]}"),
            (
                "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*b, *a], x: 5}\nd:\n  <<: *a",
                "{a@1:1={x@1:8=1@1:11, y@1:14=2@1:17}, b@2:1={y@2:8=3@2:11, z@2:14=4@2:17}, \
                 c@3:1={x@3:19=5@3:22, y@2:8=3@2:11, z@2:14=4@2:17}, \
                 d@4:1={x@1:8=1@1:11, y@1:14=2@1:17}}",
            ),
        ];
        for (text, expected) in cases {
            let node = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            assert_eq!(show(&node), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused_with_its_place() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        let long = format!(
            "a: &x {}\nb:\n{}",
            "x".repeat(100_000),
            "- *x\n".repeat(100)
        );
        let open = "[".repeat(FILE_BYTES_MAX);
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n\
                    b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                    c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n\
                    d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
                    e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n\
                    f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n";
        let text = "x".repeat(100_000);
        let wide = format!(
            "a: &a {text}\nb: 1\nc: ~\nd: [{}]\ne: f\n",
            "*a, ".repeat(60)
        );
        let cut = bomb[..bomb.find("e: ").expect("it is there")].to_owned();
        let cut = format!("{cut}e: {{x: 1, y: [{}]}}\n", "*d, ".repeat(60));
        let cases = [
            ("", 1, 1, "the file is empty"),
            ("# only this\n", 2, 1, "the file is empty"),
            ("a: 1\n---\nb: 2\n", 3, 1, "a second YAML document begins"),
            (
                "a: [1\nb: 2",
                1,
                4,
                "the `[` that begins here is not closed before line 2",
            ),
            (
                "a: 1\n\tb: 2",
                2,
                1,
                "a tab; YAML is indented with spaces alone",
            ),
            (
                "a: *x",
                1,
                4,
                "`*` stands for what was named with `&` above",
            ),
            ("a: &x [*x]", 1, 4, "nested more than 32 deep"),
            (deep.as_str(), 1, 33, "nested more than 32 deep"),
            ("a: !tag b", 1, 4, "`!` begins a tag, and there are none"),
            ("[a]: 1", 1, 1, "a key must be one word"),
            ("a: \u{7}", 1, 4, "the character '\\u{7}' is not allowed"),
            (bomb, 5, 1, "from here on its aliases (such as *name)"),
            (
                wide.as_str(),
                4,
                1,
                "once its aliases (such as *name) are expanded; it may have 4 MiB",
            ),
            (cut.as_str(), 5, 11, "from here on its aliases"),
            (
                open.as_str(),
                1,
                10_001,
                "more than 10000 brackets are open",
            ),
            (long.as_str(), 2, 1, "too large once its aliases"),
        ];
        for (text, line, column, expected) in cases {
            let (at, message) = parse(text).expect_err(text);
            assert!(message.contains(expected), "{text:?}: {message}");
            assert_eq!((at.line, at.column), (line, column), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_file_of_a_mebibyte_is_read_and_a_longer_one_refused() {
        let line = "- abcdefg\n";
        let full = line.repeat(FILE_BYTES_MAX / line.len() / 2);
        assert!(parse(&full).is_ok());
        let (_, message) = parse(&"#".repeat(FILE_BYTES_MAX + 1)).expect_err("too long");
        assert!(message.contains("at most 1048576"), "{message}");
    }
}
