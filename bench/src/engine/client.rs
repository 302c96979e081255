//! The clients: each does units of work over its connection and checks every answer.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::http::{self, HEAD_BYTES_MAX};
use super::l4::{self, CHECK_EVERY, MESSAGE_BYTES, PREFACE_BYTES, Wish};
use super::{Connection, Engine, Fate, Role, SCRATCH_BYTES, net, tls};
use crate::pattern::Pattern;
use crate::workload::{Kind, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The unit's first bytes could not be sent yet.
    Connecting,
    /// The handshake of TLS is under way, before the unit's first bytes.
    Shaking,
    /// The answer has not come, or not all of it.
    Waiting,
    /// Sends an upload.
    Uploading,
    /// The answer is complete and the other side is to close.
    AwaitingEnd,
    /// Nothing to do.
    Idle,
    /// The last unit is counted.
    Done,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) phase: Phase,
    /// When its unit began, or with a rate, when it was due.
    begun_ns: u64,
    sequence: u64,
    /// Bytes of the answer (HTTP: of its body) so far.
    got: u64,
    /// Bytes of an upload so far.
    sent: u64,
    /// HTTP: the head of the answer is behind us.
    in_body: bool,
    /// HTTP: the beginning of a head whose end has not come yet.
    partial: Vec<u8>,
    reads: u64,
    tls: Option<Box<tls::Connection>>,
}

impl Client {
    fn in_flight(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Done)
    }

    fn interest(&self) -> EventFlags {
        let sealed = match &self.tls {
            Some(tls) if tls.wants_write() => EventFlags::OUT,
            Some(_) | None => EventFlags::empty(),
        };
        sealed
            | match self.phase {
                Phase::Connecting => EventFlags::OUT,
                Phase::Uploading => EventFlags::IN | EventFlags::OUT,
                Phase::Shaking
                | Phase::Waiting
                | Phase::AwaitingEnd
                | Phase::Idle
                | Phase::Done => EventFlags::IN,
            }
    }

    fn send(&mut self, fd: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.write(fd, bytes),
            None => net::send(fd, bytes),
        }
    }

    /// Ends this direction; false while what is before its end waits for the socket.
    fn finish_sending(&mut self, fd: &OwnedFd) -> rustix::io::Result<bool> {
        if let Some(tls) = &mut self.tls
            && !tls.finish(fd)?
        {
            return Ok(false);
        }
        rustix::net::shutdown(fd, Shutdown::Write).map(|()| true)
    }
}

impl Engine {
    /// Opens a connection and begins a unit on it. A failure is counted.
    pub(super) fn open_client(&mut self, due_ns: u64) {
        let target = self.load.targets[self.load.next_target % self.load.targets.len()];
        self.load.next_target += 1;
        let fd = match net::connect(target) {
            Ok(fd) => fd,
            Err(errno) => return self.failed_to_open(errno),
        };
        let mut client = Client {
            phase: Phase::Idle,
            begun_ns: 0,
            sequence: 0,
            got: 0,
            sent: 0,
            in_body: false,
            partial: Vec::new(),
            reads: 0,
            tls: self
                .tls
                .as_ref()
                .and_then(tls::Clients::connection)
                .map(Box::new),
        };
        if client.tls.as_ref().is_some_and(|tls| tls.is_new()) && self.must_resume() {
            self.error("no session was left to be resumed");
        }
        self.load.clients += 1;
        if self.begin(&fd, &mut client, due_ns) == Fate::Close {
            return self.forget(&client);
        }
        let interest = client.interest();
        if let Err(errno) = self.insert(fd, Role::Client(client), interest) {
            self.load.clients -= 1;
            self.load.in_flight -= 1;
            self.failed_to_open(errno);
        }
    }

    /// Whether each of the first clients, which may be new, has brought a session by now.
    fn must_resume(&self) -> bool {
        let is_late = |workload: Workload| self.load.begun > workload.connections as u64;
        self.load
            .workload
            .is_some_and(|it| it.tls.is_some_and(|tls| tls.is_resumed) && is_late(it))
    }

