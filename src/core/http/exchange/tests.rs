//! The rules of an exchange as tables.

use super::*;
use crate::core::http::body::Framing;
use crate::core::http::head::Method;

const NOW: Tick = Tick(1_000);
const HEAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A request with its head written and all of its body with it, if it has one.
fn exchange(method: Method, framing: Framing, change: impl FnOnce(&mut RequestFacts)) -> Exchange {
    let mut facts = RequestFacts {
        method,
        framing,
        keep_alive: true,
        version: Version::Http11,
        ..RequestFacts::default()
    };
    change(&mut facts);
    let mut exchange = Exchange::new(facts);
    exchange.head_space().extend_from_slice(HEAD);
    exchange
}

fn get() -> Exchange {
    exchange(Method::Get, Framing::None, |_| {})
}

/// Takes it to a connection, and sends what is kept of it.
fn send(exchange: &mut Exchange, is_reused: bool) {
    exchange.on_connecting(NOW);
    exchange.on_connected(is_reused);
    let count = exchange.unsent().len();
    assert!(exchange.on_sent(count));
}

fn head(status: u16, framing: Framing) -> ResponseFacts {
    ResponseFacts {
        status,
        framing,
        reusable: true,
        ..ResponseFacts::default()
    }
}

fn respond(exchange: &mut Exchange, status: u16, framing: Framing) -> ResponseKind {
    let head = head(status, framing);
    let verdict = exchange.on_head(&head, std::iter::empty(), true);
    verdict.expect("a good response")
}

fn lost(exchange: &mut Exchange, has_tries: bool, retries: u32) -> Result<Recovery, End> {
    exchange.on_backend_lost(Allowance {
        has_tries,
        budget: &mut RetryBudget::new(0, retries),
        now: NOW,
    })
}

#[test]
fn a_request_is_sent_again_only_where_that_does_no_harm() {
    use Recovery::{GiveUp, GiveUpStale, OtherBackend, SameBackend};
    let get = Method::Get;
    let post = Method::Post;
    // Method, connection reused, bytes sent, body streamed, tries left, retries in the budget.
    let table = [
        (get, false, true, false, true, 1, OtherBackend),
        (get, false, true, false, true, 0, GiveUp),
        (get, false, true, false, false, 1, GiveUp),
        (get, false, true, true, true, 1, GiveUp),
        (post, false, true, false, true, 1, GiveUp),
        // Nothing was sent: no backend can have acted on it, and it costs no retry.
        (post, false, false, false, true, 0, OtherBackend),
        (get, false, false, false, true, 0, OtherBackend),
        // An end that had come while it was parked is nobody's fault and costs nothing.
        (get, true, true, false, false, 0, SameBackend),
        (post, true, false, false, false, 0, SameBackend),
        (post, true, true, false, true, 1, GiveUpStale),
        (get, true, true, true, true, 1, GiveUpStale),
    ];
    for (method, is_reused, has_sent, has_streamed, has_tries, retries, expected) in table {
        let mut one = exchange(method, Framing::Length(2), |_| {});
        one.on_connecting(NOW);
        one.on_connected(is_reused);
        if has_sent {
            one.on_sent(1);
        }
        if has_streamed {
            let relayed = one.on_request_body(b"x", None, &mut Vec::new());
            assert!(relayed.is_ok());
        }
        let found = lost(&mut one, has_tries, retries);
        let row = (method, is_reused, has_sent, has_streamed, has_tries);
        assert_eq!(found, Ok(expected), "{row:?}");
        assert_eq!(one.backend(), BackendState::None);
        assert_eq!(one.unsent(), HEAD, "all of it is to be sent again");
        assert_eq!(one.on_no_backend(), End::Failed(Failure::ClosedEarly));
    }
}

