//! One serving process on its own: it is its controller's whole workforce.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use crate::board::Board;
use crate::cli::Args;
use crate::config::model::{Config, Listener as ListenerSettings};
use crate::control::access_sink::AccessSink;
use crate::control::basis::Basis;
use crate::control::controller::{self, Controller, Outline};
use crate::control::listen::{is_unix, listen};
use crate::control::names::Names;
use crate::control::preflight::Checked;
use crate::control::verdict::Outcome;
use crate::control::workforce::{News, Revision, Workforce};
use crate::control::{Refusal, connections_max, share_memory};
use crate::core::address::UnresolvedName;
use crate::core::sessions::SessionQuery;
use crate::core::text::plural;
use crate::live::LiveWorker;
use crate::process::fit_descriptors;
use crate::process::serving::Serving;
use crate::sys::privileges::Keep;
use crate::sys::sandbox::Profile;
use crate::sys::socket::ListenerSocket;
use crate::sys::{memory, process};
use crate::tls::material::TicketKey;
use crate::worker::Start;

/// Serves until a signal ends it.
#[must_use]
pub fn run(args: &Args, checked: Checked) -> ExitCode {
    controller::run(start(args, checked))
}

fn start(args: &Args, checked: Checked) -> Result<Controller, Refusal> {
    let mut config = checked.compiled.config;
    let (mut basis, reactor, access_log) = Basis::open(args, &config)?;
    if let Some(cpu) = args.cpu {
        process::pin_to_cpu(cpu)
            .map_err(|error| Refusal::new(&format!("cannot run on CPU {cpu}"), &error))?;
    }
    fit_descriptors(&mut config, basis.descriptors);
    let mut plain = config.clone();
    share_memory(&mut config, &memory::limits(), 1);
    let mut sockets = basis.service.listeners(&config.listeners)?;
    open_listeners(&config, &mut sockets, is_unix)?;
    basis.confinement.give_up(Keep::BindService)?;
    basis.open_state(args, &config)?;
    basis.shape(&mut config, &checked.source);
    basis.shape(&mut plain, &checked.source);
    let outline = Outline::of(&plain);
    open_listeners(&config, &mut sockets, |_| true)?;
    let start = Start {
        now: reactor.now(),
        net: reactor,
        board: Board::private().map_err(|error| Refusal::new("no memory to count in", &error))?,
        connections_max_default: connections_max(basis.descriptors, 0),
    };
    let worker = LiveWorker::new(start, config, sockets.into_iter().flatten().collect())
        .map_err(|error| Refusal::new("cannot watch the listeners", &error))?;
    worker.set_descriptors_max(basis.descriptors);
    // Our sockets take connections already, and nobody can be looked for from the sandbox.
    basis.relieve_predecessor();
    basis.confinement.enter_sandbox(Profile::Single);
    basis.write_pid_file()?;
    let single = Single {
        serving: Serving::new(worker, access_log),
        descriptors: basis.descriptors,
        news: VecDeque::new(),
    };
    let mut controller = Controller::new(args, basis, outline, single);
    controller.guard(checked.source, checked.credentials);
    controller.start()
}

/// Opens those that are not open yet, of the listeners that are meant.
fn open_listeners(
    config: &Config,
    sockets: &mut [Option<ListenerSocket>],
    is_meant: impl Fn(&ListenerSettings) -> bool,
) -> Result<(), Refusal> {
    for (settings, socket) in config.listeners.iter().zip(sockets) {
        if socket.is_none() && is_meant(settings) {
            *socket = Some(listen(settings)?);
        }
    }
    Ok(())
}

/// The process itself.
#[derive(Debug)]
struct Single {
    serving: Serving,
    /// The limit on open descriptors.
    descriptors: u64,
    news: VecDeque<News>,
}

impl Workforce for Single {
    fn is_supervised(&self) -> bool {
        false
    }

    fn board(&self) -> &Board {
        self.serving.worker.board()
    }

    fn start(&mut self, _: &Names) -> Result<(), Refusal> {
        let connections_max = self.serving.worker.connections_max();
        let s = plural(connections_max == 1);
        let words = format!("at most {connections_max} connection{s}");
        self.news.push_back(News::Serving(words));
        Ok(())
    }

    /// Most turns of the loop are none of the controller's business.
    fn turn(&mut self) -> io::Result<bool> {
        loop {
            match self.serving.turn()? {
                None => return Ok(false),
                Some(true) => return Ok(true),
                Some(false) => self.serving.write_access_log(),
            }
        }
    }

    fn settle(&mut self, _: &Names) {
        self.serving.write_access_log();
    }

    fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// It turns when it is asked.
    fn is_well(&self) -> bool {
        true
    }

    fn on_resolved(&mut self, name: UnresolvedName, addresses: Vec<SocketAddr>) {
        self.serving.worker.on_resolved(&[(name, addresses)]);
    }

    fn set_ticket_keys(&mut self, keys: &[TicketKey]) {
        self.serving.worker.set_ticket_keys(keys);
    }

    fn set_access_log(&mut self, access_log: AccessSink) {
        self.serving.set_access_log(access_log);
    }

    /// All new sockets are opened before anything changes.
    fn adopt(&mut self, revision: Revision, names: &Names) -> Result<(), String> {
        let mut config = revision.config;
        fit_descriptors(&mut config, self.descriptors);
        let sockets = self.open_missing(&config)?;
        // The new configuration may have no access log.
        self.serving.write_access_log();
        self.serving
            .worker
            .adopt(config, sockets, false)
            .map_err(|error| error.to_string())?;
        self.serving.set_access_log(revision.access_log);
        self.serving.worker.on_resolved(names.known());
        let line = format!("reload done: {}", revision.changes);
        self.news.push_back(News::Adopted(Outcome::Done(line)));
        Ok(())
    }

    fn try_successor(&mut self) -> Result<(), String> {
        let reason = "a process on its own cannot make way in place, as its sandbox outlives it; \
                      started with `supervisor: on` or several `workers`, weir can";
        Err(reason.to_owned())
    }

    fn kick(&mut self, upstream: &str, backend: Option<&str>) {
        self.serving.worker.kick(upstream, backend);
    }

    fn processes(&self) -> Vec<u32> {
        vec![std::process::id()]
    }

    fn ask_sessions(&mut self, pid: u32, ask: u32, query: SessionQuery) {
        let part = self.serving.worker.on_session_query(&query);
        self.news.push_back(News::Sessions { pid, ask, part });
    }

    fn is_ending(&self) -> bool {
        self.serving.is_ending()
    }

    fn end(&mut self) {
        self.serving.end();
    }

    fn finish(&mut self, ended: io::Result<()>) -> u8 {
        self.serving.finish(ended)
    }
}

impl Single {
    /// A socket for each listener that has none.
    fn open_missing(&self, config: &Config) -> Result<Vec<Option<ListenerSocket>>, String> {
        let open = |settings: &ListenerSettings| {
            if self.serving.worker.listens_for(settings) {
                return Ok(None);
            }
            listen(settings)
                .map(Some)
                .map_err(|refusal| refusal.message)
        };
        config.listeners.iter().map(open).collect()
    }
}
