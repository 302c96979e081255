//! Gives up what the process needs no more, once everything is open that only root may open.

use std::io;
use std::path::Path;

use log::{info, warn};

use crate::config::model::Privileges;
use crate::control::Refusal;
use crate::sys::landlock::Confined;
use crate::sys::privileges::{self, Heir, Identity, Keep};
use crate::sys::sandbox::{self, Filter, Profile};

/// What a process is to give up. Found out before anything is given up.
#[derive(Debug)]
pub(crate) struct Confinement {
    settings: Privileges,
    identity: Option<Identity>,
}

impl Confinement {
    /// Looks up who the process becomes.
    pub(crate) fn prepare(settings: &Privileges) -> Result<Self, Refusal> {
        let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
        let identity = privileges::identity(user, group).map_err(|message| Refusal {
            code: super::EXIT_BIND,
            message,
        })?;
        Ok(Self {
            settings: settings.clone(),
            identity,
        })
    }

    /// That of a worker: it was started as who it is to be, and with what it takes to enter the
    /// root folder, if there was to be one at the start.
    pub(crate) fn of_worker(settings: &Privileges) -> Self {
        let mut settings = settings.clone();
        settings.chroot = settings.chroot.filter(|_| privileges::may_enter_root());
        Self {
            settings,
            identity: None,
        }
    }

    /// Who is to own the files that the process creates before [`Confinement::give_up`]; none
    /// when that is who it already is.
    pub(crate) fn owner(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Gives up the root folder, the user and the capabilities, for good. The process must have
    /// one thread. A failure must end the start.
    ///
    /// Before it, what only root may open. After it, TCP listeners, with the capability that is
    /// kept: all who share a port must be one user (`SO_REUSEPORT`, socket(7)), and those of a
    /// later reload will be this one.
    pub(crate) fn give_up(&self, keep: Keep) -> Result<(), Refusal> {
        if let Some(folder) = &self.settings.chroot {
            let entered = privileges::enter_root(folder);
            entered.map_err(|error| cannot_enter(folder, &error))?;
            info!("all paths now start in {}", folder.display());
        }
        self.become_user(keep)
    }

    /// The same for a supervisor. It starts programs, and so stays outside of the root folder; its
    /// workers enter that, with the capability that they have from it.
    /// With `reads_all` it keeps the right to read every file, which they do not get.
    pub(crate) fn give_up_as_supervisor(&self, reads_all: bool) -> Result<(), Refusal> {
        let Some(folder) = &self.settings.chroot else {
            return self.become_user(Keep::Supervisor {
                enters_root: false,
                reads_all,
            });
        };
        if !privileges::may_enter_root() {
            return Err(cannot_enter(
                folder,
                &io::ErrorKind::PermissionDenied.into(),
            ));
        }
        self.become_user(Keep::Supervisor {
            enters_root: true,
            reads_all,
        })?;
        privileges::pass_on_exec(Heir::Worker).map_err(|error| cannot_enter(folder, &error))
    }

    fn become_user(&self, keep: Keep) -> Result<(), Refusal> {
        let identity = self.identity.as_ref();
        privileges::drop_to(identity, keep).map_err(|error| {
            let what = match identity {
                Some(identity) => format!("cannot become user {}", identity.name()),
                None => "cannot give up privileges".to_owned(),
            };
            Refusal::new(&what, &error)
        })?;
        if let Some(identity) = identity {
            let (uid, gid) = identity.ids();
            info!("running as user {} ({uid}:{gid})", identity.name());
        }
        Ok(())
    }

    /// Filters system calls from now on, unless the sandbox is off; the process must have one
    /// thread. Not for a supervisor, which starts programs. What cannot be had is logged.
    pub(crate) fn enter_sandbox(&self, profile: Profile) {
        if !self.settings.sandbox {
            return;
        }
        let entered = sandbox::enter(profile);
        match entered.filter {
            Filter::On => {}
            Filter::UnknownMachine => info!("sandbox: no filter for this kind of machine"),
            Filter::Refused(error) => warn!("sandbox: system calls are not filtered: {error}"),
        }
        match entered.landlock {
            None | Some(Ok(Confined::FilesAndPorts)) => {}
            Some(Ok(Confined::Files)) => {
                info!("sandbox: this kernel cannot keep a process from binding ports");
            }
            Some(Err(error)) => info!("sandbox: no Landlock: {error}"),
        }
    }
}

fn cannot_enter(folder: &Path, error: &io::Error) -> Refusal {
    let what = format!("cannot make {} the root folder", folder.display());
    Refusal::new(&what, error)
}
