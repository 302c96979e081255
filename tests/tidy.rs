//! The rules of the source that the compiler does not know: which room may import what, which
//! words are kept out of which room, and the size of lines and files.
//!
//! The tables come first; the reader of Rust that they need is as small as they allow. A failure
//! names `file:line` and the rule.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder or file under `src/` and what it may name besides the plain parts of `std`.
struct Room {
    /// Path under `src/` without `.rs`; the longest one that fits a file counts.
    path: &'static str,
    /// Rooms of this crate. A room may always import itself.
    rooms: &'static [&'static str],
    /// Crates.
    crates: &'static [&'static str],
}

const fn room(
    path: &'static str,
    rooms: &'static [&'static str],
    crates: &'static [&'static str],
) -> Room {
    Room {
        path,
        rooms,
        crates,
    }
}

/// A room that is not in this table may import nothing at all, so that a new one is a decision.
const ROOMS: &[Room] = &[
    room("lib", &[], &["weir_data_plane"]),
    room("data_plane", &[], &[]),
    room(
        "main",
        &[
            "cli",
            "config",
            "control",
            "core",
            "ctl",
            "process",
            "supervisor",
            "sys",
        ],
        &["env_logger", "log"],
    ),
    room("cli", &["config"], &["getopts"]),
    room(
        "ctl",
        &["cli", "config", "control", "core", "sys"],
        &["getopts", "serde_yaml"],
    ),
    room("background", &["core", "reactor"], &[]),
    room("core", &["core"], &[]),
    room("core/http", &["core"], &["httparse"]),
    room("core/probe", &["core"], &["httparse"]),
    room("board", &["core", "sys"], &[]),
    room("admin", &["board", "config", "core", "sys"], &["slab"]),
    room(
        "config",
        &["core", "tls"],
        &["log", "serde", "serde_yaml", "weir_data_plane"],
    ),
    room("config/defaults", &[], &["log"]),
    room("config/model", &["core", "tls"], &["log"]),
    room("net", &["core", "tls"], &[]),
    room("tls", &["core"], &["zeroize"]),
    room(
        "tls/engine",
        &["core", "tls"],
        &["ring", "rustls", "webpki"],
    ),
    room("tls/tickets", &["tls"], &["ring"]),
    room(
        "sys",
        &["core"],
        &["libc", "rustix", "seccompiler", "socket2"],
    ),
    room(
        "reactor",
        &["core", "net", "sys", "tls"],
        &["mio", "rustix", "socket2"],
    ),
    room(
        "worker",
        &["board", "config", "core", "net", "tls"],
        &["log", "slab"],
    ),
    room(
        "live",
        &["board", "config", "core", "reactor", "sys", "tls", "worker"],
        &[],
    ),
    room("wire", &["admin", "config", "core", "sys", "tls"], &["log"]),
    room(
        "control",
        &[
            "admin",
            "background",
            "board",
            "cli",
            "config",
            "core",
            "reactor",
            "sys",
            "tls",
            "wire",
        ],
        &["log"],
    ),
    room(
        "process",
        &[
            "admin", "board", "cli", "config", "control", "core", "live", "reactor", "sys", "tls",
            "wire", "worker",
        ],
        &["log"],
    ),
    room(
        "supervisor",
        &[
            "board", "cli", "config", "control", "core", "net", "reactor", "sys", "tls", "wire",
            "worker",
        ],
        &["log"],
    ),
];

/// Words that are kept out of some rooms.
struct Ban {
    /// A path or word, matched at the borders of identifiers.
    word: &'static str,
    rooms: Scope,
    why: &'static str,
}

