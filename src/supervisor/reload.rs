//! A new configuration: by all workers or, where it is bad, by none, and one verdict.

use std::io;
use std::os::fd::AsFd;

use log::{error, info, warn};

use crate::config::model::Config;
use crate::config::problem::Problem;
use crate::config::{Compiled, Source};
use crate::core::time::Tick;
use crate::process::set_log_level;
use crate::process::verdict::{Asker, Outcome};
use crate::supervisor::member::Phase;
use crate::supervisor::messages::Order;
use crate::supervisor::{Supervisor, open_access_log, workers_wanted};
use crate::worker::Adopted;

/// How long workers may take to take on a configuration before the verdict is given without them.
const ANSWERS_MAX_MS: u64 = 10_000;

/// A configuration that workers are taking on.
#[derive(Debug)]
pub(super) struct Round {
    until: Tick,
    /// Who asked for it, and waits for the verdict.
    askers: Vec<Asker>,
    /// Those who have not answered, by key.
    awaited: Vec<u32>,
    /// How many were asked.
    asked: usize,
    /// What it changed for a worker that was there before.
    adopted: Option<Adopted>,
    /// Seats and reasons of those who refused.
    refused: Vec<(usize, String)>,
}

impl Round {
    pub(super) fn deadline(&self) -> Tick {
        self.until
    }
}

impl Supervisor {
    /// Reads the configuration file, for these processes that want to know the verdict.
    pub(super) fn load(&mut self, mut askers: Vec<Asker>) {
        if self.ending.is_some() {
            warn!("reload ignored: stopping");
            return self.refuse_reload(&askers, "stopping");
        }
        if self.loading.is_some() || self.reload.is_some() || self.upgrade.is_under_way() {
            self.load_again.get_or_insert_default().append(&mut askers);
            return;
        }
        self.service.reloading();
        info!("reload: reading {}", self.args.config.display());
        match self.jobs.load(self.args.config.clone()) {
            Ok(()) => self.loading = Some(askers),
            Err(error) => {
                error!("reload failed, nothing changed: {error}");
                self.service.reloaded(false);
                self.refuse_reload(&askers, &error.to_string());
            }
        }
    }

    /// Reads it again when somebody asked for that meanwhile.
    pub(super) fn load_if_asked(&mut self) {
        if let Some(askers) = self.load_again.take() {
            self.load(askers);
        }
    }