    fn failed_to_open(&mut self, errno: Errno) {
        self.error(match errno {
            Errno::MFILE | Errno::NFILE => "no descriptor left for a client",
            Errno::ADDRNOTAVAIL => "no port left for a client",
            _ => "a client could not open a socket",
        });
        self.load.to_open += 1;
    }

    /// Begins a unit on an idle connection. False when there is none.
    pub(super) fn begin_on_idle(&mut self, due_ns: u64) -> bool {
        while let Some((index, generation)) = self.load.idle.pop() {
            let slot = &mut self.slots[index];
            if slot.generation != generation {
                continue;
            }
            let Some(mut connection) = slot.connection.take() else {
                continue;
            };
            let Connection { fd, role, .. } = &mut *connection;
            let Role::Client(client) = role else { continue };
            match self.begin(fd, client, due_ns) {
                Fate::Keep => self.slots[index].connection = Some(connection),
                Fate::Close => {
                    self.forget(client);
                    self.release(index);
                }
            }
            return true;
        }
        false
    }

    fn begin(&mut self, fd: &OwnedFd, client: &mut Client, due_ns: u64) -> Fate {
        self.load.sequence += 1;
        self.load.begun += 1;
        self.load.in_flight += 1;
        client.sequence = self.load.sequence;
        client.begun_ns = due_ns;
        client.got = 0;
        client.in_body = false;
        client.phase = Phase::Connecting;
        self.set_out(fd, client)
    }

    /// Begins the unit, behind the handshake if there has to be one.
    fn set_out(&mut self, fd: &OwnedFd, client: &mut Client) -> Fate {
        let (Some(tls), Some(clients)) = (&mut client.tls, &mut self.tls) else {
            return self.send_wish(fd, client);
        };
        if client.phase == Phase::Connecting && !tls.is_shaken() {
            client.phase = Phase::Shaking;
        }
        match tls.shake(clients, fd) {
            Ok(true) => {}
            Ok(false) => return Fate::Keep,
            Err(Errno::CONNREFUSED) => return self.fail("connection refused"),
            Err(_) => return self.fail("a handshake failed"),
        }
        if client.phase == Phase::Shaking {
            client.phase = Phase::Connecting;
            if let Some(wrong) = tls.objection() {
                self.error(wrong);
            }
        }
        self.send_wish(fd, client)
    }

    /// Sends what begins the unit, which always fits into an empty socket.
    fn send_wish(&mut self, fd: &OwnedFd, client: &mut Client) -> Fate {
        let Some(workload) = self.load.workload else {
            return Fate::Close;
        };
        let bytes = wish(&self.pattern, &workload, client.sequence);
        match client.send(fd, &bytes) {
            Ok(n) if n == bytes.len() => {
                client.phase = Phase::Waiting;
                if workload.kind == (Kind::Bulk { up: true }) {
                    client.phase = Phase::Uploading;
                    client.sent = PREFACE_BYTES;
                    self.load.bytes_sent += PREFACE_BYTES;
                }
                Fate::Keep
            }
            Err(Errno::AGAIN) => Fate::Keep,
            Err(Errno::CONNREFUSED) => self.fail("connection refused"),
            Err(Errno::CONNRESET | Errno::PIPE) => self.fail("closed before the client sent"),
            Ok(_) | Err(_) => self.fail("a client could not send"),
        }
    }

    fn fail(&mut self, what: &'static str) -> Fate {
        self.error(what);
        Fate::Close
    }

    pub(super) fn on_client(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        flags: EventFlags,
    ) -> (EventFlags, Fate) {
        let mut fate = self.advance(index, fd, client, flags);
        // What came with an end has no event of its own.
        while fate == Fate::Keep && client.tls.as_ref().is_some_and(|tls| tls.has_ended()) {
            fate = self.advance(index, fd, client, EventFlags::IN);
        }
        if fate == Fate::Close {
            self.forget(client);
        }
        (client.interest(), fate)
    }

