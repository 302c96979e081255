//! Who the client is behind proxies, and what the backend is told of it.
//!
//! Anyone can write an `X-Forwarded-For`. It is believed only as far as trusted proxies vouch for
//! it: the peer of the connection, if trusted, vouches for the last address in the list; that one,
//! if trusted too, for the one before it, and so on. The first address that is not trusted is the
//! client, whatever stands to its left. Fields of an untrusted peer are replaced, not extended.
//!
//! Every function takes the values of all fields of a name, in order, as several lines mean the
//! same as one with commas (RFC 9110 section 5.3). What is sent is one line.

use std::net::{IpAddr, SocketAddr};

use super::syntax::{elements, is_token_byte, trim};
use crate::core::text;

/// An IP network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix_bits: u8,
}

impl Network {
    /// The network of all addresses that share the first `prefix_bits` bits with `address`; more
    /// bits than it has mean all of them. An IPv4-mapped network is the IPv4 one.
    #[must_use]
    pub fn new(address: IpAddr, prefix_bits: u8) -> Self {
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        Self {
            address,
            prefix_bits: prefix_bits.min(bits_max),
        }
    }

    /// The same of the IPv4 addresses that it is mapped from, if it is.
    fn canonical(self) -> Self {
        match (
            self.address.to_canonical(),
            self.prefix_bits.checked_sub(96),
        ) {
            (ipv4 @ IpAddr::V4(_), Some(prefix_bits)) if self.address.is_ipv6() => Self {
                address: ipv4,
                prefix_bits,
            },
            _ => self,
        }
    }

    /// Whether an address belongs to it. An IPv4-mapped address counts as IPv4; otherwise no
    /// address belongs to a network of the other family, not even to `::/0`.
    #[must_use]
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let own = self.canonical();
        let shared = match (own.address, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                (first.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => {
                (first.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        shared >= u32::from(own.prefix_bits)
    }
}

/// The other end of a client connection, and whether its fields are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, never IPv4-mapped; none over a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Whether it is a trusted proxy. A Unix socket is not, as it belongs to no network.
    pub(crate) is_trusted: bool,
}

impl Peer {
    /// The peer at an address.
    #[must_use]
    pub fn new(address: Option<IpAddr>, trusted: &[Network]) -> Self {
        let address = address.map(|address| address.to_canonical());
        Self {
            address,
            is_trusted: address.is_some_and(|address| is_in(trusted, address)),
        }
    }
}

/// The client's address: the first one from the right of `X-Forwarded-For` that no trusted proxy
/// has, beginning with the peer itself. An element that is no address ends the walk at the proxy
/// that passed it on; so does the end of the list.
#[must_use]
pub fn client_address<'a, I>(peer: Peer, trusted: &[Network], x_forwarded_for: I) -> Option<IpAddr>
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: DoubleEndedIterator,
{
    let mut client = peer.address?;
    if !peer.is_trusted {
        return Some(client);
    }
    let lines = x_forwarded_for.into_iter().rev();
    for element in lines.flat_map(|line| elements(line).rev()) {
        let Some(address) = parse_address(element) else {
            break;
        };
        client = address;
        if !is_in(trusted, client) {
            break;
        }
    }
    Some(client)
}

/// Appends the `X-Forwarded-For` to send: what a trusted peer sent and its own address, or for
/// any other peer its address alone. IPv6 stands bare; a Unix peer is `unknown`.
pub fn write_x_forwarded_for<'a>(
    peer: Peer,
    x_forwarded_for: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) {
    if peer.is_trusted {
        write_list(x_forwarded_for, out);
    }
    write_address(peer.address, out);
}

/// Appends an address as `X-Real-IP` has it: bare, or `unknown`.
pub(crate) fn write_address(address: Option<IpAddr>, out: &mut Vec<u8>) {
    match address {
        Some(address) => match address.to_canonical() {
            IpAddr::V4(v4) => text::push_ipv4(out, v4),
            IpAddr::V6(v6) => text::push(out, format_args!("{v6}")),
        },
        None => out.extend_from_slice(b"unknown"),
    }
}

/// How the client speaks to the first proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in fields and URIs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URI that has none (RFC 9110 sections 4.2.1 and 4.2.2).
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The scheme for `X-Forwarded-Proto`: what a trusted peer says last, else `own`, that of the
/// connection. A claim that is neither `http` nor `https` counts as none.
#[must_use]
pub(crate) fn scheme<'a>(
    peer: Peer,
    own: Scheme,
    x_forwarded_proto: impl IntoIterator<Item = &'a [u8]>,
) -> Scheme {
    if !peer.is_trusted {
        return own;
    }
    let last = x_forwarded_proto.into_iter().flat_map(elements).last();
    match last {
        Some(claim) if claim.eq_ignore_ascii_case(b"https") => Scheme::Https,
        Some(claim) if claim.eq_ignore_ascii_case(b"http") => Scheme::Http,
        Some(_) | None => own,
    }
}

