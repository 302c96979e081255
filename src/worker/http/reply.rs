//! Answers of weir's own: errors, fixed responses, redirects.

use std::sync::Arc;

use crate::config::model::{ErrorPage, HttpsRedirect};
use crate::core::access_log::Why;
use crate::core::http::body::{Body, Framing};
use crate::core::http::forwarded::{self, Scheme};
use crate::core::http::head::{Expect, RequestFacts};
use crate::core::http::https::write_https_uri;
use crate::core::http::path::Canonical;
use crate::core::http::reply::{
    self, Page, Reply, ReplyTo, write_error, write_redirect, write_reply,
};
use crate::core::http::rewrite::FieldEdits;
use crate::net::Net;
use crate::worker::http::client::ClientPhase;
use crate::worker::http::drop::DROP_MS;
use crate::worker::http::output::Sent;
use crate::worker::http::parts::{Next, Parts};
use crate::worker::http::received::{OwnAnswer, Request};
use crate::worker::keys::UpstreamSlot;
use crate::worker::listeners::ListenerTable;
use crate::worker::shared::Shared;
use crate::worker::site::{Fixed, Site};
use crate::worker::turn::Turn;

/// What 503 says about when to come back, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// Longest rest of a body that is read and dropped so that the connection can go on, in bytes.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Longest value that a placeholder of a fixed response stands for, in bytes.
const PLACEHOLDER_BYTES_MAX: usize = 4096;

