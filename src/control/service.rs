//! The service manager that started this process: tells it how things go, feeds its watchdog, and
//! takes over the listening sockets it has opened.

use std::io;
use std::os::fd::AsFd as _;

use log::{debug, warn};

use crate::config::model::Listener as Settings;
use crate::control::Refusal;
use crate::control::listen::announce;
use crate::core::address::Address;
use crate::reactor::Reactor;
use crate::sys::activation::{self, Passed};
use crate::sys::notify::{Beat, Notify};
use crate::sys::socket::{self, ListenerSocket};

/// The service manager, or none.
#[derive(Debug, Default)]
pub(crate) struct Service {
    notify: Notify,
    passed: Vec<Passed>,
    beat: Option<Beat>,
}

impl Service {
    /// What the environment tells of it. The very first thing a process does: before it opens a
    /// descriptor or starts a thread.
    pub(crate) fn from_environment() -> Self {
        let mut passed = Vec::new();
        for socket in activation::take_sockets() {
            match socket {
                Ok(socket) => passed.push(socket),
                Err(message) => warn!("{message}"),
            }
        }
        let notify = Notify::from_environment().unwrap_or_else(|error| {
            warn!("the service manager cannot be told anything: {error}");
            Notify::default()
        });
        Self {
            notify,
            passed,
            beat: None,
        }
    }

    /// Whether sockets were handed over, which somebody else has open, too.
    pub(crate) fn has_sockets(&self) -> bool {
        !self.passed.is_empty()
    }

    /// The sockets that were handed over, for the listeners they belong to: by address first,
    /// then by name. Others are closed, with a warning.
    pub(crate) fn listeners(
        &mut self,
        settings: &[Settings],
    ) -> Result<Vec<Option<ListenerSocket>>, Refusal> {
        let mut found: Vec<Option<Passed>> = settings.iter().map(|_| None).collect();
        let by_address = |s: &Settings, p: &Passed| p.address() == Some(&s.address);
        let by_name = |s: &Settings, p: &Passed| p.name() == s.name && kind_fits(s, p);
        for fits in [&by_address as &dyn Fn(&Settings, &Passed) -> bool, &by_name] {
            for (settings, found) in settings.iter().zip(&mut found) {
                let at = self.passed.iter().position(|p| fits(settings, p));
                if let Some(at) = at.filter(|_| found.is_none()) {
                    *found = Some(self.passed.remove(at));
                }
            }
        }
        for unused in self.passed.drain(..) {
            let at = unused
                .address()
                .map_or_else(String::new, ToString::to_string);
            warn!(
                "the socket \"{}\" {at} that was handed over belongs to no listener; it is closed",
                unused.name()
            );
        }
        settings.iter().zip(found).map(adopt).collect()
    }

    /// Lets the reactor wake up for the watchdog, if there is one.
    pub(crate) fn watch(&mut self, reactor: &Reactor, key: u32) -> io::Result<()> {
        let Some(interval) = self.notify.watchdog_interval() else {
            return Ok(());
        };
        let beat = Beat::every(interval)?;
        reactor.watch_control(beat.as_fd(), key)?;
        self.beat = Some(beat);
        Ok(())
    }

    /// What a program that takes the place of this one must find in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        self.notify.environment()
    }

    /// Feeds the watchdog when it is time: the loop turns.
    pub(crate) fn on_beat(&self) {
        if self.beat.as_ref().is_some_and(Beat::take) {
            debug_failure(self.notify.alive());
        }
    }

    /// Started.
    pub(crate) fn ready(&self, status: &str) {
        debug_failure(self.notify.ready(status));
    }

    /// A reload has ended, and whether it changed anything.
    pub(crate) fn reloaded(&self, is_done: bool) {
        self.ready(if is_done {
            "serving, reloaded"
        } else {
            "serving, the last reload failed: see the log"
        });
    }

    /// A reload has begun; [`Service::reloaded`] follows.
    pub(crate) fn reloading(&self) {
        debug_failure(self.notify.reloading());
    }

    /// A graceful end has begun.
    pub(crate) fn stopping(&self) {
        debug_failure(self.notify.stopping("ending, sessions finish"));
    }
}

fn adopt(
    (settings, passed): (&Settings, Option<Passed>),
) -> Result<Option<ListenerSocket>, Refusal> {
    let Some(passed) = passed else {
        return Ok(None);
    };
    let what = format!("listener {}: the socket handed over", settings.name);
    let listener = socket::adopt(passed.into_fd(), settings.keepalive.as_ref())
        .map_err(|error| Refusal::new(&what, &error))?;
    announce(settings, &listener);
    Ok(Some(listener))
}

/// A name may have been given to a socket of another kind.
fn kind_fits(settings: &Settings, passed: &Passed) -> bool {
    matches!(
        (&settings.address, passed.address()),
        (Address::Ip(_), Some(Address::Ip(_))) | (Address::Unix(_), Some(Address::Unix(_)))
    )
}

/// The manager is the one who misses the message, and it says so.
fn debug_failure(sent: io::Result<()>) {
    if let Err(error) = sent {
        debug!("the service manager did not get a message: {error}");
    }
}
