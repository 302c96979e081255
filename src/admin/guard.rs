//! Who may look, and who may act.
//!
//! At the Unix socket the kernel tells the user, and the mode of the socket has let it in. Over
//! TCP, anyone on the host may connect, and every page that a browser shows can make it send
//! requests there: so acting takes the token, and what comes from another page is refused. A page
//! may also have its own name lead to this host (DNS rebinding): so where one may look without the
//! token, the name that is asked for has to be one that leads here everywhere.

use std::net::IpAddr;

use crate::admin::request::Request;
use crate::core::http::route::host_name;
use crate::sys::door::Peer;

/// Who calls, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    /// The user of this process.
    pub(crate) own_user: u32,
}

/// The rules of a door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What callers over TCP show to act.
    pub(crate) token: Option<Vec<u8>>,
    /// Whether callers over TCP may look without it.
    pub(crate) reads_are_open: bool,
    /// Whether only this host can connect over TCP.
    pub(crate) is_loopback: bool,
}

/// Why somebody is turned away: a status and a sentence.
pub(crate) type Denial = (u16, &'static str);

const NO_TOKEN: Denial = (
    403,
    "actions over TCP need `token_file` in the configuration; use the Unix socket",
);
const WRONG_TOKEN: Denial = (401, "this needs `Authorization: Bearer TOKEN`");
const OTHER_PAGE: Denial = (403, "requests of other pages are not taken");
const OTHER_HOST: Denial = (
    421,
    "the Host of a request is to be 127.0.0.1, [::1] or localhost here, or to come with the token",
);
const OTHER_USER: Denial = (403, "only root and the user that weir runs as may act");

impl Rules {
    /// Who asks, in words for the log, if it may.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        request: &Request,
        acts: bool,
    ) -> Result<String, Denial> {
        match caller.peer {
            Peer::User(user) if acts && user != 0 && user != caller.own_user => Err(OTHER_USER),
            Peer::User(user) => Ok(format!("user {user}")),
            Peer::Address(address) => {
                if self.is_loopback && !self.is_for_us(request) {
                    return Err(OTHER_HOST);
                }
                if acts && is_from_elsewhere(request) {
                    return Err(OTHER_PAGE);
                }
                let needs_token = acts || !self.reads_are_open;
                match (&self.token, needs_token) {
                    (_, false) => Ok(format!("{}", address.ip())),
                    (None, true) => Err(NO_TOKEN),
                    (Some(_), true) => match self.is_shown_by(request) {
                        true => Ok(format!("token from {}", address.ip())),
                        false => Err(WRONG_TOKEN),
                    },
                }
            }
        }
    }
}

impl Rules {
    /// Whether a request comes with the token.
    fn is_shown_by(&self, request: &Request) -> bool {
        let shown = request.token.as_deref().unwrap_or_default();
        let token = self.token.as_deref();
        token.is_some_and(|token| is_same(token, shown.as_bytes()))
    }

    /// Whether nobody can have led it here under a name of theirs. Browsers say a name, monitors
    /// that speak HTTP/1.0 may say none.
    fn is_for_us(&self, request: &Request) -> bool {
        let says_none = request.authority.is_empty();
        says_none || names_this_host(&request.authority) || self.is_shown_by(request)
    }
}

/// Whether an authority is an address that only leads to the host itself, or the name for them.
fn names_this_host(authority: &str) -> bool {
    let name = host_name(authority.as_bytes());
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let literal = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address: Option<IpAddr> = literal.unwrap_or(name).parse().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|it| it.is_loopback())
}