    fn advance(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        flags: EventFlags,
    ) -> Fate {
        if let Some(tls) = &mut client.tls
            && flags.contains(EventFlags::OUT)
            && tls.flush(fd).is_err()
        {
            return self.on_reset(client);
        }
        match client.phase {
            Phase::Connecting | Phase::Shaking => self.set_out(fd, client),
            Phase::Uploading if !flags.contains(EventFlags::IN) => self.send_upload(fd, client),
            Phase::Waiting if self.is_download() => self.receive_download(fd, client),
            Phase::Uploading | Phase::Waiting | Phase::AwaitingEnd | Phase::Idle | Phase::Done => {
                self.receive(index, fd, client)
            }
        }
    }

    /// Settles the accounts of a connection that is being closed.
    fn forget(&mut self, client: &Client) {
        self.load.clients -= 1;
        if client.in_flight() {
            self.load.in_flight -= 1;
        }
        if self.load.running && !self.opens_by_rate() {
            self.load.to_open += 1;
        }
    }

    /// Whether connections are opened at fixed times, so that none takes the place of another.
    pub(super) fn opens_by_rate(&self) -> bool {
        self.load
            .workload
            .is_some_and(|w| w.rate_per_s.is_some() && w.connections == 0)
    }

    fn is_download(&self) -> bool {
        self.load
            .workload
            .is_some_and(|w| w.kind == Kind::Bulk { up: false })
    }

    fn send_upload(&mut self, fd: &OwnedFd, client: &mut Client) -> Fate {
        if !self.load.running {
            return match client.finish_sending(fd) {
                Ok(true) => {
                    client.phase = Phase::AwaitingEnd;
                    Fate::Keep
                }
                Ok(false) => Fate::Keep,
                Err(_) => self.fail("closed during an upload"),
            };
        }
        match client.send(fd, self.pattern.piece(client.sent)) {
            Ok(n) => {
                client.sent += n as u64;
                self.load.bytes_sent += n as u64;
                Fate::Keep
            }
            Err(Errno::AGAIN) => Fate::Keep,
            Err(_) => self.fail("closed during an upload"),
        }
    }

    fn receive_download(&mut self, fd: &OwnedFd, client: &mut Client) -> Fate {
        let read = self.receive_pattern(fd, client, client.got, usize::MAX);
        match read {
            Ok(0) if self.load.running => self.fail("closed during a download"),
            Ok(0) => self.finish(client).1,
            Ok(n) => {
                client.got += n as u64;
                self.load.bytes_received += n as u64;
                Fate::Keep
            }
            Err(Errno::AGAIN) => Fate::Keep,
            Err(_) => self.fail("reset during a download"),
        }
    }

    /// Reads up to `most` bytes into the scratch space; over TLS all that come.
    fn recv(
        &mut self,
        fd: &OwnedFd,
        client: &mut Client,
        most: usize,
    ) -> rustix::io::Result<usize> {
        match (&mut client.tls, &mut self.tls) {
            (Some(tls), Some(clients)) => tls.read(clients, fd, &mut self.scratch),
            _ => net::recv(fd, &mut self.scratch[..most]),
        }
    }

    /// Takes up to `most` bytes of the pattern from the socket; compares one read of several.
    fn receive_pattern(
        &mut self,
        fd: &OwnedFd,
        client: &mut Client,
        offset: u64,
        most: usize,
    ) -> rustix::io::Result<usize> {
        client.reads += 1;
        let most = most.min(self.scratch.len());
        let is_compared = client.reads.is_multiple_of(CHECK_EVERY);
        if !is_compared && client.tls.is_none() {
            return net::discard(fd, &mut self.scratch[..most]);
        }
        let read = self.recv(fd, client, most)?;
        if !is_compared {
            return Ok(read);
        }
        if !self.pattern.matches(offset, &self.scratch[..read]) {
            self.error("wrong bytes in an answer");
        }
        Ok(read)
    }

