//! The worker of production: over the [`Reactor`], put together here, so that it is compiled with
//! the data plane and once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::board::Board;
use crate::config::model::{self, Config};
use crate::core::address::UnresolvedName;
use crate::core::sessions::{SessionQuery, SessionsPart};
use crate::core::time::Tick;
use crate::reactor::Reactor;
use crate::sys::child;
use crate::sys::socket::ListenerSocket;
use crate::tls::material::TicketKey;
use crate::worker::{Adopted, Opened, Slots, Stage, Start, Worker};

/// A [`Worker`] over the [`Reactor`].
#[derive(Debug)]
pub struct LiveWorker(Worker<Reactor>);

/// The same as the methods of [`Worker`]. What does more than look is not
/// inlined into what is compiled for size.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "they are those of the worker"
)]
impl LiveWorker {
    #[inline(never)]
    pub fn new(
        start: Start<Reactor>,
        config: Config,
        sockets: Vec<ListenerSocket>,
    ) -> io::Result<Self> {
        Worker::new(start, config, sockets).map(Self)
    }

    #[inline(never)]
    pub fn with_slots(
        start: Start<Reactor>,
        config: Config,
        sockets: Vec<Vec<Opened<ListenerSocket>>>,
        slots: Slots,
    ) -> io::Result<Self> {
        Worker::with_slots(start, config, sockets, slots).map(Self)
    }

    /// What the clock says.
    #[inline(never)]
    pub fn now(&mut self) -> Tick {
        self.0.net_mut().now()
    }

    /// See [`Worker::end`]; who runs is asked of the kernel.
    #[inline(never)]
    pub fn end(&mut self) {
        self.0.end(child::is_running);
    }

    /// Turns until a control descriptor fires, which is true, or lines of the access log wait. None
    /// when there is nothing left to do.
    #[inline(never)]
    pub fn turn(&mut self) -> io::Result<Option<bool>> {
        while self.0.stage() != Stage::Finished {
            self.0.turn()?;
            let is_control = self.0.take_control();
            if is_control || self.0.has_access_lines() {
                return Ok(Some(is_control));
            }
        }
        Ok(None)
    }

    #[inline(never)]
    pub fn adopt(
        &mut self,
        config: Config,
        sockets: Vec<Option<ListenerSocket>>,
        at_start: bool,
    ) -> io::Result<Adopted> {
        self.0.adopt(config, sockets, at_start)
    }

    #[inline(never)]
    pub fn adopt_sockets(
        &mut self,
        config: Config,
        sockets: Vec<Vec<Opened<ListenerSocket>>>,
        at_start: bool,
    ) -> io::Result<Adopted> {
        self.0.adopt_sockets(config, sockets, at_start)
    }

    #[inline(never)]
    pub fn come_back_after(&mut self, pause: Duration) {
        self.0.come_back_after(pause);
    }

    #[inline]
    pub fn may_adopt(&self) -> bool {
        self.0.may_adopt()
    }

    #[inline(never)]
    pub fn listens_for(&self, settings: &model::Listener) -> bool {
        self.0.listens_for(settings)
    }

    #[inline(never)]
    pub fn accept_from(&mut self, slots: Slots) {
        self.0.accept_from(slots);
    }

    #[inline(never)]
    pub fn on_resolved(&mut self, names: &[(UnresolvedName, Vec<SocketAddr>)]) {
        self.0.on_resolved(names);
    }

    #[inline(never)]
    pub fn set_ticket_keys(&mut self, keys: &[TicketKey]) {
        self.0.set_ticket_keys(keys);
    }

    #[inline]
    pub fn set_number(&mut self, number: u32) {
        self.0.set_number(number);
    }

    #[inline(never)]
    pub fn set_descriptors_max(&self, descriptors: u64) {
        self.0.set_descriptors_max(descriptors);
    }

    #[inline(never)]
    pub fn limit_connections(&mut self, connections_possible: usize) {
        self.0.limit_connections(connections_possible);
    }

    #[inline]
    pub fn connections_max(&self) -> usize {
        self.0.connections_max()
    }

    #[inline]
    pub fn board(&self) -> &Board {
        self.0.board()
    }

    #[inline]
    pub fn stage(&self) -> Stage {
        self.0.stage()
    }

    #[inline(never)]
    pub fn kick(&mut self, upstream: &str, backend: Option<&str>) {
        self.0.kick(upstream, backend);
    }

    #[inline(never)]
    pub fn on_session_query(&mut self, query: &SessionQuery) -> SessionsPart {
        self.0.on_session_query(query)
    }

    #[inline(never)]
    pub fn leave(&mut self) {
        self.0.leave();
    }

    #[inline(never)]
    pub fn drain(&mut self) {
        self.0.drain();
    }

    #[inline(never)]
    pub fn stop(&mut self) {
        self.0.stop();
    }

    #[inline]
    pub fn cut_sessions(&self) -> u64 {
        self.0.cut_sessions()
    }

    #[inline]
    pub fn has_access_lines(&self) -> bool {
        self.0.has_access_lines()
    }

    #[inline]
    pub fn access_lines(&mut self) -> Option<&mut Vec<u8>> {
        self.0.access_lines()
    }

    #[inline]
    pub fn access_lines_lost(&self) -> u64 {
        self.0.access_lines_lost()
    }

    #[inline(never)]
    pub fn lose_access_lines(&mut self, lines: u64) {
        self.0.lose_access_lines(lines);
    }

    #[inline(never)]
    pub fn give_up_access_lines(&mut self) {
        self.0.give_up_access_lines();
    }

    #[inline(never)]
    pub fn show_lines_lost(&self) {
        self.0.show_lines_lost();
    }
}