/// Rooms by path under `src/`, each with all that lies in it.
enum Scope {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

use Scope::{AllBut, Only};

const fn ban(word: &'static str, rooms: Scope, why: &'static str) -> Ban {
    Ban { word, rooms, why }
}

/// What turns on the loop, where nothing may block, and what is pure.
const LOOP: &[&str] = &["core", "net", "worker", "board"];

const BANS: &[Ban] = &[
    ban(
        "Instant",
        AllBut(&["background", "reactor"]),
        "time comes in as a Tick",
    ),
    ban(
        "SystemTime",
        Only(&["core", "worker"]),
        "time comes in as a Tick",
    ),
    ban("std::fs", Only(LOOP), "the loop does not block on files"),
    ban("thread::spawn", Only(LOOP), "one process is one thread"),
    ban("thread::scope", Only(LOOP), "one process is one thread"),
    ban("thread::Builder", Only(LOOP), "one process is one thread"),
    ban(
        "thread::sleep",
        Only(LOOP),
        "the loop only waits for events",
    ),
    ban(
        "std::env",
        Only(LOOP),
        "settings come from the configuration",
    ),
    ban("std::process", Only(LOOP), "only main ends the process"),
    ban(
        "ToSocketAddrs",
        Only(LOOP),
        "the loop does not wait for names",
    ),
    ban("TcpStream", Only(LOOP), "sockets live behind the seam"),
    ban("TcpListener", Only(LOOP), "sockets live behind the seam"),
    ban("UdpSocket", Only(LOOP), "sockets live behind the seam"),
    ban("UnixStream", Only(LOOP), "sockets live behind the seam"),
    ban("std::os", Only(LOOP), "descriptors live behind the seam"),
    ban("Rc", AllBut(&[]), "ids instead of shared owners"),
    ban("RefCell", AllBut(&[]), "two disjoint borrows instead"),
    ban("Mutex", Only(LOOP), "there is no lock in the loop"),
    ban("RandomState", Only(LOOP), "a run is repeated from its seed"),
    ban("unsafe", AllBut(&["sys"]), "it stays in one room"),
    ban("println!", AllBut(&["main"]), "libraries do not print"),
    ban("print!", AllBut(&["main"]), "libraries do not print"),
    ban("eprintln!", AllBut(&["main"]), "libraries do not print"),
    ban("dbg!", AllBut(&[]), "left over"),
    ban("todo!", AllBut(&[]), "left over"),
    ban("unimplemented!", AllBut(&[]), "left over"),
    ban(".unwrap()", AllBut(&[]), "expect says why it cannot fail"),
];

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 1200;

#[test]
fn rooms_import_only_what_the_table_allows() {
    report(check(&sources("src"), imports));
}

#[test]
fn words_stay_out_of_the_rooms_they_are_banned_from() {
    report(check(&sources("src"), banned));
}

#[test]
fn files_open_with_their_purpose_and_stay_readable() {
    let mut files = sources("src");
    files.extend(sources("tests"));
    report(check(&files, shape));
}

#[test]
fn nothing_is_named_after_a_list_that_nobody_has() {
    let mut files = sources("src");
    files.extend(sources("tests"));
    report(check(&files, lettered));
}

#[test]
fn every_room_of_the_crate_is_in_the_table() {
    let known = |name: &str| ROOMS.iter().any(|room| room.path == name);
    let mut unknown = Vec::new();
    for file in sources("src") {
        if !known(top(&file.room)) {
            unknown.push(format!("src/{}: not in the table of rooms", file.room));
        }
    }
    report(unknown);
}

#[test]
fn no_room_imports_itself_by_way_of_others() {
    for start in ROOMS {
        let start = top(start.path);
        let mut reached = imported_by(start);
        let mut at = 0;
        while let Some(&room) = reached.get(at) {
            assert_ne!(
                room, start,
                "{start} imports itself by way of some of {reached:?}"
            );
            let mut further = imported_by(room);
            further.retain(|it| !reached.contains(it));
            reached.append(&mut further);
            at += 1;
        }
    }
}

/// The largest room is one of layers: tables know nothing of those who drive them.
#[test]
fn no_file_of_the_worker_imports_itself_by_way_of_others() {
    let mut files = sources("src");
    files.retain(|file| within(&file.room, "worker") && !is_test_file(file));
    let of = |file: &Source| {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let paths = paths(&code_only(code)).into_iter();
        let paths = paths.map(|(_, path)| resolve(&file.room, &path).replace("::", "/"));
        let imported = |path: String| {
            let path = path.strip_prefix("crate/")?;
            let fits = |(_, it): &(usize, &Source)| within(path, &it.room);
            let fitting = files.iter().enumerate().filter(fits);
            let found = fitting.max_by_key(|(_, it)| it.room.len());
            found.map(|(at, _)| at)
        };
        paths.filter_map(imported).collect::<Vec<usize>>()
    };
    let imports: Vec<Vec<usize>> = files.iter().map(of).collect();
    for (start, file) in files.iter().enumerate() {
        let mut reached = imports[start].clone();
        reached.retain(|&it| it != start);
        let mut at = 0;
        while let Some(&it) = reached.get(at) {
            let (name, by) = (&file.name, &files[it].name);
            assert!(
                !imports[it].contains(&start),
                "{name} imports itself by way of {by}"
            );
            let further = imports[it].iter().filter(|next| !reached.contains(next));
            let further: Vec<usize> = further.copied().collect();
            reached.extend(further);
            at += 1;
        }
    }
}

/// What a room of the crate may import of the others.
fn imported_by(name: &str) -> Vec<&'static str> {
    let rows = ROOMS.iter().filter(|room| top(room.path) == name);
    let rooms = rows.flat_map(|room| room.rooms.iter().copied());
    rooms.filter(|it| *it != name).collect()
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// One source file.
struct Source {
    /// As messages name it.
    name: String,
    /// Path under `src/` without `.rs` and `/mod`.
    room: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no file in {folder}");
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root).expect("it was found there");
        let name = name
            .to_str()
            .expect("our files have plain names")
            .to_owned();
        Source {
            room: room_of(name.strip_prefix("src/").unwrap_or(&name)),
            text: fs::read_to_string(path).expect("sources are UTF-8"),
            name,
        }
    };
    paths.iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn room_of(name: &str) -> String {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    name.strip_suffix("/mod").unwrap_or(name).to_owned()
}