#[test]
fn a_response_that_has_begun_is_never_followed_by_another() {
    let mut one = get();
    send(&mut one, true);
    respond(&mut one, 200, Framing::Length(5));
    assert_eq!(lost(&mut one, true, 1), Err(End::Cut(Cut::Backend)));
    let failed = Failure::BadResponse(BadResponse::Head(HeadError::StartLine));
    assert_eq!(
        one.on_bad_response(HeadError::StartLine),
        End::Cut(Cut::Request(failed))
    );
    let idle = End::Cut(Cut::Idle(Idle::Backend));
    assert_eq!(one.on_timeout(NOW, false), Due::End(idle));
    let ending = one.end(End::Cut(Cut::Backend), true);
    assert_eq!(ending.answer, None);
}

#[test]
fn a_bad_request_body_after_an_early_response_cuts_it() {
    let mut one = exchange(Method::Post, Framing::Chunked, |_| {});
    send(&mut one, false);
    respond(&mut one, 200, Framing::Length(5));
    let found = one.on_request_body(b"nonsense", None, &mut Vec::new());
    let failed = Failure::BadRequest(BodyError::ChunkSize);
    assert_eq!(found, Err(End::Cut(Cut::Request(failed))));
    let ending = one.end(End::Cut(Cut::Request(failed)), true);
    assert_eq!(ending.reason, Some("invalid chunk size"));
}

/// A request of which the first half is sent, and its response, which is whole.
fn answered_early(framing: Framing, version: Version) -> Exchange {
    let mut one = exchange(Method::Post, framing, |facts| facts.version = version);
    send(&mut one, false);
    let framing = match version {
        Version::Http11 => Framing::Length(0),
        Version::Http10 => Framing::UntilClose,
    };
    let verdict = respond(&mut one, 202, framing);
    assert_eq!(verdict, ResponseKind::Final { keep_alive: true });
    if framing == Framing::UntilClose {
        assert_eq!(one.on_response_closed(), Ok(Tail::Nothing));
    }
    one
}

#[test]
fn a_request_goes_on_behind_its_whole_response() {
    let mut one = answered_early(Framing::Length(4), Version::Http11);
    for (body, is_held, awaited) in [
        (b"bo", false, Some(Awaited::Upload)),
        (b"dy", true, Some(Awaited::Response)),
        (b"", false, None),
    ] as [(&[u8], bool, Option<Awaited>); 3]
    {
        assert!(one.is_response_whole() && !one.take_early_end());
        assert!(one.on_request_body(body, None, &mut Vec::new()).is_ok());
        one.on_held(is_held);
        match awaited {
            Some(awaited) => {
                assert_eq!(one.natural_end(), None);
                assert_eq!(one.awaited(false), awaited);
                assert_eq!(one.awaited(true), Awaited::Taking);
            }
            None => assert_eq!(one.natural_end(), Some(End::Complete)),
        }
    }
    let ending = one.end(End::Complete, true);
    assert_eq!(ending.client, ClientFate::Next);
    assert_eq!(ending.backend, BackendFate::Park);
}

#[test]
fn a_backend_may_end_behind_its_response_or_refuse_the_rest() {
    let mut ended = answered_early(Framing::Length(2), Version::Http11);
    ended.on_surplus();
    assert_eq!(ended.natural_end(), None, "it may still read");
    assert!(ended.on_request_body(b"ok", None, &mut Vec::new()).is_ok());
    assert_eq!(ended.natural_end(), Some(End::Complete));
    let ending = ended.end(End::Complete, true);
    assert_eq!(
        (ending.client, ending.backend),
        (ClientFate::Next, BackendFate::Close)
    );

    let mut refused = answered_early(Framing::Length(2), Version::Http11);
    refused.on_refused();
    assert_eq!(refused.natural_end(), None, "it was told that it may go on");
    assert_eq!(refused.awaited(false), Awaited::DroppedBody);
    assert_eq!(refused.on_timeout(NOW, false), Due::End(End::Complete));
    assert_eq!(refused.on_client_closed(false), Break(End::Complete));
    let ending = refused.end(End::Complete, true);
    assert_eq!(ending.client, ClientFate::Close { is_done: false });
    assert_eq!(ending.backend, BackendFate::Close);
    assert!(
        refused
            .on_request_body(b"ok", None, &mut Vec::new())
            .is_ok()
    );
    assert_eq!(refused.natural_end(), Some(End::Complete));
    let ending = refused.end(End::Complete, true);
    assert_eq!(
        (ending.client, ending.backend),
        (ClientFate::Next, BackendFate::Close)
    );

    // Who was told that the connection ends has nothing to wait for.
    let mut last = exchange(Method::Post, Framing::Length(4), |facts| {
        facts.keep_alive = false;
    });
    send(&mut last, false);
    respond(&mut last, 413, Framing::Length(0));
    last.on_refused();
    assert_eq!(last.natural_end(), Some(End::Complete));
}

