//! The file in which changes by hand are kept, so that they outlive this weir.
//!
//! It is replaced as a whole: a new one is written beside it, and takes its name once it is on the
//! disk. A lock beside it, held for as long as the process lives, keeps it for one weir.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use log::{debug, info, warn};

use crate::cli::Args;
use crate::config::model::StatePlace;
use crate::control::overlay::Overlay;
use crate::control::succession::{self, Left, left};
use crate::control::{EXIT_BIND, EXIT_TAKEN, Refusal, state_text};
use crate::core::text::plural;
use crate::sys::file_lock;

/// Where it is by default.
const FOLDER_DEFAULT: &str = "/var/lib/weir";
/// Tells the program that takes the place of this one what was changed by hand.
const VARIABLE: &str = "WEIR_ADMIN_STATE";
/// The owner and the group may read it.
const MODE: u32 = 0o640;

/// Where changes by hand are kept.
#[derive(Debug, Default)]
pub(crate) struct StateFile {
    /// None where they are kept in memory only.
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Held, not used.
    _lock: File,
}

/// Why a file cannot be had.
enum Trouble {
    Taken(Option<u32>),
    Failed(io::Error),
}

impl StateFile {
    /// Takes the file that is meant, and what is in it. To be called as the user that stays.
    pub(crate) fn open(args: &Args, place: &StatePlace) -> Result<(Self, Overlay), Refusal> {
        let (path, is_wanted) = match (place, &args.pid_file) {
            (StatePlace::Memory, _) | (StatePlace::Auto, None) => return Ok(Self::in_memory()),
            (StatePlace::At(path), _) => (path.clone(), true),
            (StatePlace::Auto, Some(pid_file)) => (default_beside(pid_file), false),
        };
        let fits = no_folder(&path).map_err(Trouble::Failed);
        match fits.and_then(|()| lock(&path)) {
            Ok(lock) => {
                let overlay = take(&path);
                let place = Some(Place { path, _lock: lock });
                Ok((Self { place }, overlay))
            }
            Err(trouble) if is_wanted => Err(trouble.refusal(&path)),
            Err(trouble) => {
                trouble.tell(&path);
                Ok(Self::in_memory())
            }
        }
    }

    fn in_memory() -> (Self, Overlay) {
        (Self::default(), Overlay::default())
    }

    /// The same for a program that takes the place of another, which has left what was changed.
    pub(crate) fn inherited(args: &Args, place: &StatePlace) -> (Self, Overlay) {
        let left = left(VARIABLE, state_text::BYTES_MAX);
        let left = left.and_then(|bytes| state_text::read(&bytes).ok());
        let (this, read) = Self::open(args, place).unwrap_or_else(|refusal| {
            warn!("{}; changes by hand are kept in memory", refusal.message);
            Self::in_memory()
        });
        (this, left.unwrap_or(read))
    }

    /// Keeps what was changed.
    ///
    /// # Errors
    /// When it cannot be written. Then the file is as it was.
    pub(crate) fn save(&self, overlay: &Overlay) -> Result<(), String> {
        let Some(Place { path, .. }) = &self.place else {
            return Ok(());
        };
        let text = state_text::write(overlay);
        let saved = replace(path, text.as_bytes());
        saved.map_err(|error| format!("{}: cannot be written: {error}", path.display()))
    }
}

/// What keeps a start from using that path, as far as it can be told before. Where a folder has the
/// place of the default, a start does without.
pub(super) fn problem(place: &StatePlace) -> Option<String> {
    let StatePlace::At(path) = place else {
        return None;
    };
    let error = no_folder(path).err()?;
    Some(format!("`state` is {path:?}: {error}"))
}

/// A lock beside a folder would be taken, and nothing ever written.
fn no_folder(path: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => Err(io::Error::other("it is a folder; name a file in it")),
        false => Ok(()),
    }
}

/// For the program that takes the place of this one.
pub(super) fn leave(overlay: &Overlay) -> io::Result<Left> {
    succession::leave(VARIABLE, state_text::write(overlay).as_bytes())
}

fn default_beside(pid_file: &Path) -> PathBuf {
    let name = pid_file.file_stem().unwrap_or_default();
    let name = Path::new(name).with_extension("state");
    Path::new(FOLDER_DEFAULT).join(name)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl Trouble {
    fn refusal(&self, path: &Path) -> Refusal {
        let shown = path.display();
        match self {
            Self::Taken(_) => Refusal {
                code: EXIT_TAKEN,
                message: format!("state: {shown}: {}", self.words()),
            },
            Self::Failed(_) => Refusal {
                code: EXIT_BIND,
                message: format!(
                    "state: {shown}: {}; the user that weir runs as must be able to write to its \
                     folder; `state: memory` does without",
                    self.words()
                ),
            },
        }
    }

    /// Nobody has asked for the default one.
    fn tell(&self, path: &Path) {
        let shown = path.display();
        match self {
            Self::Taken(_) => warn!(
                "{shown}: {}: changes by hand are kept in memory; `state: PATH` gives this weir a \
                 file of its own",
                self.words()
            ),
            Self::Failed(_) => {
                debug!(
                    "{shown}: {}: changes by hand are kept in memory",
                    self.words()
                );
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Taken(Some(pid)) => format!("process {pid} is another weir that keeps it"),
            Self::Taken(None) => "another process has locked it".to_owned(),
            Self::Failed(error) => error.to_string(),
        }
    }
}

/// Locks what stands beside it: it is replaced itself.
fn lock(path: &Path) -> Result<File, Trouble> {
    let beside = with_suffix(path, ".lock");
    let file = file_lock::create(&beside).map_err(Trouble::Failed)?;
    match file_lock::lock(&file) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let holder = file_lock::holder(&file);
            Err(Trouble::Taken(holder.ok().flatten()))
        }
        Err(error) => Err(Trouble::Failed(error)),
    }
}

/// What is in the file; nothing where there is none. One that cannot be used is put aside.
fn take(path: &Path) -> Overlay {
    let shown = path.display();
    let read = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Overlay::default(),
        Err(error) => Err(error.to_string()),
        Ok(bytes) => state_text::read(&bytes),
    };
    match read {
        Ok(overlay) => {
            let count = overlay.len();
            info!(
                "{shown}: {count} change{} by hand taken from it",
                plural(count == 1)
            );
            overlay
        }
        Err(reason) => {
            let aside = with_suffix(path, ".broken");
            match fs::rename(path, &aside) {
                Ok(()) => warn!("{shown}: {reason}; put aside as {}", aside.display()),
                Err(error) => warn!("{shown}: {reason}; it cannot be put aside: {error}"),
            }
            Overlay::default()
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = file_lock::open(path, false)?;
    let mut bytes = Vec::new();
    file.take(state_text::BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(MODE).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
