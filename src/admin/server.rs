//! Callers at the admin door, each served as far as it goes without waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use slab::Slab;

use crate::admin::answer::Answer;
use crate::admin::conversation::Conversation;
use crate::admin::errand::{Errand, Reply, Ticket};
use crate::admin::guard::{self, Rules};
use crate::admin::request::{Malformed, Request};
use crate::admin::resources::{self, Look, Meaning};
use crate::admin::view::View;
use crate::core::http::head::RequestHead;
use crate::core::time::Tick;
use crate::sys::door::{self, Caller, Expected, Peer, Poller};
use crate::sys::notify::Beat;

/// Callers at once. The one that has been silent for longest makes way for another.
pub(crate) const CALLERS_MAX: usize = 64;
/// How long a request may take to come, and an answer to be taken.
const SLOW_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be kept between two requests.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long the control loop may take for an errand.
const ERRAND_MAX: Duration = Duration::from_secs(120);
/// How often all that is looked at, while somebody is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes read at once.
const READ_BYTES: usize = 4096;
/// Parts of an answer that one turn makes for one caller.
const PARTS_A_TURN_MAX: usize = 2;
/// Callers that one turn takes in.
const CALLERS_A_TURN_MAX: usize = 16;

const TIMER_KEY: u64 = 0;
const OTHER_KEY: u64 = 1;
const FIRST_DOOR_KEY: u64 = 2;
/// Those of callers: their place, and above it a number that none had before.
const FIRST_CALLER_KEY: u64 = 64;
const PLACE_BITS: u32 = 16;

/// A few sockets, and who calls there.
#[derive(Debug)]
pub(crate) struct Server {
    poller: Poller,
    doors: Vec<OwnedFd>,
    rules: Rules,
    callers: Slab<Visit>,
    timer: Beat,
    is_timed: bool,
    next_number: u64,
    head: RequestHead,
}

/// A caller that is there.
#[derive(Debug)]
struct Visit {
    key: u64,
    socket: Caller,
    who: guard::Caller,
    talk: Conversation,
    expected: Expected,
    /// When it last made progress.
    since: Tick,
    /// How it wants the reply to an errand.
    accept: String,
}

/// What one turn came to.
#[derive(Debug, Default)]
pub(crate) struct Turned {
    /// What the control loop is to do.
    pub(crate) errands: Vec<Errand>,
    /// Whether the descriptor that is not ours was heard of.
    pub(crate) is_other: bool,
}