    pub(super) fn on_loaded(&mut self, outcome: Result<Box<(Source, Compiled)>, Vec<Problem>>) {
        let askers = self.loading.take().unwrap_or_default();
        match outcome {
            Ok(loaded) => {
                let (source, compiled) = *loaded;
                for warning in &compiled.warnings {
                    warn!("{warning}");
                }
                if let Err(reason) = self.adopt(source, compiled.config, &askers) {
                    error!("reload failed, nothing changed: {reason}");
                    self.service.reloaded(false);
                    self.refuse_reload(&askers, &reason);
                }
            }
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                let count = problems.len();
                error!("reload failed, nothing changed: {count} problems");
                self.service.reloaded(false);
                let first = problems.first().map(ToString::to_string);
                self.refuse_reload(&askers, &first.unwrap_or_default());
            }
        }
        if self.reload.is_none() {
            self.load_if_asked();
        }
    }

    /// Everything that can fail is done before anything changes.
    fn adopt(&mut self, source: Source, config: Config, askers: &[Asker]) -> Result<(), String> {
        if self.ending.is_some() {
            return Err("stopping".to_owned());
        }
        self.confinement.warn_of_change(&config.privileges);
        let count = workers_wanted(&self.args, &config);
        self.check_rows(count.saturating_sub(self.seated()))?;
        let slots = u8::try_from(count).unwrap_or(u8::MAX);
        let slots = slots.max(self.sockets.slots());
        let fresh = self.sockets.open_missing(&config, slots)?;
        let access_log = open_access_log(config.access_log.as_ref());
        let access_log = access_log.map_err(|refusal| refusal.message)?;
        let published = self.board.publish(&config.column_names());
        published.map_err(|full| full.to_string())?;
        self.sockets.commit(&config, fresh);
        self.source = source;
        self.config = config;
        self.round = self.round.wrapping_add(1);
        self.names.adopt(&self.config);
        self.access_log = access_log;
        self.stats.adopt(self.now, self.config.stats_interval);
        set_log_level(self.config.log_level, self.args.quiet);
        self.give_access_log();
        self.give_configuration(count, askers);
        self.resolve();
        Ok(())
    }

    fn give_configuration(&mut self, count: usize, askers: &[Asker]) {
        let bundle = self.bundle().write();
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(error) => return self.give_up_giving(&error, askers),
        };
        let leaving = self.others.len();
        self.set_seats(count);
        let mut awaited = Vec::new();
        for seat in &mut self.seats {
            let Some(member) = &mut seat.member else {
                continue;
            };
            member.give_sockets(self.sockets.all());
            let order = Order::Adopt { round: self.round };
            member.send_with(&order, &[bundle.as_fd()]);
            awaited.push(member.key);
        }
        // Those who stay accept from all slots before anybody leaves.
        self.share_out_slots();
        for member in &mut self.others[leaving..] {
            info!("worker {}: no longer wanted, it drains", member.seat);
            member.send(&Order::Leave);
            // Until then it accepts clients under the configuration of before.
            awaited.push(member.key);
        }
        let leaving = self.others.len() - leaving;
        self.start_due();
        let starting = self.seats.iter().filter_map(|seat| seat.member.as_ref());
        let starting = starting.filter(|member| member.phase == Phase::Starting);
        awaited.extend(starting.map(|member| member.key));
        awaited.sort_unstable();
        awaited.dedup();
        self.reload = Some(Round {
            until: self.now.after_ms(ANSWERS_MAX_MS),
            askers: askers.to_vec(),
            asked: awaited.len() - leaving,
            awaited,
            adopted: None,
            refused: Vec::new(),
        });
        self.end_round_if_complete();
    }

    /// The file is ours already, and who starts from now on gets it; the others do not.
    fn give_up_giving(&self, error: &io::Error, askers: &[Asker]) {
        let line = format!(
            "reload half done: the workers that run could not be given the file and go on with \
             that of before, new ones get this one; reload again: {error}"
        );
        error!("{line}");
        self.service.reloaded(false);
        self.inbox.tell(askers, &Outcome::Refused(line));
    }

    /// A worker has taken on a configuration, or has not.
    pub(super) fn on_adopted(&mut self, key: u32, round: u32, outcome: Result<Adopted, String>) {
        let seat = self.seat_of(key);
        match (outcome, &mut self.reload) {
            (Ok(adopted), Some(reload)) if round == self.round => {
                reload.adopted.get_or_insert(adopted);
                reload.awaited.retain(|it| *it != key);
            }
            (Err(reason), reload) => {
                if let Some(reload) = reload.as_mut().filter(|_| round == self.round) {
                    reload.awaited.retain(|it| *it != key);
                    reload.refused.push((seat.unwrap_or(0), reason));
                }
                // It cannot go on with another configuration than the others.
                self.replace(key);
            }
            (Ok(_), _) => {}
        }
        self.end_round_if_complete();
    }

    /// A worker that was started with this configuration serves.
    pub(super) fn forget_in_round_as_adopted(&mut self, index: usize) {
        let key = self.seats[index].member.as_ref().map(|member| member.key);
        if let (Some(key), Some(reload)) = (key, &mut self.reload) {
            reload.awaited.retain(|it| *it != key);
        }
        self.end_round_if_complete();
    }

    /// A worker has gone, and answers no more.
    pub(super) fn forget_in_round(&mut self, key: u32) {
        if let Some(reload) = &mut self.reload {
            reload.awaited.retain(|it| *it != key);
        }
        self.end_round_if_complete();
    }

    /// A worker that was told to leave has, or has ended.
    pub(super) fn on_accepts_no_more(&mut self, key: u32) {
        self.forget_in_round(key);
        self.forget_in_upgrade(key);
    }

    fn seat_of(&self, key: u32) -> Option<usize> {
        let has = |seat: &super::Seat| seat.member.as_ref().is_some_and(|it| it.key == key);
        self.seats.iter().position(has)
    }

    /// Lets a worker drain while another one takes its place.
    pub(super) fn replace(&mut self, key: u32) {
        if let Some(index) = self.seat_of(key)
            && let Some(mut member) = self.seats[index].member.take()
        {
            member.phase = Phase::Leaving;
            member.send(&Order::Leave);
            self.others.push(member);
            self.seats[index].start_at = Some(self.now);
            // They accept for it until the other one serves.
            self.share_out_slots();
        }
    }

    pub(super) fn end_round_in_time(&mut self) {
        if self.reload.as_ref().is_some_and(|it| it.until <= self.now) {
            self.end_round();
        }
    }

    pub(super) fn end_round_if_complete(&mut self) {
        let is_complete = |round: &Round| {
            let mut awaited = round.awaited.iter();
            awaited.all(|key| self.stopped_process(*key).is_some())
        };
        if self.reload.as_ref().is_some_and(is_complete) {
            self.end_round();
        }
    }

    /// The process of a worker that the kernel has stopped: nobody knows for how long.
    fn stopped_process(&self, key: u32) -> Option<u32> {
        let seated = self.seats.iter().filter_map(|seat| seat.member.as_ref());
        let mut all = seated.chain(&self.others);
        let member = all.find(|member| member.key == key)?;
        member.stopped.then_some(member.pid)
    }

    fn end_round(&mut self) {
        let Some(round) = self.reload.take() else {
            return;
        };
        let outcome = self.verdict(&round);
        self.service.reloaded(matches!(outcome, Outcome::Done(_)));
        self.inbox.tell(&round.askers, &outcome);
        self.load_if_asked();
    }

    fn verdict(&self, round: &Round) -> Outcome {
        let Adopted {
            backends_added,
            backends_removed,
            listeners_added,
            listeners_removed,
        } = round.adopted.unwrap_or_default();
        let changes = format!(
            "{backends_added} backends added, {backends_removed} removed; \
             {listeners_added} listeners added, {listeners_removed} removed"
        );
        if round.awaited.is_empty() && round.refused.is_empty() {
            let line = format!("reload done by all {} workers: {changes}", round.asked);
            info!("{line}");
            return Outcome::Done(line);
        }
        let seat = |key: &u32| {
            let mut others = self.others.iter();
            let mut other = || others.find(|member| member.key == *key);
            self.seat_of(*key).or_else(|| other().map(|it| it.seat))
        };
        let silent = |key: &u32| {
            let reason = match self.stopped_process(*key) {
                Some(pid) => format!("process {pid} is stopped, and takes it on when it goes on"),
                None => "does not answer".to_owned(),
            };
            seat(key).map(|seat| (seat, reason))
        };
        let silent = round.awaited.iter().filter_map(silent);
        let others: Vec<String> = round
            .refused
            .iter()
            .cloned()
            .chain(silent)
            .map(|(seat, reason)| format!("worker {seat}: {reason}"))
            .collect();
        let done = round.asked.saturating_sub(others.len());
        let line = format!(
            "reload done by {done} of {} workers: {changes}; {}",
            round.asked,
            others.join("; ")
        );
        error!("{line}");
        Outcome::Refused(line)
    }
    fn refuse_reload(&self, askers: &[Asker], reason: &str) {
        let line = format!("reload failed, nothing changed: {reason}");
        self.inbox.tell(askers, &Outcome::Refused(line));
    }
}
