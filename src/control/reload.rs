//! A new configuration: adopted by all who serve or, where it is bad, by nobody, and one verdict.

use log::{error, info, warn};

use crate::admin::errand::Ticket;
use crate::cli::Args;
use crate::config::problem::Problem;
use crate::config::{Compiled, Source};
use crate::control::access_sink::AccessSink;
use crate::control::controller::{Controller, Doing, Outline};
use crate::control::credentials::{Credentials, Look};
use crate::control::overlay::{Edit, Overlay};
use crate::control::preflight::{self, Moment};
use crate::control::verdict::{Asker, Outcome, found, with_lines};
use crate::control::workforce::Revision;
use crate::control::{is_supervised, unix_ms};
use crate::sys::code_pages;

/// How a verdict on a bad file begins.
const FAILED: &str = "reload failed, nothing changed";

/// What a process on its own says that is to have workers.
const STAYS_ALONE: &str = "`workers` and `supervisor` count from the next start on: this process \
                           serves on its own; started with `supervisor: on`, weir takes on any \
                           number of workers by a reload";

/// A good file with all that is made of it, or what is wrong with it or with serving it here.
type LoadedFile = Result<Box<LoadedConfig>, Vec<Problem>>;

/// What came of reading files beside the loop.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The configuration and all that it names.
    File(LoadedFile),
    /// What `tls` names has been looked at; none where it is as it was.
    Look(Option<Box<Look>>),
    /// The configuration that runs with a backend more or less, or why it cannot be so.
    Edited(Result<(Box<LoadedConfig>, Edit), String>),
    /// What runs, for who asked.
    Shown(Ticket, String),
}

/// What is read and made while everybody serves on.
#[derive(Debug)]
pub(super) struct LoadedConfig {
    source: Source,
    compiled: Compiled,
    outline: Outline,
    pub(super) credentials: Credentials,
}

impl LoadedConfig {
    pub(super) fn new(source: Source, mut compiled: Compiled, credentials: Credentials) -> Self {
        compiled.config.material = credentials.material.clone();
        let outline = Outline::of(&compiled.config);
        Self {
            source,
            compiled,
            outline,
            credentials,
        }
    }
}

/// Why nothing has changed, and what there is to say besides, a line each.
struct ReloadFailure {
    reason: String,
    lines: Vec<String>,
}

fn read(args: &Args, moment: &Moment, overlay: &Overlay) -> LoadedFile {
    let checked = preflight::load(args, moment);
    let checked = checked.map_err(|rejection| rejection.problems)?;
    let (source, mut compiled) = (checked.source, checked.compiled);
    overlay.shape_or_warn(&mut compiled.config, &source);
    Ok(Box::new(LoadedConfig::new(
        source,
        compiled,
        checked.credentials,
    )))
}

impl Controller {
    /// Reads the configuration file, for these processes that want to know the verdict.
    pub(super) fn load(&mut self, mut askers: Vec<Asker>) {
        if self.workforce.is_ending() {
            warn!("reload ignored: stopping");
            self.resets = false;
            let outcome = Outcome::Refused(format!("{FAILED}: stopping"));
            return self.tell(&askers, &outcome);
        }
        let Doing::Nothing = self.doing else {
            self.load_again.get_or_insert_default().append(&mut askers);
            return;
        };
        self.service.reloading();
        info!("reload: reading {}", self.args.config.display());
        let moment = Moment::Reload {
            listening: self.listening.clone(),
            // A supervisor has stayed outside.
            is_alone: !self.workforce.is_supervised(),
            is_inside_root: !self.workforce.is_supervised() && self.fixed.has_root_folder(),
        };
        let resets = std::mem::take(&mut self.resets);
        let overlay = match resets {
            true => Overlay::default(),
            false => self.overlay.clone(),
        };
        let args = self.args.clone();
        let job = move || Loaded::File(read(&args, &moment, &overlay));
        match self.jobs.load(job) {
            Ok(()) => self.doing = Doing::Loading { askers, resets },
            Err(error) => {
                let (reason, lines) = (error.to_string(), Vec::new());
                self.refuse_reload(&askers, &ReloadFailure { reason, lines });
            }
        }
    }

