//! What callers at the admin door ask the control loop for.

use log::{error, info};

use crate::admin::errand::{Action, Change, Errand, Reply, Target};
use crate::control::controller::Controller;
use crate::control::set_log_level;
use crate::control::verdict::{Asker, Outcome};

impl Controller {
    /// Hears who calls, and does what is asked.
    pub(super) fn on_admin(&mut self) {
        let unix_ms = crate::control::unix_ms();
        let Some(desk) = &mut self.desk else {
            return;
        };
        desk.facts.workers_wanted = self.workforce.workers_wanted();
        desk.staff(self.workforce.board_fd());
        desk.tell_facts();
        let board = self.workforce.board();
        let errands = desk.turn(board, unix_ms, || self.jobs.come_back());
        for errand in errands {
            self.carry_out(errand);
        }
    }

    /// Tells callers what came of their errands, in this turn: another one may not come soon.
    pub(super) fn tell_callers(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.tell_facts();
            desk.tell(self.workforce.board(), crate::control::unix_ms());
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
                if resets {
                    self.reset_overlay();
                }
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
            Action::Upgrade => {
                info!("admin: upgrade, by {who}");
                self.upgrade(vec![asker]);
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
                info!("admin: log level {level}, by {who}");
                let reply = match level.parse() {
                    Ok(level) => {
                        set_log_level(level, false);
                        Reply::Done(format!("logging from {level} up"))
                    }
                    Err(_) => Reply::Refused(format!("no log level {level}")),
                };
                self.reply(&asker, reply);
            }
            Action::Add { .. }
            | Action::Remove { .. }
            | Action::Kick { .. }
            | Action::KickSession { .. }
            | Action::ShowConfig
            | Action::ShowSessions { .. } => {
                let words = "this weir cannot do that yet".to_owned();
                self.reply(&asker, Reply::Refused(words));
            }
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
            let (name, before) = (format!("{}/{}", turn.upstream, turn.backend), turn.before);
            let (before, after) = (before.words(), turn.after.words());
            let line = match before == after {
                true => format!("{name} is {after} already"),
                false => format!("{name} is {after}, was {before}"),
            };
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

    /// Forgets what was changed by hand.
    fn reset_overlay(&mut self) {
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

    fn reply(&mut self, asker: &Asker, reply: Reply) {
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
