//! One of several serving processes: everything it needs comes from its supervisor, through the
//! one descriptor that it was started with.
//!
//! It opens no file, looks up no name, opens no listener and starts no thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use log::{error, info, warn};

use crate::board::Board;
use crate::config::model::{self, Config};
use crate::control::access_sink::AccessSink;
use crate::control::confine::Confinement;
use crate::control::credentials;
use crate::control::{
    EXIT_BIND, EXIT_OK, Refusal, connections_max, connections_possible, set_log_level,
};
use crate::core::slots::Slots;
use crate::live::LiveWorker;
use crate::process::serving::Serving;
use crate::reactor::Reactor;
use crate::sys::channel::{Arrival, Channel, Packet};
use crate::sys::privileges::Keep;
use crate::sys::sandbox::Profile;
use crate::sys::shm::Mapping;
use crate::sys::signal::{Signal, Signals};
use crate::sys::socket::ListenerSocket;
use crate::sys::{child, code_pages, process};
use crate::tls::material::{Secret, TicketKey};
use crate::wire::bundle::{Bundle, SocketRef};
use crate::wire::messages::{WorkerOrder, WorkerReport};
use crate::worker::{Opened, Stage, Start};

const SIGNALS_KEY: u32 = 0;
const CHANNEL_KEY: u32 = 1;

/// Serves until its supervisor, or a signal, ends it.
#[must_use]
pub fn run(number: &str) -> ExitCode {
    process::name_process();
    match Beginning::take() {
        Ok(Some(beginning)) => match beginning.start(number.parse().unwrap_or_default()) {
            Ok(mut process) => ExitCode::from(process.serve()),
            Err(Refusal { code, message }) => {
                error!("{message}");
                ExitCode::from(code)
            }
        },
        // The supervisor ended before there was anything to do.
        Ok(None) => ExitCode::from(EXIT_OK),
        Err(error) => {
            error!("a worker is started by its supervisor only: {error}");
            ExitCode::from(EXIT_BIND)
        }
    }
}

/// Sockets that have come and are not in use yet, by number.
type ReceivedSockets = HashMap<u32, OwnedFd>;

/// All that comes before the first turn.
struct Beginning {
    channel: Channel,
    board: Board,
    quiet: bool,
    incoming: ReceivedSockets,
    access_log: AccessSink,
    ticket_keys: Vec<TicketKey>,
    slots: Slots,
    bundle: Bundle,
}

impl Beginning {
    /// Takes orders up to the first configuration. None when there is nothing to do any more.
    fn take() -> io::Result<Option<Self>> {
        let channel = Channel::from(child::input()?);
        let mut begun = None;
        let mut incoming = ReceivedSockets::new();
        let mut access_log = AccessSink::Stdout;
        let mut ticket_keys = Vec::new();
        let mut slots = Slots::NONE;
        loop {
            channel.wait()?;
            let packet = match channel.receive() {
                Arrival::Packet(packet) => packet,
                Arrival::Nothing => continue,
                Arrival::Closed => return Ok(None),
            };
            let (order, packet) = understood(packet);
            let order = order.ok_or(io::ErrorKind::InvalidData)?;
            match order {
                WorkerOrder::Begin { row, cpu, quiet } => {
                    pin(cpu);
                    begun = Some((attach(packet, row)?, quiet));
                }
                WorkerOrder::Sockets(ids) => {
                    incoming.extend(ids.into_iter().zip(packet.descriptors))
                }
                WorkerOrder::AccessLog => access_log = sink(packet),
                WorkerOrder::TicketKeys(keys) => ticket_keys = keys,
                WorkerOrder::Accept(accept) => slots = accept,
                WorkerOrder::Adopt { .. } => {
                    let (board, quiet) = begun.ok_or(io::ErrorKind::InvalidData)?;
                    let bundle = read(packet)?;
                    return Ok(Some(Self {
                        channel,
                        board,
                        quiet,
                        incoming,
                        access_log,
                        ticket_keys,
                        slots,
                        bundle,
                    }));
                }
                WorkerOrder::Leave | WorkerOrder::Drain | WorkerOrder::Stop => return Ok(None),
                WorkerOrder::Resolved(..)
                | WorkerOrder::Kick { .. }
                | WorkerOrder::LogLevel(_)
                | WorkerOrder::Sessions { .. }
                | WorkerOrder::Look => {}
            }
        }
    }