fn check(files: &[Source], rule: fn(&Source) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(rule).collect()
}

fn report(failures: Vec<String>) {
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Whether `path` is `folder` or lies in it.
fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn shape(file: &Source) -> Vec<String> {
    let is_test = file.name.starts_with("tests/") || is_test_file(file);
    let mut failures = Vec::new();
    let mut fail = |line: usize, what: &str| failures.push(format!("{}:{line}: {what}", file.name));
    if !file.text.starts_with("//! ") {
        fail(1, "does not open with `//!` and what it is for");
    }
    for (n, line) in file.text.lines().enumerate() {
        // A table of literals in a test is read by its rows; rustfmt leaves them whole.
        let is_row = is_test && line.contains('"');
        if line.chars().count() > COLUMNS_MAX && !is_row {
            fail(n + 1, "longer than 100 columns");
        }
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX && !is_test {
        fail(lines, "more than 1,200 lines");
    }
    failures
}

/// Comments and functions that point to entries of a list by letter and number.
fn lettered(file: &Source) -> Vec<String> {
    let is_entry = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_uppercase());
        digits.len() < rest.len() && digits.starts_with(|c: char| c.is_ascii_digit())
    };
    let is_named = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
        matches!(rest.len() - digits.len(), 1 | 2)
            && digits.starts_with(|c: char| c.is_ascii_digit())
            && digits[1..].starts_with('_')
    };
    let mut failures = Vec::new();
    for (n, line) in file.text.lines().enumerate() {
        let after = |word: &'static str| line.split(word).skip(1);
        if after("ehaviour ").any(is_entry) || after("fn ").any(is_named) {
            failures.push(format!("{}:{}: says a number of a list", file.name, n + 1));
        }
    }
    failures
}

fn banned(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let mut failures = Vec::new();
    for ban in BANS {
        let applies = match ban.rooms {
            Only(rooms) => rooms.iter().any(|room| within(&file.room, room)),
            AllBut(rooms) => !rooms.iter().any(|room| within(&file.room, room)),
        };
        if is_test_file(file) || !applies {
            continue;
        }
        for (n, line) in code.lines().enumerate() {
            if names(line, ban.word) {
                let (name, n) = (&file.name, n + 1);
                failures.push(format!("{name}:{n}: `{}`: {}", ban.word, ban.why));
            }
        }
    }
    failures
}