impl<N: Net> Parts<'_, N> {
    /// Answers an error to a request whose head is whole.
    pub(super) fn answer_error(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        route: Option<usize>,
        request: Request<'_>,
        (status, reason): (u16, Option<&'static str>),
    ) -> Next {
        let own = self.begin_answer(shared, site, route, request);
        let facts = request.head.facts;
        let sent = self.send_error(shared, site, None, Some(&facts), status, own.keep);
        let why = match status {
            404 => Why::NoRoute,
            _ => Why::Refused,
        };
        self.finish_answer(shared, &own, sent, (status, (why, reason)))
    }

    /// The path has routes, but none for this method.
    pub(super) fn answer_not_allowed(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        request: Request<'_>,
        path: &[u8],
    ) -> Next {
        let mut allow = Vec::new();
        site.table.write_allow(request.host(), path, &mut allow);
        let mut edits = FieldEdits::none();
        // Methods are tokens, so they can stand in a field.
        let _ = edits.add(b"Allow", &allow);
        let _ = edits.add(b"Cache-Control", b"no-store");
        let page = find_page(&site.error_pages, 405);
        let answer = Reply {
            status: 405,
            content_type: page.map_or(reply::TEXT, |page| page.content_type.as_bytes()),
            body: page.map_or(b"405 Method Not Allowed\n", |page| &page.body),
            edits: &edits,
        };
        let own = self.begin_answer(shared, site, None, request);
        let why = (Why::Refused, Some("the routes do not take the method"));
        self.answer(shared, &own, &answer, why)
    }

    /// The request may go no further (RFC 9110 section 7.6.2): weir says what it can do itself.
    pub(super) fn answer_options(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        request: Request<'_>,
    ) -> Next {
        let mut edits = FieldEdits::none();
        let _ = edits.add(b"Allow", reply::ALLOWED_METHODS);
        let answer = Reply {
            status: 200,
            content_type: reply::TEXT,
            body: b"",
            edits: &edits,
        };
        let own = self.begin_answer(shared, site, None, request);
        self.answer(shared, &own, &answer, (Why::Ok, None))
    }

    /// Tells whether weir is ready, as its admin door does. Who asks is no client, and is neither
    /// counted nor logged.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_monitor(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        request: Request<'_>,
    ) -> Next {
        let (status, body): (_, &[u8]) = if shared.listeners.are_ending() {
            (503, b"not ready: ending\n")
        } else if !shared.board.is_first_round_over(shared.timers.now) {
            (503, b"not ready: checking\n")
        } else {
            (200, b"ready\n")
        };
        let mut edits = FieldEdits::none();
        let _ = edits.add(b"Cache-Control", b"no-store");
        let answer = Reply {
            status,
            content_type: reply::TEXT,
            body,
            edits: &edits,
        };
        let own = self.begin_answer(shared, site, None, request);
        let sent = self.write_answer(shared, &own, &answer);
        self.go_on_after(shared, &own, sent)
    }

    /// Answers with what the configuration says.
    pub(super) fn answer_fixed(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        route: usize,
        request: Request<'_>,
        path: Canonical<'_>,
        fixed: &Fixed,
    ) -> Next {
        let mut body = std::mem::take(&mut shared.io.scratch_text);
        body.clear();
        self.fill_in(shared, site, request, path, &fixed.body, &mut body);
        let answer = Reply {
            status: fixed.status,
            content_type: reply::TEXT,
            body: &body,
            edits: &fixed.edits,
        };
        let own = self.begin_answer(shared, site, Some(route), request);
        let next = self.answer(shared, &own, &answer, (Why::Ok, None));
        shared.io.scratch_text = body;
        next
    }

    fn answer(
        &mut self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        answer: &Reply<'_>,
        why: (Why, Option<&'static str>),
    ) -> Next {
        let sent = self.write_answer(shared, own, answer);
        self.finish_answer(shared, own, sent, (answer.status, why))
    }

    fn write_answer(
        &mut self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        answer: &Reply<'_>,
    ) -> Result<Sent, Turn> {
        let date = shared.date();
        let to = ReplyTo {
            hsts: own.site.hsts(self.client.is_secure()),
            ..ReplyTo::request(&own.request.head.facts, own.keep, &date)
        };
        self.write_out(shared, |out| write_reply(answer, &to, out))
    }

    /// Sends the client elsewhere.
    pub(super) fn answer_redirect(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        route: usize,
        request: Request<'_>,
        path: Canonical<'_>,
        (status, location): (u16, &str),
    ) -> Next {
        let own = self.begin_answer(shared, site, Some(route), request);
        let mut value = Vec::new();
        self.fill_in(shared, site, request, path, location, &mut value);
        self.redirect(shared, &own, status, &value)
    }

    /// Sends the client to the same place over https, where it can be named.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_to_https(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        route: usize,
        request: Request<'_>,
        path: Canonical<'_>,
        redirect: HttpsRedirect,
    ) -> Next {
        if path.path == b"*" {
            return self.answer_options(shared, site, request);
        }
        // It would be sent here again.
        if self.source_of(&shared.listeners, site, request).scheme == Scheme::Https {
            return self.answer_error(shared, site, None, request, (404, None));
        }
        let mut uri = Vec::new();
        let host = request.head.host(request.bytes);
        if !write_https_uri(host, redirect.port, path, &mut uri) {
            let refusal = (400, Some("a Host that no redirect can name"));
            return self.answer_error(shared, site, Some(route), request, refusal);
        }
        let own = self.begin_answer(shared, site, Some(route), request);
        self.redirect(shared, &own, redirect.status, &uri)
    }

    fn redirect(
        &mut self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        status: u16,
        location: &[u8],
    ) -> Next {
        let date = shared.date();
        let to = ReplyTo {
            hsts: own.site.hsts(self.client.is_secure()),
            ..ReplyTo::request(&own.request.head.facts, own.keep, &date)
        };
        let sent = self.write_out(shared, |out| write_redirect(status, location, &to, out));
        self.finish_answer(shared, own, sent, (status, (Why::Ok, None)))
    }

    /// Refuses what came in the place of a head; the connection ends.
    pub(super) fn refuse_head(
        &mut self,
        shared: &mut Shared<N>,
        (status, reason): (u16, Option<&'static str>),
    ) -> Next {
        let site = self.site(&shared.listeners);
        let sent = self.send_error(shared, &site, None, None, status, false);
        shared.count_code(self.facts.listener, status);
        self.log_refused(shared, (status, reason), sent.unwrap_or_default());
        match sent {
            Ok(_) => self.close_after_answer(shared, false),
            Err(turn) => Next::Turn(turn),
        }
    }

    /// Sends an error, with the page of the upstream or else of the site, to a request with these
    /// facts; without them the head was not read. How many bytes that was.
    pub(super) fn send_error(
        &mut self,
        shared: &mut Shared<N>,
        site: &Site,
        upstream: Option<UpstreamSlot>,
        facts: Option<&RequestFacts>,
        status: u16,
        keep: bool,
    ) -> Result<Sent, Turn> {
        let date = shared.date();
        let to = match facts {
            Some(facts) => ReplyTo::request(facts, keep, &date),
            None => ReplyTo::unread(&date),
        };
        let to = ReplyTo {
            hsts: site.hsts(self.client.is_secure()),
            ..to
        };
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        let own = upstream.and_then(|slot| {
            let pages = &shared.upstreams[slot].settings.error_pages;
            find_page(pages, status)
        });
        let page = own.or_else(|| find_page(&site.error_pages, status));
        let page = page.map(|page| Page {
            content_type: page.content_type.as_bytes(),
            body: &page.body,
        });
        write_error(status, RETRY_AFTER_S, page, &to, &mut out);
        self.send_out(shared, out)
    }

    /// Sends what `write` writes, and says how many bytes that was.
    fn write_out(
        &mut self,
        shared: &mut Shared<N>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, Turn> {
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        write(&mut out);
        self.send_out(shared, out)
    }

    /// Sends what was written into the space for it, and keeps the space.
    fn send_out(&mut self, shared: &mut Shared<N>, out: Vec<u8>) -> Result<Sent, Turn> {
        let sent = self.send(shared, &out, &[]);
        let head_bytes = match &shared.http.log {
            Some(_) => head_bytes(&out),
            None => 0,
        };
        let bytes = out.len() as u64;
        shared.http.out = out;
        sent.map(|()| Sent { bytes, head_bytes })
    }

    /// Whether the connection can go on after an answer of weir's own: only if the body of the
    /// request is here already, or its rest is short. What follows it is kept.
    fn may_keep(&mut self, shared: &mut Shared<N>, site: &Site, request: Request<'_>) -> bool {
        let facts = request.head.facts;
        let rest = request.rest();
        let mut body = Body::new(facts.framing, true);
        let Ok(taken) = body.gather(rest, &mut Vec::new()) else {
            return false;
        };
        let is_kept = self.keep_ahead(&mut shared.io, &rest[taken..]).is_ok();
        self.http.phase = ClientPhase::Idle(shared.timers.now);
        let may_go_on = is_kept && self.may_go_on(site, &shared.listeners);
        if body.is_done() {
            return may_go_on;
        }
        // A client that waits for 100 will not send the body now.
        let left = body.opaque_bytes();
        let is_short = matches!(facts.framing, Framing::Length(_)) && left <= DISCARD_BYTES_MAX;
        if may_go_on && is_short && facts.expect == Expect::Nothing && facts.keep_alive {
            self.http.phase = ClientPhase::Discard(shared.timers.now.after_ms(DROP_MS), left);
            return true;
        }
        false
    }

    /// What is settled about an answer of weir's own before it is written.
    fn begin_answer<'a>(
        &mut self,
        shared: &mut Shared<N>,
        site: &'a Arc<Site>,
        route: Option<usize>,
        request: Request<'a>,
    ) -> OwnAnswer<'a> {
        OwnAnswer {
            request,
            site,
            route,
            began: self.http.phase.began(shared.timers.moment),
            keep: self.may_keep(shared, site, request),
        }
    }

    /// An answer of weir's own is out, or could not be sent.
    fn finish_answer(
        &mut self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        sent: Result<Sent, Turn>,
        (status, why): (u16, (Why, Option<&'static str>)),
    ) -> Next {
        shared.count_code(self.facts.listener, status);
        if let Some(route) = own.route {
            shared.count_route(self.facts.listener, own.site, route, status);
        }
        self.log_own(shared, own, (status, sent.unwrap_or_default()), why);
        self.go_on_after(shared, own, sent)
    }

    fn go_on_after(
        &mut self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        sent: Result<Sent, Turn>,
    ) -> Next {
        let facts = own.request.head.facts;
        match sent {
            Err(turn) => Next::Turn(turn),
            Ok(_) if own.keep && facts.keep_alive => Next::Step,
            Ok(_) => self.close_after_answer(shared, own.keep && !facts.keep_alive),
        }
    }

    /// Writes `text` with facts of the request in the place of `{listener}`, `{method}`,
    /// `{path}` (canonical, with query), `{host}`, `{client}` and `{header:NAME}`. Anything else in
    /// braces stays as it is.
    fn fill_in(
        &self,
        shared: &Shared<N>,
        site: &Site,
        request: Request<'_>,
        path: Canonical<'_>,
        text: &str,
        out: &mut Vec<u8>,
    ) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out.extend_from_slice(before.as_bytes());
            let Some((name, tail)) = after.split_once('}') else {
                out.push(b'{');
                rest = after;
                continue;
            };
            if self.write_fact(&shared.listeners, site, request, path, name, out) {
                rest = tail;
            } else {
                out.push(b'{');
                rest = after;
            }
        }
        out.extend_from_slice(rest.as_bytes());
    }

    fn write_fact(
        &self,
        listeners: &ListenerTable<N>,
        site: &Site,
        request: Request<'_>,
        path: Canonical<'_>,
        name: &str,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let Request { head, bytes, .. } = request;
        match name {
            "listener" => {
                let listener = &listeners[self.facts.listener];
                out.extend_from_slice(listener.name.as_bytes());
            }
            "method" => out.extend_from_slice(head.method(bytes)),
            "path" => {
                out.extend_from_slice(path.path);
                if let Some(query) = path.query {
                    out.push(b'?');
                    out.extend_from_slice(query);
                }
            }
            "host" => out.extend_from_slice(head.host(bytes)),
            "client" => {
                forwarded::write_address(self.client_of(site, request), out);
            }
            _ => {
                let Some(field) = name.strip_prefix("header:") else {
                    return false;
                };
                let value = head.fields.find(field.as_bytes(), bytes);
                out.extend_from_slice(value.unwrap_or(b"-"));
            }
        }
        out.truncate(start + PLACEHOLDER_BYTES_MAX.min(out.len() - start));
        true
    }
}

/// How much of an answer is its head.
fn head_bytes(answer: &[u8]) -> u64 {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    end.map_or(0, |end| end as u64 + 4)
}

fn find_page(pages: &[ErrorPage], status: u16) -> Option<&ErrorPage> {
    pages.iter().find(|page| page.status == status)
}