    pub(super) fn on_loaded(&mut self, loaded: LoadedFile) {
        let Doing::Loading { askers, resets } = std::mem::take(&mut self.doing) else {
            return;
        };
        let adopted = match loaded {
            Ok(loaded) => self.adopt(*loaded),
            Err(problems) => Err(on_bad_file(&problems)),
        };
        if resets && adopted.is_ok() {
            self.reset_overlay();
        }
        code_pages::release();
        match adopted {
            Ok(notes) => self.doing = Doing::Adopting(askers, notes),
            Err(failure) => {
                self.refuse_reload(&askers, &failure);
                self.go_on();
            }
        }
    }

    /// What there is to say of it besides.
    fn adopt(&mut self, loaded: LoadedConfig) -> Result<Vec<String>, ReloadFailure> {
        let lines = self.notes_on(&loaded);
        let by_hand = self.log_level.take();
        match self.try_adopt(loaded) {
            Ok(()) => Ok(lines),
            Err(reason) => {
                self.log_level = by_hand;
                Err(ReloadFailure { reason, lines })
            }
        }
    }

    /// Warnings, and what counts from the next start only, which the log says as well.
    fn notes_on(&self, loaded: &LoadedConfig) -> Vec<String> {
        let mut later = self.fixed.differences(&loaded.outline.fixed);
        let config = &loaded.compiled.config;
        if !self.workforce.is_supervised() && is_supervised(&self.args, config) {
            later.push(STAYS_ALONE.to_owned());
        }
        let warnings = loaded.compiled.warnings.iter();
        let lines: Vec<String> = warnings.map(ToString::to_string).chain(later).collect();
        for line in &lines {
            warn!("{line}");
        }
        lines
    }

    /// Everything that can fail is done before anything changes.
    pub(super) fn try_adopt(&mut self, loaded: LoadedConfig) -> Result<(), String> {
        if self.workforce.is_ending() {
            return Err("stopping".to_owned());
        }
        let (config, outline) = (loaded.compiled.config, loaded.outline);
        let access_log = AccessSink::open(config.access_log.as_ref());
        let access_log = access_log.map_err(|refusal| refusal.message)?;
        let source = loaded.source.clone();
        let revision = Revision {
            changes: self.inventory.changes_to(&outline.inventory, &config),
            source: loaded.source,
            config,
            access_log,
        };
        self.workforce.adopt(revision, &self.names)?;
        self.keep(outline);
        self.guard(source, loaded.credentials);
        self.resolve();
        Ok(())
    }

    /// The configuration with that outline is in use.
    fn keep(&mut self, outline: Outline) {
        self.names.want(outline.names);
        self.access_log = outline.access_log;
        self.listening = outline.listening;
        self.inventory = outline.inventory;
        self.fixed.renew(outline.fixed);
        if let Some(desk) = &mut self.desk {
            desk.set_outline(outline.seen);
            desk.facts_mut().adopted_unix_s = unix_ms() / 1000;
        }
        self.apply_overlay();
        self.keep_log_level(outline.log_level);
    }

    /// The workforce has adopted a configuration, or has not wholly.
    pub(super) fn on_adopted(&mut self, outcome: Outcome) {
        let Doing::Adopting(askers, notes) = std::mem::take(&mut self.doing) else {
            return;
        };
        match &outcome {
            Outcome::Done(line) => info!("{line}"),
            Outcome::Refused(line) => error!("{line}"),
        }
        let is_done = matches!(outcome, Outcome::Done(_));
        self.service.reloaded(is_done);
        self.count_reload(is_done);
        let outcome = match outcome {
            Outcome::Done(line) => Outcome::Done(with_lines(&line, &notes)),
            Outcome::Refused(line) => Outcome::Refused(with_lines(&line, &notes)),
        };
        self.tell(&askers, &outcome);
        self.go_on();
    }

    fn refuse_reload(&mut self, askers: &[Asker], failure: &ReloadFailure) {
        let line = format!("{FAILED}: {}", failure.reason);
        error!("{line}");
        self.service.reloaded(false);
        let outcome = Outcome::Refused(with_lines(&line, &failure.lines));
        self.tell(askers, &outcome);
        self.count_reload(false);
    }

    fn count_reload(&mut self, is_done: bool) {
        let Some(desk) = &mut self.desk else { return };
        let facts = desk.facts_mut();
        facts.last_reload_done = is_done;
        match is_done {
            true => facts.reloads_done += 1,
            false => facts.reloads_refused += 1,
        }
    }
}

fn on_bad_file(problems: &[Problem]) -> ReloadFailure {
    for problem in problems {
        error!("{problem}");
    }
    ReloadFailure {
        reason: found(problems),
        lines: problems.iter().map(ToString::to_string).collect(),
    }
}
