//! YAML to be written: a tree, what makes its scalars, and its text.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::model::Network;
use super::units::{format_duration, format_size};

/// What is written: a scalar is as it stands in the file.
#[derive(Debug)]
pub(super) enum Tree {
    Scalar(String),
    List(Vec<Self>),
    Map(Map),
}

pub(super) type Map = Vec<(String, Tree)>;

impl Tree {
    /// A mapping as a whole file.
    pub(super) fn document(map: &Map) -> String {
        let mut out = String::new();
        write_map(map, 0, &mut out);
        out
    }

    /// What stands behind a key.
    pub(super) fn behind_key(&self) -> String {
        let mut out = String::new();
        write_value(self, 0, &mut out);
        out
    }
}

/// A scalar that needs no quotes.
#[inline(never)]
pub(super) fn word<T: ToString>(word: T) -> Tree {
    Tree::Scalar(word.to_string())
}

pub(super) fn or_word<T: ToString>(otherwise: &'static str) -> impl Fn(&Option<T>) -> Tree {
    move |value| match value {
        Some(value) => word(value.to_string()),
        None => word(otherwise),
    }
}

/// The word that stands for a value, one of those that it is read from.
pub(super) fn one_of<T: PartialEq>(words: &'static [(&'static str, T)]) -> impl Fn(&T) -> Tree {
    move |value| {
        let found = words.iter().find(|(_, it)| it == value);
        word(found.map_or("", |(word, _)| word))
    }
}

#[inline(never)]
pub(super) fn on_or_off(is_on: &bool) -> Tree {
    word(if *is_on { "on" } else { "off" })
}

#[inline(never)]
pub(super) fn duration(duration: &Duration) -> Tree {
    word(format_duration(*duration))
}

#[inline(never)]
pub(super) fn size(bytes: &usize) -> Tree {
    word(format_size(*bytes as u64))
}

#[inline(never)]
pub(super) fn size_or_unlimited(bytes: &Option<u64>) -> Tree {
    word(bytes.map_or_else(|| "unlimited".to_owned(), format_size))
}

pub(super) fn text<T: AsRef<str>>(text: T) -> Tree {
    Tree::Scalar(quoted(text.as_ref()))
}

pub(super) fn network(network: &Network) -> Tree {
    text(format!("{}/{}", network.address, network.prefix_bits))
}

pub(super) fn text_or(otherwise: &'static str) -> impl Fn(&Option<String>) -> Tree {
    move |name| name.as_ref().map_or_else(|| word(otherwise), text)
}

/// A path that may be absent.
pub(super) fn path_or(otherwise: &'static str) -> impl Fn(&Option<PathBuf>) -> Tree {
    move |path| match path {
        Some(path) => text(path.to_string_lossy()),
        None => word(otherwise),
    }
}

#[inline(never)]
pub(super) fn texts(items: &[String]) -> Tree {
    Tree::List(items.iter().map(text).collect())
}

/// A key, bare when that is certain to be read as it stands.
pub(super) fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_plain {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A double-quoted scalar. What YAML may not hold or might fold is escaped.
#[inline(never)]
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

fn write_map(map: &Map, indent: usize, out: &mut String) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first key of a mapping in a list stands behind the dash.
        if index > 0 || indent == 0 || out.ends_with('\n') {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(key);
        out.push(':');
        write_value(value, indent, out);
    }
}

fn write_value(value: &Tree, indent: usize, out: &mut String) {
    match value {
        Tree::Scalar(scalar) => {
            out.push(' ');
            out.push_str(scalar);
            out.push('\n');
        }
        Tree::List(items) if items.is_empty() => out.push_str(" []\n"),
        Tree::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Tree::Map(map) => {
            out.push('\n');
            write_map(map, indent + 2, out);
        }
        Tree::List(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&" ".repeat(indent + 2));
                out.push('-');
                write_item(item, indent + 4, out);
            }
        }
    }
}

fn write_item(item: &Tree, indent: usize, out: &mut String) {
    match item {
        Tree::Map(map) if !map.is_empty() => {
            out.push(' ');
            write_map(map, indent, out);
        }
        Tree::Scalar(_) | Tree::List(_) | Tree::Map(_) => write_value(item, indent, out),
    }
}