#[test]
fn a_client_may_end_a_request_that_is_refused_while_its_response_passes() {
    let mut one = exchange(Method::Post, Framing::Length(4), |_| {});
    send(&mut one, false);
    respond(&mut one, 413, Framing::Length(2));
    one.on_refused();
    assert_eq!(one.on_client_closed(true), Continue(()));
    assert!(one.on_response_body(b"no", &mut Vec::new()).is_ok());
    assert_eq!(one.natural_end(), Some(End::Complete));
    let ending = one.end(End::Complete, true);
    assert_eq!(ending.client, ClientFate::Close { is_done: false });
}

#[test]
fn the_rest_of_a_request_does_not_harm_a_whole_response() {
    type Fails = fn(&mut Exchange) -> End;
    let table: [(Framing, Fails, Why); 5] = [
        (
            Framing::Chunked,
            |one| {
                let found = one.on_request_body(b"nonsense", None, &mut Vec::new());
                found.expect_err("a bad chunk")
            },
            Why::Refused,
        ),
        (
            Framing::Length(4),
            |one| {
                let found = one.on_request_body(b"body", Some(3), &mut Vec::new());
                found.expect_err("too long")
            },
            Why::Refused,
        ),
        (
            Framing::Length(4),
            |one| {
                let due = one.on_timeout(NOW, false);
                assert_eq!(due, Due::End(End::Answered(Why::UploadTimeout, None)));
                End::Answered(Why::UploadTimeout, None)
            },
            Why::UploadTimeout,
        ),
        (
            Framing::Length(4),
            |one| {
                // Its backend takes nothing of what has come.
                one.on_held(true);
                let due = one.on_timeout(NOW, false);
                assert_eq!(due, Due::End(End::Answered(Why::ResponseTimeout, None)));
                End::Answered(Why::ResponseTimeout, None)
            },
            Why::ResponseTimeout,
        ),
        (
            Framing::Length(4),
            |one| {
                one.on_client_closed(false)
                    .break_value()
                    .expect("it is cut")
            },
            Why::ClientLeftInRequest,
        ),
    ];
    for (framing, fails, why) in table {
        let mut one = answered_early(framing, Version::Http11);
        let end = fails(&mut one);
        assert!(
            matches!(end, End::Answered(found, _) if found == why),
            "{end:?}"
        );
        let ending = one.end(end, true);
        assert_eq!((ending.why, ending.answer), (why, None));
        assert_eq!(ending.client, ClientFate::Close { is_done: false });
        assert_eq!(ending.backend, BackendFate::Close);
    }
}

#[test]
fn an_end_that_only_closing_shows_does_not_wait_for_the_request() {
    let mut one = answered_early(Framing::Length(4), Version::Http10);
    assert_eq!(one.natural_end(), None);
    assert!(one.take_early_end());
    assert!(!one.take_early_end(), "it is told once");
}

