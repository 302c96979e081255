//! What the control loop does while `tls` is configured, once a minute: it looks whether files have
//! changed, turns the keys of session tickets, and warns of certificates that expire.

use std::path::Path;
use std::time::Duration;

use log::{error, info, warn};

use crate::config::Source;
use crate::config::problem::Problem;
use crate::control::controller::{Controller, Doing};
use crate::control::credentials::{
    Credentials, SECONDS_PER_DAY, TicketRing, now_unix_s, problems, read, way,
};
use crate::control::overlay::Overlay;
use crate::control::reload::{Loaded, LoadedConfig};
use crate::sys::privileges;

/// How long a change may stay unseen, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What the controller keeps for it.
#[derive(Debug)]
pub(crate) struct Watch {
    source: Source,
    credentials: Credentials,
    pub(in crate::control) ring: TicketRing,
    /// What is wrong with files as they are now, and in the log already.
    told: Vec<Problem>,
    /// The day on which certificates were last looked at, since 1970.
    day: i64,
}

/// Files that have changed, as they are now.
#[derive(Debug)]
pub(in crate::control) struct Look {
    loaded: Box<LoadedConfig>,
    problems: Vec<Problem>,
}

/// Reads again what a good configuration names; none when nothing has changed.
fn look(
    source: &Source,
    overlay: &Overlay,
    folder: &Path,
    before: &Credentials,
    way: &str,
) -> Option<Look> {
    if !privileges::while_reading(|| before.may_differ()) {
        return None;
    }
    let mut compiled = source.compile().ok()?;
    overlay.shape_or_warn(&mut compiled.config, source);
    let outcome = read(&compiled, folder, Some(before), way);
    Some(Look {
        problems: problems(outcome.errors, &source.file_name, true),
        loaded: Box::new(LoadedConfig::new(
            source.clone(),
            compiled,
            outcome.credentials,
        )),
    })
}

impl Watch {
    /// Whatever was wrong is to be told again, should it come back.
    fn take_on(&mut self, source: Source, credentials: Credentials) {
        (self.source, self.credentials) = (source, credentials);
        self.told.clear();
    }

    /// Of what is wrong now, what the log does not say yet.
    fn untold<'a>(&self, problems: &'a [Problem]) -> Vec<&'a Problem> {
        let untold = problems.iter().filter(|it| !self.told.contains(it));
        untold.collect()
    }

    /// What was read for the configuration that runs.
    pub(in crate::control) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Controller {
    /// What was read for that configuration is in use.
    pub(crate) fn guard(&mut self, source: Source, credentials: Credentials) {
        self.guard_with(source, credentials, TicketRing::default());
    }

    /// Likewise, with keys of tickets that the program before has left. Whoever serves hears of
    /// no other ones: what they seal with is not to be thrown away.
    pub(crate) fn guard_with(
        &mut self,
        source: Source,
        credentials: Credentials,
        ring: TicketRing,
    ) {
        self.running = Some(source.clone());
        if !credentials.are_any() {
            self.set_interval(Duration::ZERO);
            self.watch = None;
            return;
        }
        let day = now_unix_s() / SECONDS_PER_DAY;
        if let Some(watch) = &mut self.watch {
            if watch.credentials.material != credentials.material {
                info!("certificates or keys are other ones than before");
                for path in watch.credentials.beside(&credentials) {
                    info!("{} is gone, and served no more", path.display());
                }
            }
            watch.take_on(source, credentials);
            return;
        }
        let has_keys = !ring.keys.is_empty();
        self.watch = Some(Box::new(Watch {
            source,
            credentials,
            ring,
            told: Vec::new(),
            day,
        }));
        self.set_interval(LOOK_INTERVAL);
        match has_keys {
            true => self.tell_ticket_keys(),
            false => self.turn_ticket_keys(),
        }
    }

    fn tell_ticket_keys(&mut self) {
        if let Some(watch) = &self.watch {
            self.workforce.set_ticket_keys(&watch.ring.keys);
        }
    }

    fn set_interval(&self, interval: Duration) {
        if let Err(error) = self.minutes.set(interval) {
            error!("files of `tls` are not looked at: {error}");
        }
    }

    /// Only while something is watched.
    pub(in crate::control) fn on_minute(&mut self) {
        if self.watch.is_none() || !self.minutes.take() {
            return;
        }
        self.turn_ticket_keys();
        self.warn_daily();
        self.look();
    }

    fn turn_ticket_keys(&mut self) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        match watch.ring.on_minute() {
            Ok(true) => self.tell_ticket_keys(),
            Ok(false) => {}
            Err(error) => error!("no new key for session tickets: {error}"),
        }
    }

    fn warn_daily(&mut self) {
        let now_unix_s = now_unix_s();
        let Some(watch) = &mut self.watch else {
            return;
        };
        let day = now_unix_s / SECONDS_PER_DAY;
        if std::mem::replace(&mut watch.day, day) != day {
            let overdue = watch.credentials.overdue(now_unix_s);
            for problem in problems(overdue, &watch.source.file_name, true) {
                warn!("{problem}");
            }
        }
    }

    fn look(&mut self) {
        let (Some(watch), Doing::Nothing) = (&self.watch, &self.doing) else {
            return;
        };
        if self.workforce.is_ending() {
            return;
        }
        let (source, before) = (watch.source.clone(), watch.credentials.clone());
        let way = way(!self.workforce.is_supervised());
        let folder = self.args.config.parent().map(Path::to_owned);
        let overlay = self.overlay.clone();
        let job = move || {
            let folder = folder.unwrap_or_default();
            Loaded::Look(look(&source, &overlay, &folder, &before, way).map(Box::new))
        };
        match self.jobs.load(job) {
            Ok(()) => self.doing = Doing::Looking,
            Err(error) => error!("files of `tls` are not looked at: {error}"),
        }
    }

    /// They have been looked at.
    pub(in crate::control) fn on_looked(&mut self, look: Option<Box<Look>>) {
        if let Doing::Looking = self.doing {
            self.doing = Doing::Nothing;
        }
        if let (Some(look), Doing::Nothing, false) = (look, &self.doing, self.workforce.is_ending())
        {
            self.renew(*look);
        }
        if let Doing::Nothing = self.doing {
            self.go_on();
        }
    }

    fn renew(&mut self, look: Look) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        for problem in watch.untold(&look.problems) {
            warn!("{problem}; what was read before is served on");
        }
        if look.loaded.credentials.material == watch.credentials.material {
            watch.credentials = look.loaded.credentials;
            watch.told = look.problems;
            return;
        }
        match self.try_adopt(*look.loaded) {
            Ok(()) => self.doing = Doing::Adopting(Vec::new(), Vec::new()),
            Err(reason) => error!("what they hold is not taken on: {reason}"),
        }
        if let Some(watch) = &mut self.watch {
            watch.told = look.problems;
        }
    }
}

#[cfg(test)]
mod tests;