    fn start(mut self, number: u32) -> Result<WorkerProcess, Refusal> {
        let refuse = |what: &'static str| move |error: io::Error| Refusal::new(what, &error);
        let descriptors = process::raise_descriptor_limit()
            .map_err(refuse("cannot read the descriptor limit"))?;
        let signals = Signals::open().map_err(refuse("cannot take signals"))?;
        let Bundle {
            config,
            names,
            sockets,
        } = self.bundle;
        set_log_level(config.log_level, self.quiet);
        let reactor = Reactor::new()
            .and_then(|reactor| {
                reactor.watch_control(signals.as_fd(), SIGNALS_KEY)?;
                reactor.watch_control(self.channel.as_fd(), CHANNEL_KEY)?;
                Ok(reactor)
            })
            .map_err(refuse("no event queue"))?;
        let stops_with_supervisor = config.stops_with_supervisor;
        let confinement = Confinement::of_worker(&config.privileges);
        let sockets = received(&sockets, &mut self.incoming);
        check_sockets(&config, &sockets, |_| false).map_err(|message| Refusal {
            code: EXIT_BIND,
            message,
        })?;
        let listening = sockets.iter().map(Vec::len).sum();
        let start = Start {
            now: reactor.now(),
            net: reactor,
            board: self.board,
            connections_max_default: connections_max(descriptors, listening),
        };
        let mut worker = LiveWorker::with_slots(start, config, sockets, self.slots)
            .map_err(refuse("cannot watch the listeners"))?;
        worker.limit_connections(connections_possible(descriptors));
        worker.set_descriptors_max(descriptors);
        worker.on_resolved(&names);
        worker.set_ticket_keys(&self.ticket_keys);
        worker.set_number(number);
        let process = WorkerProcess {
            serving: Serving::new(worker, self.access_log),
            signals,
            channel: Some(self.channel),
            quiet: self.quiet,
            incoming: self.incoming,
            stops_with_supervisor,
            is_asked: false,
        };
        confinement.give_up(Keep::Nothing)?;
        confinement.enter_sandbox(Profile::Worker);
        process.report(&WorkerReport::Ready);
        Ok(process)
    }
}

/// A worker that turns.
struct WorkerProcess {
    serving: Serving,
    signals: Signals,
    /// None once the supervisor has gone.
    channel: Option<Channel>,
    quiet: bool,
    incoming: ReceivedSockets,
    stops_with_supervisor: bool,
    /// A signal has asked it to end.
    is_asked: bool,
}

impl WorkerProcess {
    /// The loop. Its exit code.
    fn serve(&mut self) -> u8 {
        code_pages::release();
        // What came while it started is there without an event to tell of it.
        self.on_orders();
        let ended = loop {
            match self.serving.turn() {
                Err(error) => break Err(error),
                Ok(None) => break Ok(()),
                Ok(Some(is_control)) => {
                    if is_control {
                        self.on_signals();
                        self.on_orders();
                    }
                    self.serving.write_access_log();
                }
            }
        };
        self.serving.finish(ended)
    }

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => self.end(),
                Signal::Hangup | Signal::User1 | Signal::User2 => {
                    warn!("a signal for the supervisor came to a worker: ignored");
                }
                Signal::Child | Signal::Stop => {}
            }
        }
    }

    /// Asked to end by a signal: the first time gracefully, and the supervisor says how, as it
    /// knows whether others go on. The second time at once.
    fn end(&mut self) {
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        if self.serving.worker.stage() != Stage::Serving || !is_first {
            self.serving.end_at_once();
        } else if self.channel.is_some() {
            info!("asked to stop");
            self.report(&WorkerReport::Asked);
        } else {
            self.serving.worker.end();
        }
    }

    fn on_orders(&mut self) {
        while let Some(channel) = &self.channel {
            match channel.receive() {
                Arrival::Packet(packet) => self.on_order(packet),
                Arrival::Nothing => return,
                Arrival::Closed => self.on_supervisor_gone(),
            }
        }
    }

    fn on_order(&mut self, packet: Packet) {
        let (order, packet) = understood(packet);
        let Some(order) = order else {
            return warn!("an order of the supervisor is not understood: ignored");
        };
        match order {
            WorkerOrder::Begin { .. } => warn!("begun already: ignored"),
            WorkerOrder::Sockets(ids) => {
                self.incoming
                    .extend(ids.into_iter().zip(packet.descriptors));
            }
            WorkerOrder::AccessLog => self.serving.set_access_log(sink(packet)),
            WorkerOrder::TicketKeys(keys) => self.serving.worker.set_ticket_keys(&keys),
            WorkerOrder::Accept(slots) => self.serving.worker.accept_from(slots),
            WorkerOrder::Adopt { round } => self.on_adopt(round, packet),
            WorkerOrder::Resolved(name, addresses) => {
                self.serving.worker.on_resolved(&[(name, addresses)]);
            }
            WorkerOrder::Kick { upstream, backend } => {
                self.serving.worker.kick(&upstream, backend.as_deref());
            }
            WorkerOrder::LogLevel(level) => set_log_level(level, false),
            WorkerOrder::Sessions { ask, query } => {
                let part = self.serving.worker.on_session_query(&query);
                self.report(&WorkerReport::Sessions { ask, part });
            }
            // This very turn looks.
            WorkerOrder::Look => {}
            WorkerOrder::Leave => {
                self.serving.worker.leave();
                self.report(&WorkerReport::Left);
            }
            WorkerOrder::Drain => self.serving.worker.drain(),
            WorkerOrder::Stop => self.serving.worker.stop(),
        }
    }

    fn on_adopt(&mut self, round: u32, packet: Packet) {
        let report = match self.adopt(packet) {
            Ok(()) => WorkerReport::Adopted { round },
            Err(reason) => WorkerReport::Refused { round, reason },
        };
        code_pages::release();
        self.report(&report);
    }

    fn adopt(&mut self, packet: Packet) -> Result<(), String> {
        if !self.serving.worker.may_adopt() {
            return Err("stopping".to_owned());
        }
        let bundle = read(packet).map_err(|error| format!("no configuration came: {error}"))?;
        let config = bundle.config;
        let level = config.log_level;
        let stops_with_supervisor = config.stops_with_supervisor;
        let sockets = received(&bundle.sockets, &mut self.incoming);
        let is_there = |settings: &model::Listener| self.serving.worker.listens_for(settings);
        check_sockets(&config, &sockets, is_there)?;
        self.serving
            .worker
            .adopt_sockets(config, sockets, false)
            .map_err(|error| error.to_string())?;
        self.serving.worker.on_resolved(&bundle.names);
        self.stops_with_supervisor = stops_with_supervisor;
        set_log_level(level, self.quiet);
        Ok(())
    }

    fn on_supervisor_gone(&mut self) {
        self.channel = None;
        if self.serving.worker.stage() != Stage::Serving {
            return;
        }
        if self.stops_with_supervisor {
            warn!("the supervisor has gone: stopping");
            self.serving.worker.drain();
        } else if self.is_asked {
            warn!("the supervisor has gone: stopping, as a signal asked");
            self.serving.worker.end();
        } else {
            warn!("the supervisor has gone: serving on without it");
            // Nobody tells any more who dies or stands still.
            self.serving.worker.accept_from(Slots::ALL);
        }
    }

    fn report(&self, report: &WorkerReport) {
        let Some(channel) = &self.channel else { return };
        if let Err(error) = channel.send(report.encode().bytes(), &[]) {
            // It does not read, or has gone, which the next look finds out.
            info!("the supervisor cannot be told: {error}");
        }
    }
}