#[test]
fn a_body_that_was_not_asked_for_may_come_or_not() {
    let answered = || {
        let mut one = expecting();
        let verdict = respond(&mut one, 401, Framing::None);
        assert_eq!(verdict, ResponseKind::Final { keep_alive: false });
        assert!(one.take_early_end());
        assert_eq!(one.awaited(false), Awaited::UnaskedBody);
        // It has its time to take the answer first.
        assert_eq!(one.awaited(true), Awaited::Taking);
        one
    };
    let silent = answered().on_timeout(NOW, false);
    assert_eq!(silent, Due::End(End::Complete));
    assert_eq!(answered().on_client_closed(false), Break(End::Complete));
    let ending = answered().end(End::Complete, true);
    assert_eq!(ending.client, ClientFate::Close { is_done: true });
    assert_eq!(ending.backend, BackendFate::Close);

    let mut came = answered();
    assert!(came.on_request_body(b"abc", None, &mut Vec::new()).is_ok());
    assert_eq!(came.natural_end(), Some(End::Complete));

    // Who was told 100 sends it.
    for told in [Some(100), None] {
        let mut one = expecting();
        match told {
            Some(status) => assert_eq!(
                respond(&mut one, status, Framing::None),
                ResponseKind::Interim
            ),
            None => assert_eq!(one.on_timeout(Tick(u64::MAX), false), Due::Continue),
        }
        let verdict = respond(&mut one, 202, Framing::None);
        assert_eq!(verdict, ResponseKind::Final { keep_alive: true });
        assert_eq!(one.awaited(false), Awaited::Upload);
    }
}

#[test]
fn every_failure_has_its_status_and_its_code() {
    let table = [
        (Failure::NoBackend, 503, "NB"),
        (Failure::NoDescriptor, 503, "NB"),
        (Failure::Connect, 502, "SC"),
        (Failure::ConnectTimeout, 504, "sC"),
        (Failure::ClosedEarly, 502, "SH"),
        (Failure::ResponseTimeout, 504, "sH"),
        (Failure::BadResponse(BadResponse::SwitchEarly), 502, "PH"),
        (Failure::RequestTimeout, 408, "cU"),
        (Failure::BadRequest(BodyError::Trailer), 400, "PR"),
        (Failure::TooLarge, 413, "PR"),
    ];
    for (failure, status, code) in table {
        let mut one = get();
        send(&mut one, false);
        let ending = one.end(End::Failed(failure), true);
        assert_eq!(ending.answer, Some(status));
        assert_eq!(ending.why.code(), code);
        assert_eq!(ending.client, ClientFate::Next);
        assert_eq!(ending.backend, BackendFate::Reset);
    }
}

#[test]
fn the_latest_reason_is_told_when_no_backend_is_left() {
    let mut one = get();
    assert_eq!(one.on_no_backend(), End::Failed(Failure::NoBackend));
    one.on_connecting(NOW);
    one.on_connect_failed(true);
    assert_eq!(one.on_no_backend(), End::Failed(Failure::ConnectTimeout));
    one.on_connecting(NOW);
    one.on_connect_failed(false);
    assert_eq!(one.on_no_backend(), End::Failed(Failure::Connect));
}

#[test]
fn interim_responses_pass_to_clients_that_know_them() {
    for (version, status, expected) in [
        (Version::Http11, 100, ResponseKind::Interim),
        (Version::Http11, 103, ResponseKind::Interim),
        (Version::Http10, 100, ResponseKind::Dropped),
        (Version::Http10, 103, ResponseKind::Dropped),
    ] {
        let mut one = exchange(Method::Get, Framing::None, |facts| facts.version = version);
        send(&mut one, false);
        for _ in 0..3 {
            assert_eq!(respond(&mut one, status, Framing::None), expected);
        }
        assert!(!one.has_response());
        assert_eq!(
            respond(&mut one, 200, Framing::None),
            ResponseKind::Final { keep_alive: true }
        );
    }
}

fn expecting() -> Exchange {
    let mut one = exchange(Method::Post, Framing::Length(3), |facts| {
        facts.expect = Expect::Continue;
    });
    let taken = one.on_request(b"", NOW);
    assert_eq!(taken, Ok(0));
    send(&mut one, false);
    one
}