/// Whether a browser sends it for a page that weir has not made.
fn is_from_elsewhere(request: &Request) -> bool {
    let Some(origin) = &request.origin else {
        return false;
    };
    let own = ["http://", "https://"].map(|scheme| format!("{scheme}{}", request.authority));
    !own.contains(origin)
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(token: &[u8], shown: &[u8]) -> bool {
    if token.len() != shown.len() {
        return false;
    }
    let pairs = token.iter().zip(shown);
    pairs.fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: Peer) -> Caller {
        Caller { peer, own_user: 7 }
    }

    fn tcp() -> Caller {
        from(Peer::Address(([127, 0, 0, 1], 5).into()))
    }

    fn with(token: Option<&str>, origin: Option<&str>) -> Request {
        Request {
            token: token.map(str::to_owned),
            origin: origin.map(str::to_owned),
            authority: "127.0.0.1:9000".to_owned(),
            ..Request::default()
        }
    }

    fn rules(token: Option<&str>, reads_are_open: bool) -> Rules {
        let token = token.map(|it| it.as_bytes().to_vec());
        Rules {
            token,
            reads_are_open,
            is_loopback: true,
        }
    }

    #[test]
    fn who_is_at_the_socket_looks_and_only_root_and_the_own_user_act() {
        let rules = rules(None, false);
        let plain = Request::default();
        for (user, may_act) in [(0, true), (7, true), (8, false)] {
            let caller = from(Peer::User(user));
            assert!(rules.admit(&caller, &plain, false).is_ok());
            assert_eq!(rules.admit(&caller, &plain, true).is_ok(), may_act);
        }
    }

    #[test]
    fn over_tcp_the_token_counts() {
        let rules = rules(Some("abc"), false);
        for (shown, may) in [
            (Some("abc"), true),
            (Some("abd"), false),
            (Some("ab"), false),
        ] {
            assert_eq!(rules.admit(&tcp(), &with(shown, None), true).is_ok(), may);
            assert_eq!(rules.admit(&tcp(), &with(shown, None), false).is_ok(), may);
        }
        assert_eq!(
            rules.admit(&tcp(), &with(None, None), true),
            Err(WRONG_TOKEN)
        );
    }

    #[test]
    fn without_a_token_one_may_look_where_that_is_open_and_nobody_acts() {
        let open = rules(None, true);
        assert!(open.admit(&tcp(), &with(None, None), false).is_ok());
        assert_eq!(
            open.admit(&tcp(), &with(Some(""), None), true),
            Err(NO_TOKEN)
        );
    }

    #[test]
    fn a_name_that_leads_elsewhere_as_well_looks_at_nothing() {
        let open = rules(Some("abc"), true);
        let asks = |authority: &str, token: Option<&str>| Request {
            authority: authority.to_owned(),
            ..with(token, None)
        };
        for (authority, is_ours) in [
            ("127.0.0.1", true),
            ("127.0.0.1:9000", true),
            ("[::1]:80", true),
            ("LocalHost:9000", true),
            ("localhost.", true),
            ("evil.example", false),
            ("evil.example:9000", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", true),
            (".", false),
        ] {
            let seen = open.admit(&tcp(), &asks(authority, None), false);
            assert_eq!(seen.is_ok(), is_ours, "{authority}: {seen:?}");
            assert!(
                open.admit(&tcp(), &asks(authority, Some("abc")), false)
                    .is_ok(),
                "{authority} with the token"
            );
            let caller = from(Peer::User(0));
            assert!(open.admit(&caller, &asks(authority, None), false).is_ok());
        }
        let elsewhere = Rules {
            is_loopback: false,
            ..open
        };
        assert!(
            elsewhere
                .admit(&tcp(), &asks("lb1:9000", None), false)
                .is_ok()
        );
    }

    #[test]
    fn another_page_cannot_act() {
        let rules = rules(Some("abc"), true);
        let own = with(Some("abc"), Some("http://127.0.0.1:9000"));
        assert!(rules.admit(&tcp(), &own, true).is_ok());
        for origin in ["http://evil", "null", "http://127.0.0.1:9001"] {
            let other = with(Some("abc"), Some(origin));
            assert_eq!(
                rules.admit(&tcp(), &other, true),
                Err(OTHER_PAGE),
                "{origin}"
            );
        }
    }
}
