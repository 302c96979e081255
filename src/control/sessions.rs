//! Sessions live in processes: each is asked for its own, one after the other and a part at a time,
//! and who does not answer soon is left out.

use std::time::Duration;

use log::info;

use crate::admin::errand::{Reply, Ticket};
use crate::admin::sessions;
use crate::control::controller::Controller;
use crate::control::verdict::Asker;
use crate::core::sessions::{GlobalName, SessionFilter, SessionQuery, SessionRow, SessionsPart};
use crate::core::time::Tick;
use crate::reactor::machine_now;

/// Callers for whom processes are asked at the same time.
const ASKS_MAX: usize = 8;
/// How long a process may take for a part, and all of them for all.
const PART_MAX: Duration = Duration::from_secs(1);
const ALL_MAX: Duration = Duration::from_secs(5);

/// What is being asked for a caller.
#[derive(Debug)]
pub(super) struct Inquiry {
    number: u32,
    ticket: Ticket,
    what: What,
    /// Who is asked, and who after that.
    pid: u32,
    others: Vec<u32>,
    /// What is to be asked in the next turn.
    due: Option<SessionQuery>,
    rows: Vec<(u32, SessionRow)>,
    /// Who has not answered.
    silent: Vec<u32>,
    part_until: Tick,
    all_until: Tick,
}

#[derive(Clone, Debug)]
enum What {
    List(SessionFilter, usize),
    Kick(GlobalName, String),
}

impl Controller {
    /// Tells which sessions there are.
    pub(super) fn show_sessions(&mut self, ticket: Ticket, filter: SessionFilter, max: u32) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let first = SessionQuery::List {
            filter: filter.clone(),
            from: 0,
        };
        let pids = self.workforce.processes();
        self.inquire(ticket, What::List(filter, max), pids, first);
    }

    /// Ends one session.
    pub(super) fn kick_session(&mut self, ticket: Ticket, id: GlobalName, who: String) {
        let mut pids = self.workforce.processes();
        pids.retain(|pid| *pid == id.pid);
        let query = SessionQuery::Kick(id.name);
        self.inquire(ticket, What::Kick(id, who), pids, query);
    }

    fn inquire(&mut self, ticket: Ticket, what: What, mut pids: Vec<u32>, first: SessionQuery) {
        if self.inquiries.len() >= ASKS_MAX {
            let words = "too many ask for sessions at the moment; try again".to_owned();
            return self.reply(&Asker::Caller(ticket), Reply::Refused(words));
        }
        // The last is asked first.
        pids.reverse();
        let now = machine_now();
        let pid = pids.pop();
        self.last_inquiry = self.last_inquiry.wrapping_add(1);
        let inquiry = Inquiry {
            number: self.last_inquiry,
            ticket,
            what,
            pid: pid.unwrap_or(0),
            others: pids,
            due: Some(first),
            rows: Vec::new(),
            silent: Vec::new(),
            part_until: now.after(PART_MAX),
            all_until: now.after(ALL_MAX),
        };
        match pid {
            Some(_) => self.inquiries.push(inquiry),
            None => self.conclude(inquiry, true),
        }
    }

    /// Asks what is to be asked in this turn, and waits no longer for who is late.
    pub(super) fn on_inquiries(&mut self) {
        if self.inquiries.is_empty() {
            return;
        }
        let now = machine_now();
        for mut inquiry in std::mem::take(&mut self.inquiries) {
            if inquiry.part_until <= now {
                inquiry.silent.push(inquiry.pid);
                self.ask_next(inquiry, now);
            } else {
                self.ask_due(&mut inquiry);
                self.inquiries.push(inquiry);
            }
        }
    }

    fn ask_due(&mut self, inquiry: &mut Inquiry) {
        if let Some(query) = inquiry.due.take() {
            let (pid, number) = (inquiry.pid, inquiry.number);
            self.workforce.ask_sessions(pid, number, query);
        }
    }

    /// A process has told of its sessions.
    pub(super) fn on_sessions(&mut self, pid: u32, number: u32, mut part: SessionsPart) {
        let mut all = self.inquiries.iter();
        let at = all.position(|it| it.number == number && it.pid == pid);
        let Some(mut inquiry) = at.map(|at| self.inquiries.swap_remove(at)) else {
            return;
        };
        let rows = part.rows.drain(..).map(|row| (pid, row));
        inquiry.rows.extend(rows);
        let now = machine_now();
        match (&inquiry.what, part.next) {
            (What::List(_, max), _) if inquiry.rows.len() > *max => {
                inquiry.rows.truncate(*max);
                self.conclude(inquiry, false);
            }
            (What::List(filter, _), Some(from)) => {
                let filter = filter.clone();
                inquiry.due = Some(SessionQuery::List { filter, from });
                inquiry.part_until = now.after(PART_MAX);
                self.put_back(inquiry);
            }
            (_, None) | (What::Kick(..), _) => self.ask_next(inquiry, now),
        }
    }

    /// Goes on with the next process, if there is one and time for it.
    fn ask_next(&mut self, mut inquiry: Inquiry, now: Tick) {
        if inquiry.all_until <= now {
            inquiry.silent.append(&mut inquiry.others);
        }
        let (Some(pid), What::List(filter, _)) = (inquiry.others.pop(), &inquiry.what) else {
            return self.conclude(inquiry, true);
        };
        inquiry.pid = pid;
        inquiry.due = Some(SessionQuery::List {
            filter: filter.clone(),
            from: 0,
        });
        inquiry.part_until = now.after(PART_MAX);
        self.put_back(inquiry);
    }

    /// Workers are asked at once; a process on its own asks itself in its next turn, so that its
    /// clients have theirs.
    fn put_back(&mut self, mut inquiry: Inquiry) {
        if self.workforce.is_supervised() {
            self.ask_due(&mut inquiry);
        } else {
            self.jobs.come_back();
        }
        self.inquiries.push(inquiry);
    }

    fn conclude(&mut self, inquiry: Inquiry, is_all: bool) {
        let Inquiry {
            rows, silent, what, ..
        } = &inquiry;
        let reply = match what {
            What::List(..) => Reply::Told(sessions::listed(rows, is_all, silent)),
            What::Kick(id, who) => kicked(*id, who, rows.first().map(|(_, row)| row), silent),
        };
        self.reply(&Asker::Caller(inquiry.ticket), reply);
    }
}

fn kicked(id: GlobalName, who: &str, row: Option<&SessionRow>, silent: &[u32]) -> Reply {
    let Some(row) = row else {
        return Reply::Refused(match silent.first() {
            Some(pid) => format!("process {pid} does not answer; it may kick session {id} yet"),
            None => format!("no session {id}: it may have ended"),
        });
    };
    let client = row.client;
    let client = client.map_or_else(|| "a Unix client".to_owned(), |it| it.to_string());
    let line = format!("session {id} of {client} is kicked");
    info!("admin: {line}, by {who}");
    Reply::Done(line)
}