#[test]
fn weirs_own_100_is_due_once_and_only_while_it_is_of_use() {
    let due = NOW.after_ms(CONTINUE_AFTER_MS);
    assert_eq!(expecting().continue_at(), Some(due));

    let mut said = expecting();
    assert_eq!(said.on_timeout(due, false), Due::Continue);
    assert_eq!(said.continue_at(), None);
    assert_eq!(
        respond(&mut said, 100, Framing::None),
        ResponseKind::Dropped
    );
    assert_eq!(
        respond(&mut said, 103, Framing::None),
        ResponseKind::Interim
    );
    let idle = End::Failed(Failure::RequestTimeout);
    assert_eq!(said.on_timeout(due, false), Due::End(idle));

    let mut told = expecting();
    assert_eq!(
        respond(&mut told, 100, Framing::None),
        ResponseKind::Interim
    );
    assert_eq!(told.continue_at(), None);

    let mut came = expecting();
    let relayed = came.on_request_body(b"abc", None, &mut Vec::new());
    assert!(relayed.is_ok());
    assert_eq!(came.continue_at(), None);

    let mut answered = expecting();
    respond(&mut answered, 417, Framing::None);
    assert_eq!(answered.continue_at(), None);

    let mut whole = exchange(Method::Post, Framing::Length(3), |facts| {
        facts.expect = Expect::Continue;
    });
    assert_eq!(whole.on_request(b"abc", NOW), Ok(3));
    assert_eq!(whole.continue_at(), None, "nobody waits for it");
}

#[test]
fn protocols_change_only_as_offered_and_after_the_whole_request() {
    use BadResponse::{
        SwitchEarly, SwitchNotOffered, SwitchUnasked, SwitchWithoutConnection, SwitchWithoutUpgrade,
    };
    let switch = ResponseFacts {
        upgrade: true,
        ..head(101, Framing::None)
    };
    // Offers, whether the request asks, what is chosen, what of the body has left.
    let table = [
        ("websocket", true, "websocket", 2, None),
        ("h2c, WebSocket", true, "websocket", 2, None),
        ("websocket", true, "h2c", 2, Some(SwitchNotOffered)),
        (
            "websocket",
            true,
            "websocket, h2c",
            2,
            Some(SwitchNotOffered),
        ),
        ("", true, "websocket", 2, Some(SwitchNotOffered)),
        ("websocket", false, "websocket", 2, Some(SwitchUnasked)),
        ("websocket", true, "websocket", 1, Some(SwitchEarly)),
        ("websocket", true, "websocket", 0, Some(SwitchEarly)),
    ];
    for (offers, asks, chosen, has_left, expected) in table {
        let mut one = exchange(Method::Get, Framing::Length(4), |facts| {
            facts.upgrade = asks;
        });
        one.on_offers([offers.as_bytes()].into_iter());
        send(&mut one, false);
        if has_left > 0 {
            let relayed = one.on_request_body(b"body", None, &mut Vec::new());
            assert!(relayed.is_ok());
            one.on_held(has_left == 1);
        }
        let found = one.on_head(&switch, [chosen.as_bytes()].into_iter(), true);
        let row = (offers, asks, chosen, has_left);
        if expected.is_none() {
            assert!(found.is_ok(), "{row:?}");
            assert_eq!(one.natural_end(), Some(End::Switched));
            let ending = one.end(End::Switched, true);
            assert_eq!(ending.client, ClientFate::Switch);
            assert_eq!(ending.backend, BackendFate::Switch);
        } else {
            let failed = expected.map(|why| End::Failed(Failure::BadResponse(why)));
            assert_eq!(found.err(), failed, "{row:?}");
        }
    }
    for (protocols, why) in [
        (&[b"websocket".as_slice()][..], SwitchWithoutConnection),
        (&[], SwitchWithoutUpgrade),
    ] {
        let mut one = exchange(Method::Get, Framing::None, |facts| facts.upgrade = true);
        one.on_offers([b"websocket".as_slice()].into_iter());
        send(&mut one, false);
        let bare = head(101, Framing::None);
        let found = one.on_head(&bare, protocols.iter().copied(), true);
        assert_eq!(found, Err(End::Failed(Failure::BadResponse(why))));
    }
}