/// What a packet says, with what came besides. It may have said keys.
fn understood(packet: Packet) -> (Option<WorkerOrder>, Packet) {
    let bytes = Secret::new(packet.bytes);
    let order = WorkerOrder::decode(bytes.bytes());
    let rest = Packet {
        bytes: Vec::new(),
        ..packet
    };
    (order, rest)
}

/// Where a configuration has keys, they are about to be in the memory of this process.
fn read(packet: Packet) -> io::Result<Bundle> {
    let bundle = Bundle::read(only(packet)?)?;
    if credentials::are_wanted(&bundle.config) {
        process::hide_memory();
    }
    Ok(bundle)
}

fn pin(cpu: Option<u16>) {
    let Some(cpu) = cpu else { return };
    if let Err(error) = process::pin_to_cpu(cpu.into()) {
        warn!("cannot run on CPU {cpu}: {error}; running on any");
    }
}

fn attach(packet: Packet, row: u8) -> io::Result<Board> {
    let memory = Mapping::attach(only(packet)?.as_fd())?;
    Board::attach(memory, row.into(), std::process::id())
        .map_err(|unfit| io::Error::other(unfit.to_string()))
}

/// The one descriptor that must come with a message.
fn only(packet: Packet) -> io::Result<OwnedFd> {
    let mut descriptors = packet.descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn sink(packet: Packet) -> AccessSink {
    let descriptor = packet.descriptors.into_iter().next();
    descriptor.map_or(AccessSink::Stdout, AccessSink::of)
}

/// Every listener must have a socket, a new one or one that is there.
fn check_sockets(
    config: &Config,
    sockets: &[Vec<Opened<ListenerSocket>>],
    is_there: impl Fn(&model::Listener) -> bool,
) -> Result<(), String> {
    if sockets.len() != config.listeners.len() {
        return Err("the sockets do not fit the configuration".to_owned());
    }
    let mut pairs = config.listeners.iter().zip(sockets);
    match pairs.find(|(settings, sockets)| sockets.is_empty() && !is_there(settings)) {
        Some((settings, _)) => Err(format!("listener {}: no socket came", settings.name)),
        None => Ok(()),
    }
}

/// The sockets of each listener that have come since the last configuration.
fn received(
    listeners: &[Vec<SocketRef>],
    incoming: &mut ReceivedSockets,
) -> Vec<Vec<Opened<ListenerSocket>>> {
    let mut take = |at: &SocketRef| {
        let fd = incoming.remove(&at.id)?;
        // One for all workers was opened by a service manager, or is a Unix socket, whose file is
        // the supervisor's.
        let socket = match at.slot {
            Some(_) => ListenerSocket::from(fd),
            None => ListenerSocket::lent(fd),
        };
        Some(Opened {
            slot: at.slot,
            socket,
        })
    };
    let mut all = Vec::new();
    for sockets in listeners {
        all.push(sockets.iter().filter_map(&mut take).collect());
    }
    // Others were for a configuration that has been overtaken.
    incoming.clear();
    all
}
