//! A new configuration: by all workers or, where it is bad, by none, and one verdict.

use std::os::fd::{AsFd, OwnedFd};

use log::info;

use crate::control::changes::Changes;
use crate::control::names::Names;
use crate::control::verdict::{Outcome, with_notes};
use crate::control::workforce::{News, Revision};
use crate::control::{share_memory, workers_wanted};
use crate::core::text::plural;
use crate::core::time::Tick;
use crate::supervisor::Supervisor;
use crate::supervisor::worker_handle::{WorkerHandle, WorkerPhase};
use crate::wire::bundle::Bundle;
use crate::wire::messages::WorkerOrder;

/// How long workers may take to adopt a configuration before the verdict is given without them.
const ANSWERS_MAX_MS: u64 = 10_000;

/// A configuration that workers are adopting.
#[derive(Debug)]
pub(super) struct Round {
    until: Tick,
    /// How many workers are to have it in the end.
    asked: usize,
    /// Numbers of the workers that have not answered.
    awaited: Vec<usize>,
    /// Workers that are no longer wanted and may still accept, by key.
    leaving: Vec<u32>,
    changes: Changes,
    /// Numbers and reasons of those who refused.
    refused: Vec<(usize, String)>,
}

impl Round {
    pub(super) fn deadline(&self) -> Tick {
        self.until
    }
}

impl Supervisor {
    /// Everything that can fail is done before anything changes.
    pub(super) fn adopt_revision(
        &mut self,
        revision: Revision,
        names: &Names,
    ) -> Result<(), String> {
        let Revision {
            source,
            mut config,
            changes,
            ..
        } = revision;
        let count = workers_wanted(&self.args, &config);
        // Those that are there keep what they have had from their start.
        share_memory(&mut config, &self.memory, count);
        if count > self.workers.len() {
            self.check_rows(count - self.running())?;
        }
        let slots = u8::try_from(count).unwrap_or(u8::MAX);
        let slots = slots.max(self.sockets.slots());
        let fresh = self.sockets.open_missing(&config, slots)?;
        let sockets = self.sockets.of_with(&config, &fresh);
        let bundle = Bundle::write(&config, names.known(), &sockets)
            .map_err(|error| format!("no memory for the configuration: {error}"))?;
        let published = self.publish(&config);
        published.map_err(|full| full.to_string())?;
        self.sockets.commit(&config, fresh);
        self.source = source;
        self.config = config;
        self.log_level = None;
        self.round = self.round.wrapping_add(1);
        self.access_log = revision.access_log.into_file();
        self.stats.adopt(self.now, self.config.stats_interval);
        self.give_access_log();
        self.give_configuration(&bundle, count, changes);
        self.start_due(names);
        Ok(())
    }

    fn give_configuration(&mut self, bundle: &OwnedFd, count: usize, changes: Changes) {
        let before = self.leaving.len();
        self.set_worker_count(count);
        for managed in &mut self.workers {
            let Some(worker) = &mut managed.handle else {
                continue;
            };
            worker.give_sockets(self.sockets.all());
            let order = WorkerOrder::Adopt { round: self.round };
            worker.send_with(&order, &[bundle.as_fd()]);
        }
        // Those who stay accept from all slots before anybody leaves.
        self.share_out_slots();
        for worker in &mut self.leaving[before..] {
            info!("worker {}: no longer wanted, it drains", worker.number);
            worker.send(&WorkerOrder::Leave);
        }
        // Until they have read that, they accept clients under the configuration of before.
        let leaving = &self.leaving[before..];
        self.reload = Some(Round {
            until: self.now.after_ms(ANSWERS_MAX_MS),
            asked: count,
            awaited: (0..count).collect(),
            leaving: leaving.iter().map(|worker| worker.key).collect(),
            changes,
            refused: Vec::new(),
        });
    }

    /// A worker has adopted a configuration, or has not.
    pub(super) fn on_adopted(&mut self, key: u32, round: u32, outcome: Result<(), String>) {
        let Some(number) = self.number_of(key) else {
            return;
        };
        let is_current = round == self.round;
        if let Some(reload) = self.reload.as_mut().filter(|_| is_current) {
            reload.awaited.retain(|it| *it != number);
            match &outcome {
                Err(reason) if reload.refused.iter().all(|(it, _)| *it != number) => {
                    reload.refused.push((number, reason.clone()));
                }
                // Its successor refuses it as well.
                Ok(()) | Err(_) => {}
            }
        } else if is_current && outcome.is_ok() {
            info!("worker {number}: has taken the configuration on");
        }
        if outcome.is_err() {
            // It cannot go on with another configuration than the others.
            self.replace(key);
        }
        self.end_round_if_complete();
    }