#[test]
fn connections_are_kept_where_nothing_speaks_against_it() {
    struct Row {
        keep_alive: bool,
        version: Version,
        may_go_on: bool,
        is_early: bool,
        framing: Framing,
        reusable: bool,
        surplus: &'static [u8],
        client: ClientFate,
        backend: BackendFate,
    }
    let good = || Row {
        keep_alive: true,
        version: Version::Http11,
        may_go_on: true,
        is_early: false,
        framing: Framing::Length(2),
        reusable: true,
        surplus: b"",
        client: ClientFate::Next,
        backend: BackendFate::Park,
    };
    let close = |is_done| ClientFate::Close { is_done };
    let table = [
        good(),
        Row {
            keep_alive: false,
            client: close(true),
            ..good()
        },
        Row {
            may_go_on: false,
            client: close(false),
            ..good()
        },
        Row {
            is_early: true,
            ..good()
        },
        Row {
            is_early: true,
            reusable: false,
            backend: BackendFate::Close,
            ..good()
        },
        Row {
            is_early: true,
            keep_alive: false,
            client: close(true),
            ..good()
        },
        Row {
            reusable: false,
            backend: BackendFate::Close,
            ..good()
        },
        Row {
            surplus: b"HTTP/1.1",
            backend: BackendFate::Close,
            ..good()
        },
        Row {
            framing: Framing::Chunked,
            ..good()
        },
        Row {
            framing: Framing::Chunked,
            version: Version::Http10,
            client: close(false),
            ..good()
        },
    ];
    for (n, row) in table.into_iter().enumerate() {
        let mut one = exchange(Method::Post, Framing::Length(4), |facts| {
            facts.keep_alive = row.keep_alive;
            facts.version = row.version;
        });
        let body: &[u8] = if row.is_early { b"bo" } else { b"body" };
        assert_eq!(one.on_request(body, NOW), Ok(body.len()));
        send(&mut one, false);
        let facts = ResponseFacts {
            reusable: row.reusable,
            ..head(200, row.framing)
        };
        let verdict = one.on_head(&facts, std::iter::empty(), row.may_go_on);
        assert!(verdict.is_ok());
        let body: &[u8] = match row.framing {
            Framing::Chunked => b"2\r\nok\r\n0\r\n\r\n",
            Framing::None | Framing::Length(_) | Framing::UntilClose => b"ok",
        };
        let passed = one.on_response_body(&[body, row.surplus].concat(), &mut Vec::new());
        assert_eq!(passed.expect("a good body").consumed, body.len());
        if row.is_early {
            assert_eq!(one.natural_end(), None, "row {n}");
            assert!(one.on_request_body(b"dy", None, &mut Vec::new()).is_ok());
        }
        assert_eq!(one.natural_end(), Some(End::Complete));
        let ending = one.end(End::Complete, row.may_go_on);
        assert_eq!(ending.client, row.client, "row {n}");
        assert_eq!(ending.backend, row.backend, "row {n}");
        assert_eq!(ending.answer, None);
    }
}

#[test]
fn a_body_cut_short_is_shown_by_framing_or_by_reset() {
    let old = Version::Http10;
    let new = Version::Http11;
    let reset = ClientFate::CutByReset(Cut::Idle(Idle::Backend));
    for (version, framing, expected) in [
        (new, Framing::Length(9), ClientFate::CutByFraming),
        (new, Framing::Chunked, ClientFate::CutByFraming),
        (new, Framing::UntilClose, ClientFate::CutByFraming),
        (old, Framing::Length(9), ClientFate::CutByFraming),
        (old, Framing::Chunked, reset),
        (old, Framing::UntilClose, reset),
    ] {
        let mut one = exchange(Method::Get, Framing::None, |facts| facts.version = version);
        send(&mut one, false);
        respond(&mut one, 200, framing);
        let ending = one.end(End::Cut(Cut::Idle(Idle::Backend)), true);
        assert_eq!(ending.client, expected, "{version:?} {framing:?}");
        assert_eq!(ending.backend, BackendFate::Close);
    }
}