/// The value for `X-Forwarded-Host`: what a trusted peer says last, else the host of the request.
#[must_use]
pub(crate) fn host<'a>(
    peer: Peer,
    own: &'a [u8],
    x_forwarded_host: impl IntoIterator<Item = &'a [u8]>,
) -> &'a [u8] {
    if !peer.is_trusted {
        return own;
    }
    let last = x_forwarded_host.into_iter().flat_map(elements).last();
    last.unwrap_or(own)
}

/// The value for `X-Forwarded-Port`: what a trusted peer says last, as far as that is a port. One
/// that says by which scheme or to which host the client came, but not the port, does say it: it
/// is that of the host, or else the scheme's own. `told` is what it says of these, if it does.
/// Otherwise it is `own`, the port of the listener, which a Unix socket has not.
#[must_use]
pub(crate) fn port<'a>(
    peer: Peer,
    own: Option<u16>,
    told: Option<(Scheme, &[u8])>,
    x_forwarded_port: impl IntoIterator<Item = &'a [u8]>,
) -> Option<u16> {
    if !peer.is_trusted {
        return own;
    }
    let last = x_forwarded_port.into_iter().flat_map(elements).last();
    let implied =
        || told.map(|(scheme, host)| port_of(host).unwrap_or_else(|| scheme.default_port()));
    last.and_then(parse_port).or_else(implied).or(own)
}

/// The port in `host [":" port]`.
fn port_of(host: &[u8]) -> Option<u16> {
    let colon = host.iter().rposition(|&byte| byte == b':')?;
    // None of the colons in an IPv6 address, as those are in brackets.
    parse_port(&host[colon + 1..])
}

/// A port that a client can reach.
fn parse_port(text: &[u8]) -> Option<u16> {
    let is_plain = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let port = is_plain.then(|| std::str::from_utf8(text).ok()?.parse().ok());
    port.flatten().filter(|port| *port != 0)
}

/// Appends the `Via` to send: what came, whoever sent it, and this hop (RFC 9110 section 7.6.3).
/// `received_minor` is the minor version of HTTP/1 that the message came with.
pub(crate) fn write_via<'a>(
    via: impl IntoIterator<Item = &'a [u8]>,
    received_minor: u8,
    pseudonym: &str,
    out: &mut Vec<u8>,
) {
    write_list(via, out);
    out.extend_from_slice(if received_minor == 0 {
        b"1.0 "
    } else {
        b"1.1 "
    });
    out.extend_from_slice(pseudonym.as_bytes());
}

/// Appends the `Forwarded` to send (RFC 7239): what a trusted peer sent, then the element for this
/// hop: its peer, the scheme and the host of the request. A host that no quoted string may hold
/// is left out.
pub(crate) fn write_forwarded<'a>(
    peer: Peer,
    scheme: Scheme,
    host: &[u8],
    forwarded: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) {
    if peer.is_trusted {
        write_list(forwarded, out);
    }
    match peer.address {
        Some(IpAddr::V6(ipv6)) => text::push(out, format_args!("for=\"[{ipv6}]\"")),
        Some(IpAddr::V4(ipv4)) => text::push(out, format_args!("for={ipv4}")),
        None => out.extend_from_slice(b"for=unknown"),
    }
    text::push(out, format_args!(";proto={}", scheme.as_str()));
    let is_quotable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if !host.is_empty() && host.iter().all(is_quotable) {
        out.extend_from_slice(b";host=");
        write_token_or_quoted(host, out);
    }
}

