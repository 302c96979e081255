//! Opens listening sockets as the configuration asks, and says why where it cannot.

use std::io;

use log::{info, warn};

use crate::cli::Args;
use crate::config::model::Listener as Settings;
use crate::control::{EXIT_BIND, Refusal};
use crate::core::address::Address;
use crate::sys::socket::{self, ListenerSocket};

/// Opens the socket of a listener and logs where it is.
pub(crate) fn listen(settings: &Settings) -> Result<ListenerSocket, Refusal> {
    let listener = listen_at(settings, &settings.address)?;
    announce(settings, &listener);
    Ok(listener)
}

/// The same at another address, without a word in the log.
pub(crate) fn listen_at(settings: &Settings, address: &Address) -> Result<ListenerSocket, Refusal> {
    let opened = socket::listen(address, settings.backlog, settings.keepalive.as_ref());
    opened.map_err(|error| {
        let hint = match (error.kind(), address) {
            (io::ErrorKind::PermissionDenied, Address::Ip(_)) => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE or root"
            }
            (io::ErrorKind::AddrInUse, _) => "; another program listens there",
            _ => "",
        };
        let what = format!("listener {}: cannot listen on {address}", settings.name);
        Refusal {
            code: EXIT_BIND,
            message: format!("{what}: {error}{hint}"),
        }
    })
}

/// Warns of ports that somebody has already. Of the same user, that shares the connections, which
/// is meant where each process has a CPU, and refused where both have one pid file.
pub(crate) fn warn_of_others(args: &Args, listeners: &[Settings]) {
    if args.cpu.is_some() || args.pid_file.is_some() {
        return;
    }
    for settings in listeners {
        if let Address::Ip(address) = settings.address
            && address.port() != 0
            && socket::is_taken(address)
        {
            warn!(
                "listener {}: another process listens on {address}, too; if it is a weir, both get \
                 a part of the connections. Give each a pid file (`-p`) so that only one starts, \
                 or a CPU (`--cpu`) if that is meant",
                settings.name
            );
        }
    }
}

/// Logs where a listener is, with the port that the kernel chose.
pub(crate) fn announce(settings: &Settings, listener: &ListenerSocket) {
    let bound = match (listener.local_address(), &settings.address) {
        (Some(local), _) => local.to_string(),
        (None, address @ (Address::Unix(_) | Address::Ip(_))) => address.to_string(),
    };
    info!("listening on {bound} (listener {})", settings.name);
}

/// Its file may lie where only root may create one.
pub(crate) fn is_unix(settings: &Settings) -> bool {
    matches!(settings.address, Address::Unix(_))
}
