//! Connections that wait for a request, and that their backend ends when one is just on its way.

use crate::net::{Behaviour, PeerId};
use crate::rig::{self, Rig};
use crate::{ANSWER, ask_and_answer, still};

fn text(rig: &Rig, peer: PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

/// A request, in the parts in which it comes.
type Parts = &'static [&'static [u8]];

const GET: Parts = &[b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"];
const POST: Parts = &[b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"];
const PUT_IN_PARTS: Parts = &[
    b"PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
    b"bo",
    b"dy",
];
const POST_IN_PARTS: Parts = &[
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
    b"body",
];

/// A client whose first request was answered over a connection that is parked since, and that
/// connection.
fn parked() -> (Rig, PeerId, PeerId) {
    let mut rig = still();
    let client = rig.client();
    let link = ask_and_answer(&mut rig, client);
    rig.pass(500, 500);
    (rig, client, link)
}

#[test]
fn an_end_that_has_arrived_is_never_missed() {
    // Before its client is read, before the connection is looked at, before it is written to. A
    // request that can be sent again anyhow does without the look.
    for (parts, calls_until_sent) in [(GET, 2), (POST, 3), (PUT_IN_PARTS, 3), (POST_IN_PARTS, 3)] {
        for calls in 0..calls_until_sent {
            let (mut rig, client, link) = parked();
            rig.world().after_calls(calls, move |world| {
                world.peer_close(link);
                world.settle();
            });
            for part in parts {
                rig.world().peer_send(client, part);
                rig.settle();
            }
            let at = String::from_utf8_lossy(parts[0]).into_owned();
            let [fresh] = rig.accepted(0)[..] else {
                panic!("{at} ended after {calls} calls: no other connection was made");
            };
            let asked = text(&rig, fresh);
            assert_eq!(asked.matches("/1 HTTP/1.1").count(), 1, "{at}");
            assert!(parts.len() == 1 || asked.ends_with("body"), "{asked}");
            rig.world().peer_send(fresh, ANSWER);
            rig.settle();
            let answers = text(&rig, client);
            assert_eq!(answers.matches("200 OK").count(), 2, "{at}: {answers}");
        }
    }
}

#[test]
fn what_a_backend_may_have_acted_on_is_sent_once() {
    let ends: [fn(&Rig, PeerId); 2] = [
        |rig, link| rig.world().peer_close(link),
        |rig, link| rig.world().peer_reset(link),
    ];
    for end in ends {
        let (mut rig, client, link) = parked();
        rig.world().peer_send(client, POST[0]);
        rig.settle();
        assert!(text(&rig, link).ends_with("body"));
        end(&rig, link);
        rig.settle();
        let answers = text(&rig, client);
        assert!(answers.contains("HTTP/1.1 502 "), "{answers}");
        assert_eq!(rig.accepted(0), []);
    }
}

#[test]
fn a_request_that_never_reached_a_new_connection_goes_to_another_backend() {
    let mut rig = Rig::still(&rig::config_text(&[1, 1], "mode: http"));
    let client = rig.client();
    let first = rig::origin_address(0);
    rig.world()
        .origin_listen(&first, Behaviour::AcceptThenClose);
    rig.world().peer_send(client, POST[0]);
    rig.settle();
    assert!(rig.world().written_in_vain() > 0);
    let [second] = rig.accepted(1)[..] else {
        panic!("the second backend is asked");
    };
    rig.world().peer_send(second, ANSWER);
    rig.settle();
    assert!(text(&rig, client).ends_with("\r\n\r\nok"));
}