    fn receive(&mut self, index: usize, fd: &OwnedFd, client: &mut Client) -> Fate {
        if client.in_body && client.phase == Phase::Waiting {
            return self.receive_body(index, fd, client);
        }
        let read = match self.recv(fd, client, SCRATCH_BYTES) {
            Ok(read) => read,
            Err(Errno::AGAIN) => return Fate::Keep,
            Err(_) => return self.on_reset(client),
        };
        match (client.phase, read) {
            (Phase::AwaitingEnd, 0) => self.finish(client).1,
            (Phase::Idle | Phase::Done, 0) => self.fail("an idle connection was closed"),
            (_, 0) => self.fail("closed before the end of the answer"),
            (Phase::Waiting, _) => self.on_answer_bytes(index, fd, client, read),
            (_, _) => self.fail("bytes that nobody asked for"),
        }
    }

    fn on_reset(&mut self, client: &Client) -> Fate {
        self.fail(match client.phase {
            Phase::AwaitingEnd => "reset after the answer",
            Phase::Idle | Phase::Done => "an idle connection was reset",
            Phase::Connecting | Phase::Shaking | Phase::Waiting | Phase::Uploading => {
                "reset before the answer"
            }
        })
    }

    fn on_answer_bytes(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        read: usize,
    ) -> Fate {
        match self.load.workload.map(|w| w.kind) {
            Some(Kind::Http { body_bytes, .. }) => {
                self.on_head(index, fd, client, read, body_bytes)
            }
            Some(Kind::Idle { http: true } | Kind::Start) => {
                self.on_head(index, fd, client, read, IDLE_BODY_BYTES)
            }
            Some(Kind::Churn {
                backend_closes: true,
            }) => self.on_echo(index, fd, client, read, Wish::EchoAndClose),
            Some(_) | None => self.on_echo(index, fd, client, read, Wish::Echo),
        }
    }

    /// Compares `read` echoed bytes in the scratch space with what was sent.
    fn on_echo(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        read: usize,
        wish: Wish,
    ) -> Fate {
        let sent = l4::message(&self.pattern, wish, client.sequence);
        let from = usize::try_from(client.got).unwrap_or(MESSAGE_BYTES);
        if sent.get(from..from + read) != Some(&self.scratch[..read]) {
            return self.fail("wrong bytes in an answer");
        }
        client.got += read as u64;
        if client.got < MESSAGE_BYTES as u64 {
            return Fate::Keep;
        }
        self.on_answered(index, fd, client)
    }

    /// Reads the head of an answer from the scratch space, and what of the body came with it.
    fn on_head(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        read: usize,
        body_bytes: usize,
    ) -> Fate {
        let bytes = if client.partial.is_empty() {
            &self.scratch[..read]
        } else {
            client.partial.extend_from_slice(&self.scratch[..read]);
            &client.partial[..]
        };
        let Some(head) = http::parse_answer(bytes) else {
            if bytes.len() > HEAD_BYTES_MAX {
                return self.fail("an answer's head without end");
            }
            if client.partial.is_empty() {
                client.partial.extend_from_slice(&self.scratch[..read]);
            }
            return Fate::Keep;
        };
        let body = &bytes[head.head_bytes..];
        let wrong = if head.status != 200 {
            Some("a status other than 200")
        } else if head.body_bytes != Some(body_bytes as u64) {
            Some("a wrong or missing Content-Length")
        } else if head.sequence != Some(client.sequence & 0xFFFF_FFFF) {
            Some("the answer to another request")
        } else if body.len() > body_bytes || !self.pattern.matches(0, body) {
            Some("wrong bytes in an answer")
        } else {
            None
        };
        client.got = body.len() as u64;
        client.in_body = true;
        client.partial.clear();
        if let Some(wrong) = wrong {
            return self.fail(wrong);
        }
        self.on_body(index, fd, client, body_bytes)
    }

