//! The sockets at which weir is asked while it runs, opened while root.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use log::{debug, info, warn};

use crate::admin::guard::Rules;
use crate::cli::Args;
use crate::config::model::{Admin, AdminSocket};
use crate::control::succession::{self, Left, left};
use crate::control::{EXIT_BIND, EXIT_TAKEN, Refusal};
use crate::core::address::Address;
use crate::sys::access::open_at_once;
use crate::sys::privileges::Identity;
use crate::sys::socket::{self, ListenerSocket};
use crate::sys::{child, environment};

/// Where the socket is without a pid file.
pub(crate) const SOCKET_DEFAULT: &str = "/run/weir/admin.sock";
/// Tells the program that takes the place of this one which descriptors are doors.
const VARIABLE: &str = "WEIR_ADMIN_DOORS";
/// The same of the token.
const TOKEN_VARIABLE: &str = "WEIR_ADMIN_TOKEN";
/// Who waits to be let in, at most.
const BACKLOG: i32 = 64;
/// The owner and the group may connect.
const SOCKET_MODE: u32 = 0o660;
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1024;
/// A path, a zero byte and a token.
const LEFT_BYTES_MAX: u64 = 4096 + 1 + TOKEN_BYTES_MAX as u64;

/// The doors, and who may do what there.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    sockets: Vec<ListenerSocket>,
    pub(crate) rules: Rules,
    /// Where the token was read.
    token_file: Option<PathBuf>,
}

/// The socket beside a pid file.
pub(crate) fn beside(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("sock")
}

impl Doors {
    /// Opens them, for `owner` to remove.
    pub(crate) fn open(
        args: &Args,
        admin: &Admin,
        owner: Option<&Identity>,
    ) -> Result<Self, Refusal> {
        let token = admin.token_file.as_deref().map(|path| {
            read_token(path).map_err(|error| Refusal {
                code: EXIT_BIND,
                message: of_token(path, &error),
            })
        });
        let mut doors = Self::with(Vec::new(), admin, token.transpose()?);
        doors.sockets.extend(open_unix(args, admin, owner)?);
        if let Some(address) = &admin.listen {
            let opened = socket::listen(address, BACKLOG, None);
            let what = format!("admin: cannot listen on {address}");
            let opened = opened.map_err(|error| Refusal::new(&what, &error))?;
            let bound = opened.local_address();
            info!(
                "admin at http://{}/",
                bound.map_or_else(|| address.to_string(), |it| it.to_string())
            );
            doors.sockets.push(opened);
        }
        Ok(doors)
    }

    /// Those that the program before has left, with what the configuration says of them now.
    pub(crate) fn inherited(admin: &Admin) -> Self {
        let numbers = environment::take(VARIABLE).unwrap_or_default();
        let numbers = numbers.split(',').filter_map(|number| number.parse().ok());
        let sockets = numbers.filter_map(|number| child::take_inherited(number).ok());
        let sockets = sockets.map(|fd| match socket::unix_path(&fd) {
            Some(path) => ListenerSocket::inherited(fd, &Address::Unix(path)),
            None => fd.into(),
        });
        let left = left(TOKEN_VARIABLE, LEFT_BYTES_MAX);
        let token = admin.token_file.as_deref().and_then(|path| {
            read_token(path).map_or_else(|error| former_token(path, &error, left), Some)
        });
        Self::with(sockets.collect(), admin, token)
    }

    fn with(sockets: Vec<ListenerSocket>, admin: &Admin, token: Option<Vec<u8>>) -> Self {
        Self {
            sockets,
            rules: Rules {
                token,
                reads_are_open: admin.reads_are_open(),
                is_loopback: admin.is_loopback(),
            },
            token_file: admin.token_file.clone(),
        }
    }

    /// For the program that takes the place of this one, which may not be able to read it.
    pub(crate) fn leave_token(&self) -> Option<io::Result<Left>> {
        let path = self.token_file.as_deref()?.as_os_str().as_bytes();
        let token = self.rules.token.as_deref()?;
        // No path has a zero byte.
        Some(succession::leave(
            TOKEN_VARIABLE,
            &[path, b"\0", token].concat(),
        ))
    }

    /// What the program must find in its environment that takes the place of this one.
    pub(crate) fn environment(&self) -> Option<(&'static str, String)> {
        let numbers = self.sockets.iter().map(|it| it.as_fd().as_raw_fd());
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        (!numbers.is_empty()).then(|| (VARIABLE, numbers.join(",")))
    }

    /// Whether they outlive this program.
    pub(crate) fn keep_over_exec(&self, kept: bool) -> io::Result<()> {
        self.sockets
            .iter()
            .try_for_each(|it| child::keep_over_exec(it, kept))
    }