/// Whether a line of code holds a word that is not part of a longer one.
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let begins = word.starts_with(part) && before.is_some_and(part);
        let goes_on = word.ends_with(part) && after.is_some_and(part);
        !begins && !goes_on
    })
}

fn imports(file: &Source) -> Vec<String> {
    if is_test_file(file) {
        return Vec::new();
    }
    let fitting = ROOMS.iter().filter(|room| within(&file.room, room.path));
    let Some(room) = fitting.max_by_key(|room| room.path.len()) else {
        return vec![format!("{}:1: not in the table of rooms", file.name)];
    };
    let code = code_only(&file.text);
    let mut failures = Vec::new();
    for (line, path) in paths(&code) {
        let resolved = resolve(&file.room, &path);
        if !allowed(room, &resolved) {
            let name = &file.name;
            failures.push(format!(
                "{name}:{line}: `{path}` is not for `{}`",
                room.path
            ));
        }
    }
    failures
}

/// Tests have files of their own when they grow, `x/tests.rs`; they may import what they like.
fn is_test_file(file: &Source) -> bool {
    file.room.ends_with("/tests") || file.room.contains("/tests/")
}

/// An absolute path: `crate::...` for ours, the name of a crate or `std` for others.
fn resolve(room: &str, path: &str) -> String {
    let segments: Vec<&str> = path.split("::").collect();
    let up = segments.iter().take_while(|s| **s == "super").count();
    let is_relative = up > 0 || segments[0] == "self";
    if !is_relative {
        // The binary names the library by its own name.
        return match path.strip_prefix("weir::") {
            Some(rest) => format!("crate::{rest}"),
            None => path.to_owned(),
        };
    }
    let mut module: Vec<&str> = room.split('/').collect();
    if matches!(room, "lib" | "main") {
        module.clear();
    }
    module.truncate(module.len().saturating_sub(up));
    let rest = &segments[up.max(1)..];
    let whole: Vec<&str> = ["crate"]
        .into_iter()
        .chain(module)
        .chain(rest.iter().copied())
        .collect();
    whole.join("::")
}

fn allowed(room: &Room, path: &str) -> bool {
    let mut segments = path.split("::");
    let root = segments.next().unwrap_or_default();
    if root != "crate" {
        return !CRATES.contains(&root) || room.crates.contains(&root);
    }
    let Some(target) = segments.next() else {
        return true;
    };
    let own = top(room.path);
    // What does not begin like a module is an item at the root of the crate.
    let is_module = target.starts_with(|c: char| c.is_lowercase());
    !is_module || target == own || room.rooms.contains(&target)
}

/// Every crate that may be in a Cargo.toml: the first segment of a path that is none of these is a
/// local name.
const CRATES: &[&str] = &[
    "env_logger",
    "getopts",
    "httparse",
    "libc",
    "log",
    "mio",
    "ring",
    "rustix",
    "rustls",
    "rustls_webpki",
    "seccompiler",
    "serde",
    "serde_yaml",
    "slab",
    "socket2",
    "weir_data_plane",
    "zeroize",
];

#[test]
fn every_dependency_is_in_the_list_of_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for manifest in ["Cargo.toml", "src/Cargo.toml"] {
        let manifest = fs::read_to_string(root.join(manifest)).expect("it is there");
        let (_, rest) = manifest.split_once("[dependencies]\n").expect("a table");
        let table = rest.split("\n[").next().unwrap_or_default();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, _)) = line.split_once([' ', '.']) else {
                continue;
            };
            let name = name.replace('-', "_");
            assert!(CRATES.contains(&name.as_str()), "{name} is not in CRATES");
        }
    }
}

/// All paths of more than one segment in some code, and the single names that `use` brings in,
/// each with its line.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        let in_use = at > 0 && tokens[at - 1].1 == "use";
        at = path_at(&tokens, at, in_use, &mut found);
    }
    found
}