    fn receive_body(&mut self, index: usize, fd: &OwnedFd, client: &mut Client) -> Fate {
        let Some(Kind::Http { body_bytes, .. }) = self.load.workload.map(|w| w.kind) else {
            return self.fail("bytes that nobody asked for");
        };
        let left = body_bytes - usize::try_from(client.got).unwrap_or(body_bytes);
        match self.receive_pattern(fd, client, client.got, left) {
            Ok(0) => self.fail("closed before the end of the answer"),
            Ok(read) if read > left => self.fail("bytes that nobody asked for"),
            Ok(read) => {
                client.got += read as u64;
                self.on_body(index, fd, client, body_bytes)
            }
            Err(Errno::AGAIN) => Fate::Keep,
            Err(_) => self.on_reset(client),
        }
    }

    fn on_body(
        &mut self,
        index: usize,
        fd: &OwnedFd,
        client: &mut Client,
        body_bytes: usize,
    ) -> Fate {
        if client.got < body_bytes as u64 {
            return Fate::Keep;
        }
        self.on_answered(index, fd, client)
    }

    /// The answer is complete.
    fn on_answered(&mut self, index: usize, fd: &OwnedFd, client: &mut Client) -> Fate {
        let Some(workload) = self.load.workload else {
            return Fate::Close;
        };
        match workload.kind {
            Kind::Churn {
                backend_closes: true,
            }
            | Kind::Http { close: true, .. } => {
                client.phase = Phase::AwaitingEnd;
                Fate::Keep
            }
            Kind::Churn {
                backend_closes: false,
            }
            | Kind::Start => self.finish(client).1,
            Kind::Messages | Kind::Http { close: false, .. } => {
                let (now, _) = self.finish(client);
                self.next_unit(index, fd, client, now)
            }
            Kind::Idle { .. } => {
                self.finish(client);
                client.phase = Phase::Idle;
                Fate::Keep
            }
            Kind::Bulk { .. } => Fate::Keep,
        }
    }

    /// Counts the client's unit. Gives the time and, for who closes now, that fate.
    fn finish(&mut self, client: &mut Client) -> (u64, Fate) {
        let now = self.now_ns();
        self.load.completed += 1;
        self.load.in_flight -= 1;
        client.phase = Phase::Done;
        let by_rate = self.load.workload.is_some_and(|w| w.rate_per_s.is_some());
        let counts_at = if by_rate { client.begun_ns } else { now };
        if self.load.window.contains(&counts_at) {
            self.load
                .latencies
                .record(now.saturating_sub(client.begun_ns));
        }
        (now, Fate::Close)
    }

    fn next_unit(&mut self, index: usize, fd: &OwnedFd, client: &mut Client, now: u64) -> Fate {
        let by_rate = self.load.workload.is_some_and(|w| w.rate_per_s.is_some());
        if by_rate {
            if let Some(due_ns) = self.load.overdue.pop_front() {
                return self.begin(fd, client, due_ns);
            }
            self.load.idle.push((index, self.slots[index].generation));
        } else if self.load.running {
            return self.begin(fd, client, now);
        }
        client.phase = Phase::Idle;
        Fate::Keep
    }
}

/// Body of the answers that open idle connections.
const IDLE_BODY_BYTES: usize = 128;

fn wish(pattern: &Pattern, workload: &Workload, sequence: u64) -> Vec<u8> {
    let message = |wish| l4::message(pattern, wish, sequence);
    let preface = usize::try_from(PREFACE_BYTES).unwrap_or(0);
    match workload.kind {
        Kind::Churn {
            backend_closes: true,
        } => message(Wish::EchoAndClose).to_vec(),
        Kind::Churn {
            backend_closes: false,
        }
        | Kind::Messages
        | Kind::Idle { http: false } => message(Wish::Echo).to_vec(),
        Kind::Bulk { up: true } => message(Wish::Upload)[..preface].to_vec(),
        Kind::Bulk { up: false } => message(Wish::Download)[..preface].to_vec(),
        Kind::Http { body_bytes, close } => http::request(body_bytes, close, sequence),
        Kind::Idle { http: true } | Kind::Start => http::request(IDLE_BODY_BYTES, false, sequence),
    }
}