    /// A worker serves, with the configuration that it was started with.
    pub(super) fn on_started_in_round(&mut self, number: usize) {
        let worker = self.workers[number].handle.as_ref();
        let is_current = worker.is_some_and(|worker| worker.round == self.round);
        if let Some(reload) = self.reload.as_mut().filter(|_| is_current) {
            reload.awaited.retain(|it| *it != number);
        }
        self.end_round_if_complete();
    }

    /// A worker that was told to leave has, or has ended.
    pub(super) fn on_accepts_no_more(&mut self, key: u32) {
        if let Some(reload) = &mut self.reload {
            reload.leaving.retain(|it| *it != key);
        }
        self.end_round_if_complete();
        self.forget_in_upgrade(key);
    }

    fn number_of(&self, key: u32) -> Option<usize> {
        let has = |managed: &super::ManagedWorker| {
            managed.handle.as_ref().is_some_and(|it| it.key == key)
        };
        self.workers.iter().position(has)
    }

    /// Lets a worker drain while another one takes its place.
    pub(super) fn replace(&mut self, key: u32) {
        if let Some(index) = self.number_of(key)
            && let Some(mut worker) = self.workers[index].handle.take()
        {
            worker.phase = WorkerPhase::Leaving;
            worker.send(&WorkerOrder::Leave);
            self.leaving.push(worker);
            self.workers[index].start_at = Some(self.now);
            // They accept for it until the other one serves.
            self.share_out_slots();
        }
    }

    pub(super) fn end_round_in_time(&mut self) {
        if self.reload.as_ref().is_some_and(|it| it.until <= self.now) {
            self.end_round();
        }
    }

    /// Ends it when only those are awaited of whom nothing can be heard for now.
    pub(super) fn end_round_if_complete(&mut self) {
        let Some(round) = &self.reload else { return };
        let is_idle = |number: &usize| match self.workers.get(*number) {
            Some(managed) => {
                managed.pauses() || managed.handle.as_ref().is_some_and(|it| it.stopped)
            }
            None => true,
        };
        let is_stopped = |key: &u32| self.find_leaving(*key).is_none_or(|worker| worker.stopped);
        if round.awaited.iter().all(is_idle) && round.leaving.iter().all(is_stopped) {
            self.end_round();
        }
    }

    fn find_leaving(&self, key: u32) -> Option<&WorkerHandle> {
        self.leaving.iter().find(|worker| worker.key == key)
    }

    fn end_round(&mut self) {
        if let Some(round) = self.reload.take() {
            let outcome = self.verdict(&round);
            self.news.push_back(News::Adopted(outcome));
        }
    }

    fn verdict(&self, round: &Round) -> Outcome {
        let refused = |(number, reason): &(usize, String)| {
            format!("worker {number} refused it, and another one is started: {reason}")
        };
        let mut notes: Vec<String> = round.refused.iter().map(refused).collect();
        notes.extend(
            round
                .awaited
                .iter()
                .map(|number| self.note_of_awaited(*number)),
        );
        let done = round.asked.saturating_sub(notes.len());
        let leaving = round
            .leaving
            .iter()
            .filter_map(|key| self.find_leaving(*key));
        // One that is stopped accepts nobody, so that all is as it should be without it.
        let (stopped, silent): (Vec<_>, Vec<_>) = leaving.partition(|worker| worker.stopped);
        notes.extend(stopped.into_iter().map(|worker| {
            let name = worker.name();
            format!("{name}, no longer wanted, is stopped and leaves when it goes on")
        }));
        let is_done = done == round.asked && silent.is_empty();
        notes.extend(silent.into_iter().map(|worker| {
            let name = worker.name();
            format!("{name}, no longer wanted, does not answer and may still accept")
        }));
        let asked = round.asked;
        let by = match (done, asked) {
            (1, 1) => "the worker".to_owned(),
            _ if done == asked => format!("all {done} workers"),
            _ => format!("{done} of {asked} worker{}", plural(asked == 1)),
        };
        let line = format!("reload done by {by}: {}", round.changes);
        let line = with_notes(&line, &notes);
        if is_done {
            Outcome::Done(line)
        } else {
            Outcome::Refused(line)
        }
    }

    /// Why a worker has not adopted the configuration, and when it will.
    fn note_of_awaited(&self, number: usize) -> String {
        let Some(managed) = self.workers.get(number) else {
            return format!("worker {number}: weir ends");
        };
        match &managed.handle {
            None => format!("worker {number} does not come up: {}", managed.reason),
            Some(it) if it.stopped => {
                let name = it.name();
                format!("{name} is stopped and takes it on when it goes on")
            }
            Some(it) if it.phase == WorkerPhase::Starting => {
                format!("{} is still starting", it.name())
            }
            Some(it) => format!(
                "{} does not answer and takes it on when it turns again",
                it.name()
            ),
        }
    }
}
