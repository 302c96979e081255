//! What callers at the admin door ask the control loop for.

use log::{LevelFilter, error, info};

use crate::admin::errand::{Action, Change, Errand, NewBackend, Reply, Target, Ticket};
use crate::board::{BackendCell, BackendColumn};
use crate::config::{self, Source};
use crate::control::controller::{Controller, Doing};
use crate::control::credentials::Credentials;
use crate::control::desk::Desk;
use crate::control::overlay::{Added, Edit, Overlay};
use crate::control::reload::{Loaded, LoadedConfig};
use crate::control::set_log_level;
use crate::control::verdict::{Asker, Outcome};
use crate::sys::order_reply::Asker as Sender;

impl Controller {
    /// Hears who calls, and does what is asked.
    pub(super) fn on_admin(&mut self) {
        let Some(desk) = &mut self.desk else {
            return;
        };
        desk.facts_mut().workers_wanted = self.workforce.workers_wanted();
        desk.facts_mut().rescues = self.workforce.rescues();
        desk.staff(self.workforce.board_fd());
        desk.tell_facts();
        let board = self.workforce.board();
        let errands = desk.turn(board, || self.jobs.come_back());
        for errand in errands {
            self.carry_out(errand);
        }
    }

    /// Tells callers what came of their errands, in this turn: another one may not come soon.
    pub(super) fn tell_callers(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.tell_facts();
            desk.tell(self.workforce.board());
        }
    }

    fn carry_out(&mut self, errand: Errand) {
        let Errand {
            ticket,
            who,
            action,
        } = errand;
        let asker = Asker::Caller(ticket);
        match action {
            Action::Reload { resets } => {
                info!("admin: reload, by {who}");
                self.resets |= resets;
                self.load(vec![asker]);
            }
            Action::Steer { target, change } => {
                let reply = self.steer(&target, change, &who);
                self.reply(&asker, reply);
            }
            Action::Reopen => {
                info!("admin: reopen, by {who}");
                self.reopen_access_log(&[asker]);
            }
            Action::Upgrade { verdict_to } => {
                info!("admin: upgrade, by {who}");
                let sender = verdict_to.and_then(|name| Sender::chosen(&name));
                let Some(sender) = sender else {
                    return self.upgrade(vec![asker]);
                };
                self.reply(&asker, Reply::Done("an upgrade begins".to_owned()));
                self.upgrade(vec![Asker::Sender(sender)]);
            }
            Action::Quit => {
                info!("admin: quit, by {who}");
                self.end_for(asker, false);
            }
            Action::Stop => {
                info!("admin: stop, by {who}");
                self.end_for(asker, true);
            }
            Action::LogLevel { level } => {
                let reply = self.change_log_level(&level, &who);
                self.reply(&asker, reply);
            }
            Action::Add { upstream, backend } => {
                let NewBackend {
                    address,
                    id,
                    weight,
                } = backend;
                let identity = id.unwrap_or_else(|| address.clone());
                let added = Added { address, weight };
                self.edit(Edit::Add((upstream, identity), added), asker, who);
            }
            Action::Remove { target } => {
                let name = (target.upstream, target.backend.unwrap_or_default());
                let is_in_file = true;
                self.edit(Edit::Remove { name, is_in_file }, asker, who);
            }
            Action::Kick { target } => {
                let reply = self.kick(&target, &who);
                self.reply(&asker, reply);
            }
            Action::ShowConfig => self.show_config(ticket),
            Action::KickSession { id } => self.kick_session(ticket, id, who),
            Action::ShowSessions { filter, count_max } => {
                self.show_sessions(ticket, filter, count_max);
            }
        }
    }

    /// Has all processes log from another level up.
    fn change_log_level(&mut self, word: &str, who: &str) -> Reply {
        let Ok(level) = word.parse::<LevelFilter>() else {
            return Reply::Refused(format!("no log level {word}"));
        };
        if std::env::var_os("RUST_LOG").is_some() {
            let words = "RUST_LOG is set where weir was started, and decides what is logged";
            return Reply::Refused(words.to_owned());
        }
        let before = log::max_level();
        // It is logged if either lets it.
        set_log_level(level.max(before), false);
        let line = format!("logging from {level} up, was {before}").to_lowercase();
        info!("admin: {line}, by {who}");
        self.log_level = Some(level);
        self.keep_log_level(level);
        Reply::Done(line)
    }

    /// All log from the level that was given by hand up, or else from that of the file.
    pub(super) fn keep_log_level(&mut self, of_file: LevelFilter) {
        match self.log_level {
            Some(level) => {
                set_log_level(level, false);
                self.workforce.set_log_level(level);
            }
            None => set_log_level(of_file, self.args.quiet),
        }
        if let Some(desk) = &mut self.desk {
            desk.tell_log_level();
        }
    }

    /// Changes what backends take, in all who serve.
    fn steer(&mut self, target: &Target, change: Change, who: &str) -> Reply {
        let Some(desk) = &self.desk else {
            return Reply::Refused("there is no admin door".to_owned());
        };
        let turns = self.overlay.steer(desk.outline(), target, change);
        if turns.is_empty() {
            return Reply::Refused(format!("{target} is not there any more"));
        }
        let mut lines = Vec::new();
        for turn in turns {
            let line = turn.line(change);
            info!("admin: {line}, by {who}");
            lines.push(line);
        }
        self.apply_overlay();
        lines.extend(self.keep_overlay());
        Reply::Done(lines.join("\n"))
    }

    /// Writes down what was changed by hand; what is to be said where that fails.
    fn keep_overlay(&self) -> Option<String> {
        let reason = self.state.save(&self.overlay).err()?;
        let line = format!("it counts until weir ends: {reason}");
        error!("admin: {line}");
        Some(line)
    }

    /// Ends what runs on backends, in all who serve.
    fn kick(&mut self, target: &Target, who: &str) -> Reply {
        let count = self.active_of(target);
        self.workforce
            .kick(&target.upstream, target.backend.as_deref());
        let line = match count {
            1 => format!("1 session of {target} is kicked"),
            count => format!("{count} sessions of {target} are kicked"),
        };
        info!("admin: {line}, by {who}");
        Reply::Done(line)
    }

    /// How many sessions and requests its backends have.
    fn active_of(&self, target: &Target) -> u64 {
        let outline = self.desk.as_ref().map(Desk::outline);
        let Some(upstream) = outline.and_then(|it| it.upstream(&target.upstream)) else {
            return 0;
        };
        let board = self.workforce.board();
        let meant = upstream.backends.iter().filter(|it| target.means(&it.name));
        let mut last = 0;
        let columns = meant.filter_map(|it| board.find_next(&it.column, &mut last));
        columns
            .map(|column: BackendColumn| board.total(column, BackendCell::Active))
            .sum()
    }

    /// Adds or removes a backend in the configuration that runs, which is then adopted as by a
    /// reload.
    fn edit(&mut self, edit: Edit, asker: Asker, who: String) {
        let (Some(source), Doing::Nothing, false) =
            (&self.running, &self.doing, self.workforce.is_ending())
        else {
            let words = "busy with a start, a reload, an upgrade or the end; try again";
            return self.reply(&asker, Reply::Refused(words.to_owned()));
        };
        let source = source.clone();
        let credentials = self.watch.as_ref().map(|it| it.credentials().clone());
        let credentials = credentials.unwrap_or_default();
        let overlay = self.overlay.clone();
        let job = move || Loaded::Edited(edited(source, credentials, overlay, edit));
        match self.jobs.load(job) {
            Ok(()) => self.doing = Doing::Editing(asker, who),
            Err(error) => self.reply(&asker, Reply::Refused(error.to_string())),
        }
    }

    pub(super) fn on_edited(&mut self, edited: Result<(Box<LoadedConfig>, Edit), String>) {
        let Doing::Editing(asker, who) = std::mem::take(&mut self.doing) else {
            return;
        };
        let adopted = edited.and_then(|(loaded, edit)| self.try_adopt(*loaded).map(|()| edit));
        match adopted {
            Ok(edit) => {
                self.service.reloading();
                let line = edit.to_string();
                info!("admin: {line}, by {who}");
                self.overlay.edit(edit);
                self.apply_overlay();
                let lines = [line].into_iter().chain(self.keep_overlay());
                self.doing = Doing::Adopting(vec![asker], lines.collect());
            }
            Err(reason) => {
                self.reply(&asker, Reply::Refused(reason));
                self.go_on();
            }
        }
    }

    /// Tells what runs, with every default and without secrets.
    fn show_config(&mut self, ticket: Ticket) {
        let (source, overlay) = (self.running.clone(), self.overlay.clone());
        let job = move || Loaded::Shown(ticket, shown(source.as_ref(), &overlay));
        if let Err(error) = self.jobs.load(job) {
            self.reply(&Asker::Caller(ticket), Reply::Refused(error.to_string()));
        }
    }

    /// Forgets what was changed by hand.
    pub(super) fn reset_overlay(&mut self) {
        let count = self.overlay.reset();
        info!("admin: {count} changes by hand are forgotten");
        self.apply_overlay();
        self.keep_overlay();
    }

    /// Tells all who serve what was changed by hand.
    pub(super) fn apply_overlay(&self) {
        if let Some(desk) = &self.desk {
            self.overlay.apply(desk.outline(), self.workforce.board());
        }
    }

    pub(super) fn reply(&mut self, asker: &Asker, reply: Reply) {
        if let (Asker::Caller(ticket), Some(desk)) = (asker, &mut self.desk) {
            desk.note(*ticket, reply);
        }
    }

    /// Tells all who wait for it.
    pub(super) fn tell(&mut self, askers: &[Asker], outcome: &Outcome) {
        self.inbox.tell(askers, outcome);
        for asker in askers {
            let reply = match outcome {
                Outcome::Done(line) => Reply::Done(line.clone()),
                Outcome::Refused(line) => Reply::Refused(line.clone()),
            };
            self.reply(asker, reply);
        }
    }
}

/// The configuration of a source with a change more.
fn edited(
    source: Source,
    credentials: Credentials,
    mut overlay: Overlay,
    edit: Edit,
) -> Result<(Box<LoadedConfig>, Edit), String> {
    let compiled = source.compile();
    let mut compiled = compiled.map_err(|_| "what runs cannot be read again".to_owned())?;
    let edit = edit.of_file(&compiled.config);
    let mut before = compiled.config.clone();
    overlay.shape_or_warn(&mut before, &source);
    if let Some(reason) = edit.in_vain(&before) {
        return Err(reason);
    }
    overlay.edit(edit.clone());
    overlay.shape(&mut compiled.config, &source)?;
    let loaded = LoadedConfig::new(source, compiled, credentials);
    Ok((Box::new(loaded), edit))
}

fn shown(source: Option<&Source>, overlay: &Overlay) -> String {
    let Some((source, Ok(compiled))) = source.map(|it| (it, it.compile())) else {
        return String::new();
    };
    let mut config = compiled.config;
    overlay.shape_or_warn(&mut config, source);
    config::render_masked(&config)
}