impl Server {
    /// Takes callers at these sockets from now on.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub(crate) fn open(doors: Vec<OwnedFd>, rules: Rules) -> io::Result<Self> {
        let this = Self {
            poller: Poller::open()?,
            doors,
            rules,
            callers: Slab::new(),
            timer: Beat::stopped()?,
            is_timed: false,
            next_number: 1,
            head: RequestHead::default(),
        };
        this.poller.watch(this.timer.as_fd(), TIMER_KEY)?;
        for (key, door) in (FIRST_DOOR_KEY..).zip(&this.doors) {
            this.poller.watch(door, key)?;
        }
        Ok(this)
    }

    /// Tells of one more descriptor, of the caller's.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub(crate) fn watch_other(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.watch(fd, OTHER_KEY)
    }

    /// Waits at most so long, or for ever; whose time has come.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<u64>> {
        self.poller.wait(limit)
    }

    /// Whether nobody has anything new to say, so that only time has passed.
    pub(crate) fn is_quiet(ready: &[u64]) -> bool {
        ready.iter().all(|&key| key == TIMER_KEY)
    }

    /// Serves those whose time has come, each as far as it goes.
    pub(crate) fn serve(&mut self, ready: &[u64], view: &View<'_>) -> Turned {
        let mut turned = Turned::default();
        for &key in ready {
            match key {
                TIMER_KEY => self.on_time(view.now),
                OTHER_KEY => turned.is_other = true,
                FIRST_CALLER_KEY.. => turned.errands.extend(self.on_caller(key, view)),
                _ => self.let_in(key - FIRST_DOOR_KEY, view.now),
            }
        }
        turned
    }

    /// Gives the reply to whoever waits for it still.
    pub(crate) fn tell(&mut self, ticket: Ticket, reply: &Reply, view: &View<'_>) {
        let Some(place) = self.place_of(ticket.0) else {
            return;
        };
        let visit = &mut self.callers[place];
        if !visit.talk.is_asked() {
            return;
        }
        let answer = resources::reply(reply, &visit.accept);
        visit.talk.answer(answer, view);
        visit.since = view.now;
        let errand = self.go_on(place, view);
        debug_assert!(errand.is_none(), "one request at a time");
    }

    /// Gives that reply to all who wait for one.
    pub(crate) fn tell_all(&mut self, reply: &Reply, view: &View<'_>) {
        let keys: Vec<u64> = self.callers.iter().map(|(_, visit)| visit.key).collect();
        for key in keys {
            self.tell(Ticket(key), reply, view);
        }
    }

    fn let_in(&mut self, door: u64, now: Tick) {
        let Some(door) = usize::try_from(door)
            .ok()
            .filter(|it| *it < self.doors.len())
        else {
            return;
        };
        for _ in 0..CALLERS_A_TURN_MAX {
            let Some((socket, peer)) = door::accept(self.doors[door].as_fd()) else {
                return;
            };
            if self.callers.len() >= CALLERS_MAX {
                self.end_the_most_silent();
            }
            let who = guard::Caller {
                peer,
                // It may have been root when the door was opened.
                own_user: door::own_user(),
            };
            self.welcome(socket, who, now);
        }
    }

    fn welcome(&mut self, socket: Caller, who: guard::Caller, now: Tick) {
        let place = self.callers.vacant_key();
        let key = FIRST_CALLER_KEY + (self.next_number << PLACE_BITS) + place as u64;
        if self.poller.watch(&socket, key).is_err() {
            return;
        }
        self.next_number += 1;
        self.callers.insert(Visit {
            key,
            socket,
            who,
            talk: Conversation::default(),
            expected: Expected::Input,
            since: now,
            accept: String::new(),
        });
        self.time(true);
    }

    /// Who has an errand under way is not sent away, nor one at the Unix socket, which not
    /// everybody can open, while there is somebody who has come over TCP.
    fn end_the_most_silent(&mut self) {
        let visits = self.callers.iter();
        let waiting = visits.filter(|(_, visit)| !visit.talk.is_asked());
        let is_local = |visit: &Visit| matches!(visit.who.peer, Peer::User(_));
        let oldest = waiting.min_by_key(|(_, visit)| (is_local(visit), visit.since));
        let place = oldest.map(|(place, _)| place);
        let place = place.or_else(|| self.callers.iter().next().map(|(place, _)| place));
        if let Some(place) = place {
            self.callers.remove(place);
        }
    }

    /// The timer runs while it is of use.
    fn time(&mut self, on: bool) {
        if self.is_timed != on {
            self.is_timed = on;
            let interval = if on { LOOK_INTERVAL } else { Duration::ZERO };
            // Without it callers stay until they go.
            let _ = self.timer.set(interval);
        }
    }

    fn on_time(&mut self, now: Tick) {
        let _ = self.timer.take();
        self.callers.retain(|_, visit| !visit.is_late(now));
        if self.callers.is_empty() {
            self.time(false);
        }
    }

    fn place_of(&self, key: u64) -> Option<usize> {
        let place = key.checked_sub(FIRST_CALLER_KEY)? & ((1 << PLACE_BITS) - 1);
        let place = usize::try_from(place).ok()?;
        let visit = self.callers.get(place)?;
        (visit.key == key).then_some(place)
    }

    fn on_caller(&mut self, key: u64, view: &View<'_>) -> Option<Errand> {
        let place = self.place_of(key)?;
        let visit = &mut self.callers[place];
        // Of one for whom nothing is waited nothing is told but its end.
        if visit.expected == Expected::Nothing || !visit.hear(view.now) {
            self.callers.remove(place);
            return None;
        }
        self.go_on(place, view)
    }

    /// Answers what was asked, and lets the caller take what is there for it.
    fn go_on(&mut self, place: usize, view: &View<'_>) -> Option<Errand> {
        let mut errand = None;
        let visit = &mut self.callers[place];
        for _ in 0..PARTS_A_TURN_MAX {
            match visit.talk.next_request(&mut self.head) {
                Ok(None) => {}
                Ok(Some(request)) => errand = visit.on_request(&self.rules, &request, view),
                Err(malformed) => visit.on_malformed(malformed, view),
            }
            visit.talk.go_on(view);
            match visit.say(view.now) {
                Ok(true) if errand.is_none() => {}
                Ok(_) => break,
                Err(_) => {
                    self.callers.remove(place);
                    return None;
                }
            }
        }
        if visit.talk.is_over() {
            self.callers.remove(place);
            return errand;
        }
        let expected = visit.expects();
        if visit.expected != expected {
            visit.expected = expected;
            if self
                .poller
                .expect(&visit.socket, visit.key, expected)
                .is_err()
            {
                self.callers.remove(place);
            }
        }
        errand
    }
}