#[test]
fn only_a_body_until_close_may_end_with_the_connection() {
    for (version, framing, expected) in [
        (
            Version::Http11,
            Framing::Length(9),
            Err(End::Cut(Cut::Backend)),
        ),
        (
            Version::Http11,
            Framing::Chunked,
            Err(End::Cut(Cut::Backend)),
        ),
        (Version::Http11, Framing::UntilClose, Ok(Tail::LastChunk)),
        (Version::Http10, Framing::UntilClose, Ok(Tail::Nothing)),
    ] {
        let mut one = exchange(Method::Get, Framing::None, |facts| facts.version = version);
        send(&mut one, false);
        respond(&mut one, 200, framing);
        assert_eq!(one.on_response_closed(), expected);
        if expected.is_ok() {
            assert_eq!(one.natural_end(), Some(End::Complete));
            assert_eq!(one.end(End::Complete, true).backend, BackendFate::Close);
        }
    }
}

#[test]
fn what_is_awaited_follows_the_request() {
    let mut one = exchange(Method::Post, Framing::Length(2), |_| {});
    one.on_queued(Tick(4));
    assert_eq!(one.awaited(false), Awaited::Turn(Tick(4)));
    one.on_dequeued();
    one.on_waiting(Tick(5));
    one.on_waiting(Tick(6));
    assert_eq!(one.awaited(false), Awaited::Connection(Tick(5)));
    let no_descriptor = End::Failed(Failure::NoDescriptor);
    assert_eq!(one.on_timeout(NOW, false), Due::End(no_descriptor));
    one.on_connecting(Tick(7));
    assert_eq!(one.awaited(false), Awaited::Connection(Tick(7)));
    assert_eq!(one.on_timeout(NOW, false), Due::ConnectFailed);
    one.on_connected(false);
    one.head_space().extend_from_slice(b"head");
    // The backend takes nothing of what is there already.
    assert_eq!(one.awaited(false), Awaited::Response);
    let head_bytes = one.unsent().len();
    assert!(one.on_sent(head_bytes));
    assert_eq!(one.awaited(false), Awaited::Upload);
    let of_client = End::Failed(Failure::RequestTimeout);
    assert_eq!(one.on_timeout(NOW, false), Due::End(of_client));
    let relayed = one.on_request_body(b"ok", None, &mut Vec::new());
    assert!(relayed.is_ok());
    one.on_held(true);
    assert_eq!(one.awaited(false), Awaited::Response);
    let of_backend = End::Failed(Failure::ResponseTimeout);
    assert_eq!(one.on_timeout(NOW, false), Due::End(of_backend));
    one.on_held(false);
    assert!(one.is_sent());
    assert_eq!(one.awaited(false), Awaited::Response);
    respond(&mut one, 200, Framing::Length(1));
    assert_eq!(one.awaited(false), Awaited::ResponseBody);
}

#[test]
fn where_both_directions_stand_still_it_is_settled_who_is_to_blame() {
    let begun = || {
        let mut one = exchange(Method::Post, Framing::Length(2), |_| {});
        send(&mut one, false);
        one
    };
    let mut one = begun();
    respond(&mut one, 200, Framing::Length(1));
    // The client may be waiting for the response, and the backend for the request.
    assert_eq!(one.awaited(false), Awaited::ResponseBody);
    let of_backend = End::Cut(Cut::Idle(Idle::Backend));
    assert_eq!(one.on_timeout(NOW, false), Due::End(of_backend));
    // What the client does not take is not read from the backend, which can do nothing about it.
    assert_eq!(one.awaited(true), Awaited::Taking);
    let of_client = End::Cut(Cut::Idle(Idle::Client));
    assert_eq!(one.on_timeout(NOW, true), Due::End(of_client));
    let mut refused = begun();
    refused.on_refused();
    assert_eq!(refused.awaited(false), Awaited::Response);
}

