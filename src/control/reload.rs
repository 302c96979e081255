//! A new configuration: taken on by all who serve or, where it is bad, by nobody, and one verdict.

use log::{error, info, warn};

use crate::cli::Args;
use crate::config::problem::Problem;
use crate::config::{Compiled, Source};
use crate::control::access_sink::AccessSink;
use crate::control::controller::{Controller, Doing, Outline};
use crate::control::preflight::{self, Moment};
use crate::control::set_log_level;
use crate::control::verdict::{Asker, Outcome, found, list};
use crate::control::workforce::{Revision, Workforce};
use crate::sys::code_pages;

/// How a verdict on a bad file begins.
const FAILED: &str = "reload failed, nothing changed";

/// A good file, or what is wrong with it or with serving it here.
pub(super) type Loaded = Result<Box<(Source, Compiled)>, Vec<Problem>>;

fn read(args: &Args, moment: &Moment) -> Loaded {
    let loaded = preflight::load(args, moment);
    loaded.map(Box::new).map_err(|rejection| rejection.problems)
}

impl<W: Workforce> Controller<W> {
    /// Reads the configuration file, for these processes that want to know the verdict.
    pub(super) fn load(&mut self, mut askers: Vec<Asker>) {
        if self.workforce.is_ending() {
            warn!("reload ignored: stopping");
            let outcome = Outcome::Refused(format!("{FAILED}: stopping"));
            return self.inbox.tell(&askers, &outcome);
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
            is_inside_root: !W::IS_SUPERVISED && self.confinement.has_root_folder(),
        };
        let args = self.args.clone();
        match self.jobs.load(move || read(&args, &moment)) {
            Ok(()) => self.doing = Doing::Loading(askers),
            Err(error) => {
                let reason = error.to_string();
                self.refuse_reload(&askers, &reason, &reason);
            }
        }
    }

    /// Reads it again when somebody asked for that meanwhile.
    pub(super) fn load_if_asked(&mut self) {
        if let Some(askers) = self.load_again.take() {
            self.load(askers);
        }
    }

    pub(super) fn on_loaded(&mut self, loaded: Loaded) {
        let Doing::Loading(askers) = std::mem::take(&mut self.doing) else {
            return;
        };
        let adopted = match loaded {
            Ok(loaded) => self
                .adopt(*loaded)
                .map_err(|reason| (reason.clone(), reason)),
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                Err((found(&problems), list(&problems)))
            }
        };
        code_pages::release();
        match adopted {
            Ok(()) => self.doing = Doing::Adopting(askers),
            Err((reason, told)) => {
                self.refuse_reload(&askers, &reason, &told);
                self.load_if_asked();
            }
        }
    }

    /// Everything that can fail is done before anything changes.
    fn adopt(&mut self, (source, compiled): (Source, Compiled)) -> Result<(), String> {
        for warning in &compiled.warnings {
            warn!("{warning}");
        }
        if self.workforce.is_ending() {
            return Err("stopping".to_owned());
        }
        let config = compiled.config;
        self.confinement.warn_of_change(&config.privileges);
        let access_log = AccessSink::open(config.access_log.as_ref());
        let access_log = access_log.map_err(|refusal| refusal.message)?;
        let outline = Outline::of(&config);
        let revision = Revision {
            source,
            config,
            access_log,
        };
        self.workforce.adopt(revision, &self.names)?;
        self.names.want(outline.names);
        self.access_log = outline.access_log;
        self.listening = outline.listening;
        set_log_level(outline.log_level, self.args.quiet);
        self.resolve();
        Ok(())
    }

    /// The workforce has taken a configuration on, or has not wholly.
    pub(super) fn on_adopted(&mut self, outcome: &Outcome) {
        let Doing::Adopting(askers) = std::mem::take(&mut self.doing) else {
            return;
        };
        match outcome {
            Outcome::Done(line) => info!("{line}"),
            Outcome::Refused(line) => error!("{line}"),
        }
        self.service.reloaded(matches!(outcome, Outcome::Done(_)));
        self.inbox.tell(&askers, outcome);
        self.load_if_asked();
    }

    /// The log has said the rest of what is told.
    fn refuse_reload(&self, askers: &[Asker], reason: &str, told: &str) {
        error!("{FAILED}: {reason}");
        self.service.reloaded(false);
        let outcome = Outcome::Refused(format!("{FAILED}: {told}"));
        self.inbox.tell(askers, &outcome);
    }
}