impl AsFd for Server {
    /// Readable when somebody's time has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Visit {
    /// Hears what has come. False when it has gone.
    fn hear(&mut self, now: Tick) -> bool {
        if !self.talk.listens() {
            // It is told of because it has gone, or can take more.
            return true;
        }
        let mut bytes = [0; READ_BYTES];
        let room = self.talk.room().min(READ_BYTES);
        if room == 0 {
            // Requests wait until the answers before them are taken.
            return true;
        }
        match self.socket.read(&mut bytes[..room]) {
            Ok(None) => true,
            Ok(Some(0)) | Err(_) => false,
            Ok(Some(count)) => {
                if !self.talk.is_mid_request() {
                    self.since = now;
                }
                self.talk.hear(&bytes[..count]);
                true
            }
        }
    }

    fn on_request(&mut self, rules: &Rules, request: &Request, view: &View<'_>) -> Option<Errand> {
        let is_json = request.accept.contains(crate::admin::answer::JSON);
        let meaning = resources::meaning(request, view.outline);
        let acts = meaning.as_ref().is_ok_and(Meaning::acts);
        let admitted = rules.admit(&self.who, request, acts);
        let answer = match (admitted, meaning) {
            // Not under a name of somebody else's, who would see the token that it asks for.
            (Err((401 | 403, _)), Ok(Meaning::Look(Look::Page))) => resources::show_page(false),
            (Err((status, words)), _) => refusal(status, words, is_json),
            (Ok(_), Err(mistake)) => resources::mistaken(request, &mistake, is_json),
            (Ok(_), Ok(Meaning::Look(look))) => resources::show(look, view),
            (Ok(who), Ok(Meaning::Ask(action))) => {
                self.accept.clone_from(&request.accept);
                self.since = view.now;
                let ticket = Ticket(self.key);
                return Some(Errand {
                    ticket,
                    who,
                    action,
                });
            }
        };
        self.since = view.now;
        self.talk.answer(answer, view);
        None
    }

    fn on_malformed(&mut self, (status, words): Malformed, view: &View<'_>) {
        self.since = view.now;
        let answer = Answer::text(status, words);
        self.talk.answer(answer, view);
    }

    /// Says what there is room for; whether all of it.
    fn say(&mut self, now: Tick) -> io::Result<bool> {
        while !self.talk.output().is_empty() {
            match self.socket.write(self.talk.output())? {
                None => return Ok(false),
                Some(count) => {
                    self.talk.take(count);
                    self.since = now;
                }
            }
        }
        Ok(true)
    }

    fn expects(&self) -> Expected {
        if self.talk.is_asked() {
            Expected::Nothing
        } else if self.talk.needs_more() && self.talk.output().is_empty() {
            Expected::Input
        } else {
            Expected::Room
        }
    }

    fn is_late(&self, now: Tick) -> bool {
        let limit = if self.talk.is_asked() {
            ERRAND_MAX
        } else if self.talk.listens() && !self.talk.is_mid_request() {
            IDLE_MAX
        } else {
            SLOW_MAX
        };
        self.since.after(limit) <= now
    }
}

fn refusal(status: u16, words: &str, is_json: bool) -> Answer {
    let answer = resources::mistake(status, words, is_json);
    match status {
        401 => answer.with("WWW-Authenticate", "Bearer realm=\"weir\""),
        _ => answer,
    }
}