#[test]
fn a_turn_that_does_not_come_in_time_leads_to_another_backend() {
    let mut one = get();
    one.on_queued(Tick(4));
    assert_eq!(one.on_timeout(NOW, false), Due::OtherBackend);
    assert_eq!(one.backend(), BackendState::None);
    let end = one.on_no_backend();
    assert_eq!(end, End::Failed(Failure::QueueTimeout));
    let ending = one.end(end, true);
    assert_eq!((ending.why, ending.answer), (Why::QueueTimeout, Some(503)));
    one.on_connecting(Tick(5));
    one.on_connect_failed(false);
    assert_eq!(one.on_no_backend(), End::Failed(Failure::Connect));
}

#[test]
fn a_refused_request_was_not_sent() {
    let mut one = exchange(Method::Post, Framing::Length(2), |_| {});
    send(&mut one, false);
    let relayed = one.on_request_body(b"ok", None, &mut Vec::new());
    assert!(relayed.is_ok());
    one.on_held(true);
    one.on_refused();
    assert!(!one.is_sent());
    respond(&mut one, 413, Framing::Length(0));
    assert_eq!(one.end(End::Complete, true).backend, BackendFate::Close);
}

#[test]
fn a_client_that_has_ended_may_still_listen() {
    let ask = |keep_alive, framing| {
        exchange(Method::Post, framing, |facts| facts.keep_alive = keep_alive)
    };
    for keep_alive in [true, false] {
        let mut whole = ask(keep_alive, Framing::None);
        assert_eq!(whole.on_client_closed(false), Continue(()));
        assert_eq!(whole.on_client_closed(true), Break(End::ClientLeft));
        let ending = whole.end(End::ClientLeft, true);
        assert_eq!(ending.why, Why::ClientLeftInData);
        assert_eq!(ending.client, ClientFate::Left);
        let reset = whole.end(End::ClientGone, true);
        assert_eq!((reset.client, reset.why), (ClientFate::Gone, ending.why));
        send(&mut whole, false);
        respond(&mut whole, 200, Framing::Length(1));
        assert_eq!(
            whole.on_client_closed(true),
            Continue(()),
            "the work is done"
        );

        let mut cut = ask(keep_alive, Framing::Length(2));
        assert_eq!(cut.on_client_closed(false), Break(End::ClientLeft));
        let ending = cut.end(End::ClientLeft, true);
        assert_eq!(ending.why, Why::ClientLeftInRequest);
        send(&mut cut, false);
        respond(&mut cut, 200, Framing::Length(1));
        assert_eq!(cut.on_client_closed(false), Break(End::ClientLeft));
        assert_eq!(cut.end(End::ClientLeft, true).client, ClientFate::Gone);
    }
}

#[test]
fn a_body_over_its_limit_is_too_large() {
    let mut one = exchange(Method::Post, Framing::Length(4), |_| {});
    send(&mut one, false);
    let out = &mut Vec::new();
    assert!(one.on_request_body(b"ab", Some(3), out).is_ok());
    let found = one.on_request_body(b"cd", Some(3), out);
    assert_eq!(found, Err(End::Failed(Failure::TooLarge)));
}

#[test]
fn a_place_taken_again_remembers_nothing() {
    let mut one = exchange(Method::Post, Framing::Length(2), |facts| {
        facts.upgrade = true;
    });
    one.on_offers([&b"x"[..]].into_iter());
    send(&mut one, true);
    respond(&mut one, 200, Framing::Length(0));
    let facts = *get().facts();
    one = one.next(facts);
    assert_eq!(format!("{one:?}"), format!("{:?}", Exchange::new(facts)));
}