    /// Whether there is any.
    pub(crate) fn are_there(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Further descriptors of them.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.sockets.iter();
        sockets.map(|it| it.as_fd().try_clone_to_owned()).collect()
    }

    /// Closes them, and removes the file of the Unix socket.
    pub(crate) fn close(self) {
        self.sockets.into_iter().for_each(ListenerSocket::close);
    }
}

fn open_unix(
    args: &Args,
    admin: &Admin,
    owner: Option<&Identity>,
) -> Result<Option<ListenerSocket>, Refusal> {
    let (path, is_wanted) = match (&admin.socket, &args.pid_file) {
        (AdminSocket::Off, _) => return Ok(None),
        (AdminSocket::At(path), _) => (path.clone(), true),
        (AdminSocket::Auto, Some(pid_file)) => (beside(pid_file), true),
        (AdminSocket::Auto, None) => (SOCKET_DEFAULT.into(), false),
    };
    match listen_unix(&path, owner) {
        Ok(socket) => {
            info!("admin socket {}", path.display());
            Ok(Some(socket))
        }
        Err(error) => unopened(&path, &error, is_wanted).map(|()| None),
    }
}

/// Nobody has asked for the default one.
fn unopened(path: &Path, error: &io::Error, is_wanted: bool) -> Result<(), Refusal> {
    let is_taken = error.kind() == io::ErrorKind::AddrInUse;
    let shown = path.display();
    match (is_wanted, is_taken) {
        (true, true) => Err(Refusal {
            code: EXIT_TAKEN,
            message: format!("admin socket {shown}: another weir listens there"),
        }),
        (true, false) => Err(Refusal {
            code: EXIT_BIND,
            message: format!(
                "admin socket {shown}: {error}; `admin: off` does without, `admin: PATH` has it \
                 elsewhere"
            ),
        }),
        (false, true) => {
            warn!(
                "another weir has the admin socket {shown}: this one has none; `admin: PATH` or \
                 `-p FILE` gives it one of its own"
            );
            Ok(())
        }
        (false, false) => {
            debug!("no admin socket {shown}: {error}");
            Ok(())
        }
    }
}

fn listen_unix(path: &Path, owner: Option<&Identity>) -> io::Result<ListenerSocket> {
    let socket = socket::listen(&Address::Unix(path.to_owned()), BACKLOG, None)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    if let Some((user, group)) = owner.map(Identity::ids) {
        std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    }
    Ok(socket)
}

/// The token that the program before has left, if it is of that file, which was read as root, and
/// this process is root no more.
fn former_token(path: &Path, error: &io::Error, left: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let left = left.filter(|_| error.kind() == io::ErrorKind::PermissionDenied);
    let token = left.and_then(|left| {
        let end = left.iter().position(|byte| *byte == 0)?;
        (left[..end] == *path.as_os_str().as_bytes()).then(|| left[end + 1..].to_vec())
    });
    let words = of_token(path, error);
    match &token {
        Some(_) => info!("{words}; the token that was read before counts"),
        None => warn!("{words}; nobody may act over TCP"),
    }
    token
}

fn of_token(path: &Path, error: &io::Error) -> String {
    format!("admin: token_file {}: {error}", path.display())
}

/// What keeps a start from taking the token, as far as this user can tell.
pub(super) fn token_problem(path: &Path) -> Option<String> {
    let error = read_token(path).err()?;
    (error.kind() != io::ErrorKind::PermissionDenied).then(|| of_token(path, &error))
}

/// What is in the file, without the line end. Nobody else may be able to read it.
fn read_token(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_at_once(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o027 != 0 {
        return Err(io::Error::other(format!(
            "its mode {mode:o} lets others read or change it; chmod 600 it"
        )));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let token = text.trim_ascii();
    match token.len() {
        TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX => Ok(token.to_vec()),
        length => Err(io::Error::other(format!(
            "it holds {length} bytes, must be {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_before_counts_for_its_file_and_where_that_is_closed() {
        let left = || Some(b"/etc/token\0sixteen bytes or so".to_vec());
        let closed = io::Error::from(io::ErrorKind::PermissionDenied);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        for (path, error, left, is_taken) in [
            ("/etc/token", &closed, left(), true),
            ("/etc/other", &closed, left(), false),
            ("/etc/token", &gone, left(), false),
            ("/etc/token", &closed, None, false),
        ] {
            let token = former_token(Path::new(path), error, left);
            let expected = is_taken.then(|| b"sixteen bytes or so".to_vec());
            assert_eq!(token, expected, "{path}: {error}");
        }
    }
}
