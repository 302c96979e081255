//! From a YAML file to a complete model, or to every error in it.
//!
//! The way of a file: `node` reads YAML into a tree that knows positions; `section` and `values`
//! read keys and values off it and collect what is wrong; `compile`, `listener`, `route` and
//! `upstream` build the [`model`]. [`render`](fn@render) goes the other way. Both go by tables of
//! keys (`key`): a new key is an entry in one of them and a field of the model. Only [`read`]
//! touches a file.
//!
//! Words that the core decides by, such as a host pattern or the policy of ejections, are types of
//! the core; the model adds what is configured besides.

mod access_log;
mod admin;
mod answers;
mod backend;
mod compile;
mod fields;
mod forwarded_fields;
mod health;
mod https;
mod keepalive;
mod key;
mod listener;
mod node;
mod positions;
pub mod problem;
mod proxy_protocol;
pub mod reference;
mod render;
mod route;
pub(crate) mod said;
mod section;
mod sticky;
mod suggest;
mod timeouts;
mod tls;
mod tls_route;
mod top;
mod tree;
mod units;
mod upstream;
mod values;
mod yaml_words;

#[cfg(test)]
mod tests;

use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use weir_data_plane::config::defaults;
pub use weir_data_plane::config::model;

use model::Config;
use problem::{Position, Problem, Problems};

pub(crate) use positions::Positions;
pub use render::render;
pub(crate) use render::render_masked;

/// A good file.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What it says, complete.
    pub config: Config,
    /// What is odd about it but does not keep weir from running.
    pub warnings: Vec<Problem>,
    /// Where it says what only a look at the machine can judge.
    pub(crate) positions: Positions,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flawed {
    /// Every error, sorted by place.
    pub(crate) problems: Vec<Problem>,
    /// What could be understood in spite of them, with the default in the place of what could not,
    /// to say what else is wrong: not to serve with. None when it is no mapping of keys at all.
    pub(crate) rest: Option<Box<(Source, Compiled)>>,
}

/// A good file as it was read, with the files that it refers to: enough to compile it again
/// without touching one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the file, for messages.
    pub(crate) file_name: String,
    /// What it says.
    pub(crate) text: String,
    /// The files that it refers to, as they are written there, and what is in them.
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

impl Source {
    /// Compiles it again.
    ///
    /// # Errors
    /// As [`compile`](fn@compile); none when it was compiled before by the same version.
    pub(crate) fn compile(&self) -> Result<Compiled, Vec<Problem>> {
        compile(&self.file_name, &self.text, &mut |path| {
            let mut files = self.files.iter();
            let found = files.find(|(name, _)| name == path);
            found
                .map(|(_, bytes)| bytes.clone())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

/// A backend that no file has.
///
/// # Errors
/// What is wrong with the address.
pub(crate) fn added_backend(
    address: &str,
    identity: &str,
    weight: Option<u32>,
) -> Result<model::Backend, String> {
    backend::added(address, identity, weight)
}

/// Whether a configuration that was changed is a good one still.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_changed(config: &Config, source: &Source) -> Result<(), String> {
    let text = render(config);
    let changed = Source {
        text,
        ..source.clone()
    };
    let problems = changed.compile().err().unwrap_or_default();
    match problems.into_iter().next() {
        Some(problem) => Err(problem.message),
        None => Ok(()),
    }
}

/// Compiles the text of a configuration file. `read_file` reads what the file refers to, such
/// as error pages, with the path as it is written.
///
/// # Errors
///
/// Every error in the text, sorted by place.
pub fn compile(
    file_name: &str,
    text: &str,
    read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<Compiled, Vec<Problem>> {
    let (compiled, errors) = understand(file_name, text, read_file);
    match compiled {
        Some(compiled) if errors.is_empty() => Ok(compiled),
        Some(_) | None => Err(errors),
    }
}

/// What the text says, as far as it is a configuration, and every error in it.
fn understand(
    file_name: &str,
    text: &str,
    read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> (Option<Compiled>, Vec<Problem>) {
    let mut problems = Problems::new(file_name);
    let root = match node::parse(text) {
        Ok(root) => root,
        Err((at, message)) => {
            problems.error(at, message);
            return (None, problems.finish().1);
        }
    };
    let mut compiler = compile::Compiler::new(problems, read_file);
    let config = compiler.root(&root);
    let positions = compiler.positions;
    let (warnings, errors) = compiler.problems.finish();
    let compiled = Compiled {
        config,
        warnings,
        positions,
    };
    (Some(compiled), errors)
}

/// Reads and compiles a configuration file, and tells all that was read for it. Paths in it are
/// relative to its folder.
///
/// # Errors
///
/// Every error in the file, sorted by place, or why it cannot be read; with what there is in spite
/// of them.
pub(crate) fn read(path: &Path) -> Result<(Source, Compiled), Flawed> {
    let file_name = path.display().to_string();
    let unreadable = |at, message| Flawed {
        problems: vec![Problem {
            file: file_name.clone(),
            at,
            warning: false,
            message,
        }],
        rest: None,
    };
    // One byte more than allowed, so that the compiler sees that the file is too long.
    let bytes = read_bounded(path, node::FILE_BYTES_MAX + 1).map_err(|error| {
        let way = way_past(&error);
        unreadable(None, format!("cannot be read: {error}{way}"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good_bytes = error.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(&error.as_bytes()[..good_bytes]).into_owned();
        let at = Position::of_byte(&good, good.len());
        unreadable(Some(at), "the file is not UTF-8 from here on".to_owned())
    })?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut files = Vec::new();
    let (compiled, problems) = understand(&file_name, &text, &mut |referred| {
        let bytes = read_page(&folder.join(referred))?;
        files.push((referred.to_owned(), bytes.clone()));
        Ok(bytes)
    });
    let source = Source {
        file_name,
        text,
        files,
    };
    match compiled {
        Some(compiled) if problems.is_empty() => Ok((source, compiled)),
        rest => Err(Flawed {
            problems,
            rest: rest.map(|compiled| Box::new((source, compiled))),
        }),
    }
}

/// What to do where there is no configuration.
fn way_past(error: &io::Error) -> &'static str {
    const WAYS: [(io::ErrorKind, &str); 3] = [
        (
            io::ErrorKind::NotFound,
            "; name another file with `-c FILE`, or begin with `weir --help example > FILE`",
        ),
        (io::ErrorKind::IsADirectory, "; name a file in it"),
        (
            io::ErrorKind::PermissionDenied,
            "; it must be readable to the user that weir runs as",
        ),
    ];
    let way = WAYS.iter().find(|(kind, _)| *kind == error.kind());
    way.map_or("", |(_, way)| way)
}

/// Reads a file that another one refers to. Nobody waits here for who writes to a pipe.
fn read_page(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    read_bounded(path, defaults::PAGE_BYTES_MAX + 1)
}

/// Reads the beginning of a file, so that a device or a mistake cannot fill the memory.
fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