/// Reads one path, or steps over one other token. Of `a::{b, c::d}` the first two segments of
/// each branch are all that the rules look at, so only the outermost braces are gone into.
fn path_at(
    tokens: &[(usize, &str)],
    start: usize,
    in_use: bool,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.1);
    if !is_word(text(start)) {
        return start + 1;
    }
    let (line, mut path, mut at) = (tokens[start].0, text(start).to_owned(), start + 1);
    while text(at) == "::" && is_word(text(at + 1)) {
        path = format!("{path}::{}", text(at + 1));
        at += 2;
    }
    if in_use && text(at) == "::" && text(at + 1) == "{" {
        return branches(tokens, at + 2, &path, found);
    }
    if in_use || path.contains("::") {
        found.push((line, path));
    }
    at
}

/// Reads the branches of a `use` up to and with the closing brace.
fn branches(
    tokens: &[(usize, &str)],
    start: usize,
    prefix: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let mut at = start;
    while at < tokens.len() && tokens[at].1 != "}" {
        let mut below = Vec::new();
        at = path_at(tokens, at, true, &mut below);
        found.extend(below.into_iter().map(|(line, rest)| match rest.as_str() {
            "self" => (line, prefix.to_owned()),
            rest => (line, format!("{prefix}::{rest}")),
        }));
    }
    at + 1
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single other characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (n, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if is_word(rest) {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                found.push((n + 1, &rest[..length]));
            }
            rest = &rest[length..];
        }
    }
    found
}

/// The text with comments, literals and `#[cfg(test)]` modules blanked out, line for line.
fn code_only(text: &str) -> String {
    let mut code = without_literals(text);
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = end_of_item(&code, start);
        let blank = blanked(&code[start..end]);
        code.replace_range(start..end, &blank);
    }
    code
}

/// After the closing brace of the item at `start`, or after its semicolon when it has no body.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return start + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

fn blanked(text: &str) -> String {
    let blank = |c| if c == '\n' { '\n' } else { ' ' };
    text.chars().map(blank).collect()
}

fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = literal_length(rest);
        if length > 0 {
            code.push_str(&blanked(&rest[..length]));
            rest = &rest[length..];
            continue;
        }
        // A whole word at a time, so that the `r` of `for` is not taken for that of `r"..."`.
        let word = tokens(rest.lines().next().unwrap_or_default());
        let step = match word.first() {
            Some((_, token)) if rest.starts_with(token) => token.len(),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        code.push_str(&rest[..step]);
        rest = &rest[step..];
    }
    code
}

/// Length of the comment or literal that the text begins with, or 0.
fn literal_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |at| at + 2);
    }
    let unprefixed = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - unprefixed.len();
    if prefix <= 2 && text[..prefix].ends_with('r') {
        let hashes = unprefixed.len() - unprefixed.trim_start_matches('#').len();
        let opened = prefix + hashes + 1;
        if unprefixed[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[opened..].find(&close);
            return end.map_or(text.len(), |at| opened + at + close.len());
        }
    }
    match unprefixed.chars().next() {
        Some('"') if prefix <= 1 => prefix + quoted_length(unprefixed, '"'),
        Some('\'') if prefix <= 1 && is_char_literal(unprefixed) => {
            prefix + quoted_length(unprefixed, '\'')
        }
        _ => 0,
    }
}

/// `'a'` and `'\n'`, but not the lifetime `'a`.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn source(room: &str, text: &str) -> Source {
    Source {
        name: format!("src/{room}.rs"),
        room: room.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for (room, text) in [
        ("core/flow", "use mio::Poll;"),
        ("core/flow", "use crate::net::Net;"),
        ("core/flow", "use crate::{core::time, net};"),
        (
            "core/flow",
            "use crate::{core::{time, flow}, worker::Worker};",
        ),
        ("core/flow", "fn f() { crate::worker::run() }"),
        ("core/flow", "fn f() { log::warn!(\"x\") }"),
        ("core/flow", "use super::super::net;"),
        ("core/http/head", "use serde::Deserialize;"),
        ("core/balance", "use httparse;"),
        ("worker/relay", "use mio::net as anything;"),
        ("worker", "use super::reactor::Reactor;"),
        ("main", "use weir::surprise::Worker;"),
        ("config/model", "fn f(v: serde_yaml::Value) {}"),
    ] {
        let found = imports(&source(room, &format!("//! x\n{text}\n")));
        assert_eq!(found.len(), 1, "{room}: {text}: {found:?}");
        assert!(
            found[0].starts_with(&format!("src/{room}.rs:2: ")),
            "{found:?}"
        );
    }
}