/// Appends a value as a token if it is one, else as a quoted string (RFC 9110 section 5.6.4).
fn write_token_or_quoted(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().all(|&byte| is_token_byte(byte)) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Appends the lines of a list as one, ready for another element; empty lines leave nothing.
fn write_list<'a>(lines: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for line in lines {
        let line = trim(line);
        if !line.is_empty() {
            out.extend_from_slice(line);
            out.extend_from_slice(b", ");
        }
    }
}

/// An element of `X-Forwarded-For`: an address, as some proxies write it also with brackets or a
/// port.
fn parse_address(element: &[u8]) -> Option<IpAddr> {
    let element = std::str::from_utf8(element).ok()?;
    let inner = element
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match inner {
        Some(ipv6) => IpAddr::V6(ipv6.parse().ok()?),
        None => element.parse().ok().or_else(|| {
            let with_port: Option<SocketAddr> = element.parse().ok();
            with_port.map(|address| address.ip())
        })?,
    };
    Some(address.to_canonical())
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network::new(ip(address), bits.parse().unwrap())
    }

    fn bytes<'a>(lines: &'a [&'a str]) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        lines.iter().map(|line| line.as_bytes())
    }

    /// What a writer appends to `out`, as text.
    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    const TRUSTED: Peer = Peer {
        address: Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))),
        is_trusted: true,
    };
    const STRANGER: Peer = Peer {
        is_trusted: false,
        ..TRUSTED
    };
    const UNIX: Peer = Peer {
        address: None,
        is_trusted: false,
    };

    #[test]
    fn a_network_holds_the_addresses_that_share_its_prefix() {
        for (text, address, is_inside) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.9.9.9/8", "10.1.1.1", true),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.0", false),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1/128", "::1", true),
            ("::1/255", "::2", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("10.0.0.0/99", "10.0.0.1", false),
        ] {
            let found = network(text).contains(ip(address));
            assert_eq!(found, is_inside, "{address} in {text}");
        }
    }

    #[test]
    fn the_client_is_the_first_address_that_no_trusted_proxy_has() {
        let trusted = [network("10.0.0.0/8"), network("fd00::/8")];
        for (peer, lines, client) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1", "10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &["198.51.100.1,10.0.0.3", "fd00::1 ,10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            ("10.0.0.1", &["198.51.100.1, junk, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            (
                "10.0.0.1",
                &["198.51.100.1, _hidden, 10.0.0.2,"],
                "10.0.0.2",
            ),
            ("10.0.0.1", &["198.51.100.1, , "], "198.51.100.1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::5", &["[192.0.2.1]"], "fd00::5"),
            ("fd00::5", &["\u{e9}, 192.0.2.1 x"], "fd00::5"),
        ] {
            let peer = Peer::new(Some(ip(peer)), &trusted);
            let found = client_address(peer, &trusted, bytes(lines));
            assert_eq!(found, Some(ip(client)), "{peer:?} {lines:?}");
        }
        let unix = Peer::new(None, &trusted);
        assert_eq!(unix, UNIX);
        assert_eq!(client_address(unix, &trusted, bytes(&["192.0.2.1"])), None);
    }

    #[test]
    fn x_forwarded_for_is_extended_for_the_trusted_and_replaced_for_others() {
        let ipv6 = Peer::new(Some(ip("2001:db8::1")), &[]);
        let mapped = Peer::new(Some(ip("::ffff:192.0.2.1")), &[]);
        for (peer, lines, value) in [
            (TRUSTED, &[][..], "10.0.0.1"),
            (TRUSTED, &["192.0.2.1"], "192.0.2.1, 10.0.0.1"),
            (TRUSTED, &["a, b ", "", " c"], "a, b, c, 10.0.0.1"),
            (STRANGER, &["192.0.2.1"], "10.0.0.1"),
            (UNIX, &["192.0.2.1"], "unknown"),
            (ipv6, &[], "2001:db8::1"),
            (mapped, &[], "192.0.2.1"),
        ] {
            let result = written(|out| write_x_forwarded_for(peer, bytes(lines), out));
            assert_eq!(result, value, "{peer:?} {lines:?}");
        }
    }

    #[test]
    fn the_scheme_is_believed_only_from_the_trusted() {
        use Scheme::{Http, Https};
        for (peer, own, lines, scheme_) in [
            (TRUSTED, Http, &["https"][..], Https),
            (TRUSTED, Https, &["HTTP"], Http),
            (TRUSTED, Http, &["http, https"], Https),
            (TRUSTED, Http, &["https", "http"], Http),
            (TRUSTED, Https, &["gopher"], Https),
            (TRUSTED, Https, &[], Https),
            (STRANGER, Http, &["https"], Http),
            (UNIX, Http, &["https"], Http),
        ] {
            assert_eq!(scheme(peer, own, bytes(lines)), scheme_, "{lines:?}");
        }
    }

    #[test]
    fn the_host_is_believed_only_from_the_trusted() {
        for (peer, lines, value) in [
            (TRUSTED, &["public.test"][..], "public.test"),
            (TRUSTED, &["a.test, b.test"], "b.test"),
            (TRUSTED, &[" "], "own.test"),
            (TRUSTED, &[], "own.test"),
            (STRANGER, &["public.test"], "own.test"),
        ] {
            let found = host(peer, b"own.test", bytes(lines));
            assert_eq!(found, value.as_bytes(), "{lines:?}");
        }
    }

    #[test]
    fn the_port_is_believed_only_from_the_trusted() {
        let https = Some((Scheme::Https, &b"a.test"[..]));
        let http = Some((Scheme::Http, &b"a.test"[..]));
        let v6 = Some((Scheme::Https, &b"[::1]"[..]));
        let v6_with_port = Some((Scheme::Https, &b"[::1]:81"[..]));
        let with_port = Some((Scheme::Https, &b"a.test:81"[..]));
        for (peer, told, lines, port_) in [
            (STRANGER, None, &["1"][..], Some(8080)),
            (STRANGER, https, &["1"], Some(8080)),
            (UNIX, None, &["1"], Some(8080)),
            (TRUSTED, None, &["8443"], Some(8443)),
            (TRUSTED, https, &["8443"], Some(8443)),
            (TRUSTED, None, &["1, 2", "3 "], Some(3)),
            (TRUSTED, None, &[], Some(8080)),
            (TRUSTED, https, &[], Some(443)),
            (TRUSTED, http, &[], Some(80)),
            (TRUSTED, v6, &[], Some(443)),
            (TRUSTED, v6_with_port, &[], Some(81)),
            (TRUSTED, with_port, &[], Some(81)),
            (TRUSTED, None, &["0"], Some(8080)),
            (TRUSTED, None, &["65536"], Some(8080)),
            (TRUSTED, None, &["+1"], Some(8080)),
            (TRUSTED, https, &["evil.test"], Some(443)),
            (TRUSTED, None, &["65535"], Some(65535)),
        ] {
            let found = port(peer, Some(8080), told, bytes(lines));
            assert_eq!(found, port_, "{peer:?} {told:?} {lines:?}");
        }
        assert_eq!(port(UNIX, None, None, bytes(&[])), None);
    }

    #[test]
    fn via_names_every_hop_in_order() {
        for (lines, minor, value) in [
            (&[][..], 1, "1.1 weir"),
            (
                &["1.0 fred", "1.1 p.example.net"],
                0,
                "1.0 fred, 1.1 p.example.net, 1.0 weir",
            ),
        ] {
            let result = written(|out| write_via(bytes(lines), minor, "weir", out));
            assert_eq!(result, value);
        }
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let ipv6 = Peer::new(Some(ip("2001:db8::1")), &[]);
        for (peer, host, lines, value) in [
            (
                STRANGER,
                "a.test",
                &["for=x"][..],
                "for=10.0.0.1;proto=http;host=a.test",
            ),
            (
                TRUSTED,
                "a.test",
                &["for=x"],
                "for=x, for=10.0.0.1;proto=http;host=a.test",
            ),
            (
                ipv6,
                "a:80",
                &[],
                "for=\"[2001:db8::1]\";proto=http;host=\"a:80\"",
            ),
            (UNIX, "[::1]", &[], "for=unknown;proto=http;host=\"[::1]\""),
            (
                UNIX,
                "a\"b\\",
                &[],
                "for=unknown;proto=http;host=\"a\\\"b\\\\\"",
            ),
            (UNIX, "a\r\nb", &[], "for=unknown;proto=http"),
            (UNIX, "", &[], "for=unknown;proto=http"),
        ] {
            let result = written(|out| {
                write_forwarded(peer, Scheme::Http, host.as_bytes(), bytes(lines), out);
            });
            assert_eq!(result, value);
        }
    }
}