#[test]
fn an_allowed_import_passes() {
    for (room, text) in [
        (
            "core/flow",
            "use std::fmt;\nuse super::time::Tick;\nuse crate::core::buffer;",
        ),
        (
            "core/http/head",
            "use httparse::Status;\nuse super::super::buffer::Buffer;",
        ),
        (
            "core/flow",
            "// use mio::Poll;\n/// `crate::net`\nfn f() { g(\"mio::Poll\") }",
        ),
        (
            "core/flow",
            "#[cfg(test)]\nmod tests {\n    use proptest::x;\n    use mio::Poll;\n}",
        ),
        (
            "core/flow",
            "fn f<'a>(x: &'a str) -> char { '\"' }\nuse super::time;",
        ),
        ("core/flow", "fn f() { r#\"use mio::x\"# }"),
        ("core/flow/tests", "use mio::Poll;"),
        (
            "worker/relay",
            "use crate::core::flow;\nuse super::Worker;\nuse crate::net::Net;",
        ),
        ("main", "use weir::process::single;"),
    ] {
        let found = imports(&source(room, text));
        assert!(found.is_empty(), "{room}: {found:?}");
    }
}

#[test]
fn a_banned_word_is_found_as_a_word() {
    let lines = |room, text| {
        let found = banned(&source(room, text));
        found
            .iter()
            .filter_map(|f| f.split(':').nth(1)?.parse().ok())
            .collect::<Vec<usize>>()
    };
    assert_eq!(lines("worker", "\nuse std::time::Instant;"), [2]);
    assert_eq!(lines("worker", "struct Instantly;"), []);
    assert_eq!(lines("reactor", "use std::time::Instant;"), []);
    assert_eq!(lines("core/key", "fn f() {\n    unsafe { g() }\n}"), [2]);
    assert_eq!(lines("sys/signal", "unsafe { g() }"), []);
    assert_eq!(lines("config", "let a = b.unwrap();"), [1]);
    assert_eq!(lines("config", "let a = b.unwrap_or(1);"), []);
    assert_eq!(
        lines(
            "config",
            "#[cfg(test)]\nmod tests { fn f() { b.unwrap(); } }"
        ),
        []
    );
    assert_eq!(lines("worker", "let s: Rc<str>;\nstruct Arc;"), [1]);
}

#[test]
fn a_number_of_a_list_is_found() {
    let found = |start: &str, rest: &str| lettered(&source("core/key", &format!("{start}{rest}")));
    assert_eq!(found("/// Behaviour", " HC1.").len(), 1);
    assert_eq!(found("fn ", "rr3_members()").len(), 1);
    for (start, rest) in [
        ("// Behaviour", " of HTTP/1."),
        ("fn ", "ipv6_names()"),
        ("fn ", "h1()"),
    ] {
        assert_eq!(found(start, rest), [""; 0]);
    }
}

#[test]
fn a_file_without_its_shape_is_found() {
    assert_eq!(shape(&source("core", "use std::fmt;\n")).len(), 1);
    let wide = format!("//! {}\n", "x".repeat(COLUMNS_MAX));
    assert_eq!(shape(&source("core", &wide)).len(), 1);
    let row = format!("//! x\nlet x = \"{}\";\n", "x".repeat(COLUMNS_MAX));
    assert_eq!(shape(&source("core", &row)).len(), 1);
    assert!(shape(&source("core/tests", &row)).is_empty());
    let long = "//! x\n".repeat(LINES_MAX + 1);
    assert_eq!(shape(&source("core", &long)).len(), 1);
    assert!(shape(&source("core", "//! x\n")).is_empty());
}
