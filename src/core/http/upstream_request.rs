//! The whole head of a request as a backend gets it: what the client said that is meant for it, and
//! what weir tells it of the client.

use std::net::IpAddr;

use super::claims::{self, Claims};
use super::client_cert::{CLIENT_CERT, is_of_certificate, write_client_cert};
use super::forwarded::{self, Peer, Scheme};
use super::head::{RequestHead, Version};
use super::known::{Known, KnownSet};
use super::path::Canonical;
use super::rewrite::{END, FieldEdits, RequestRewrite, append_field, write_request};
use super::sticky::{self, Stripped};
use crate::core::text;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct RequestSource {
    /// The other end of its connection.
    pub peer: Peer,
    /// Its client, through trusted proxies; none over a Unix socket.
    pub client: Option<IpAddr>,
    /// How the client speaks to the first proxy.
    pub scheme: Scheme,
    /// The port that the peer reached; none over a Unix socket.
    pub port: Option<u16>,
}

/// What is known of the certificate of a connection's client.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificate<'a> {
    /// Whether the client was asked for one, so that what it says itself is not believed.
    pub is_asked: bool,
    /// What it has shown and weir has verified: DER, at most
    /// [`CERTIFICATE_BYTES_MAX`](super::client_cert::CERTIFICATE_BYTES_MAX).
    pub shown: Option<&'a [u8]>,
}

/// All that the head is written from.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRequest<'a> {
    /// The head as it came.
    pub head: &'a RequestHead,
    /// What it was parsed from.
    pub bytes: &'a [u8],
    /// Where it comes from.
    pub source: RequestSource,
    /// The certificate of its peer.
    pub certificate: ClientCertificate<'a>,
    /// What is asked for, as the backend shall see it.
    pub target: Canonical<'a>,
    /// The Host of a request that has none (HTTP/1.0).
    pub host_default: &'a [u8],
    /// What untrusted clients may not send.
    pub claims: &'a Claims,
    /// The edits of the route.
    pub edits: &'a FieldEdits,
    /// What weir calls itself in `Via`; none where it adds none.
    pub via: Option<&'a str>,
    /// Whether `Forwarded` is written.
    pub forwarded: bool,
    /// The name of weir's own cookie, which no backend sees.
    pub own_cookie: Option<&'a str>,
    /// Whether the backend connection is closed after the response.
    pub close: bool,
    /// More lines, each with its CRLF.
    pub more: &'a [u8],
}

impl<'a> UpstreamRequest<'a> {
    /// Appends the head, with the empty line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let is_trusted = self.source.peer.is_trusted;
        let claims = self.claims.known(is_trusted);
        let rewrite = RequestRewrite {
            target: Some(self.target),
            host_default: self.host_default,
            drop: self.replaced(claims),
            drop_by_name: self
                .claims
                .by_name(is_trusted)
                .map(|it| it.with_known_certificate(self.certificate.is_asked && !is_trusted)),
            edits: self.edits,
            close: self.close,
        };
        write_request(self.head, self.bytes, &rewrite, out);
        if let Some(name) = self.own_cookie
            && !claims.has(Known::Cookie)
            && self.writes(Known::Cookie)
        {
            self.write_cookies(name, out);
        }
        self.write_client(out);
        self.write_hop(out);
        if let Some(der) = self.certificate.shown {
            self.write_certificate(der, out);
        }
        out.extend_from_slice(self.more);
        out.extend_from_slice(END);
    }

    /// The fields not to copy: those that the client may not send, and those written anew.
    fn replaced(&self, claims: KnownSet) -> KnownSet {
        let mut replaced = claims.and(claims::WRITTEN);
        for (is_written, known) in [
            (self.via.is_some(), Known::Via),
            (self.forwarded, Known::Forwarded),
            (self.own_cookie.is_some(), Known::Cookie),
        ] {
            if is_written {
                replaced = replaced.with(known);
            }
        }
        replaced
    }

    /// Whether a field of this name is for weir to write: unless the route sets or removes it.
    fn writes(&self, known: Known) -> bool {
        !self.edits.leaves_out(known)
    }

    /// The values that came in fields of this name.
    fn came(&self, known: Known) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.head.fields.values(known, self.bytes)
    }

    /// Copies the Cookie fields without weir's own cookie.
    fn write_cookies(&self, name: &str, out: &mut Vec<u8>) {
        for cookie in self.came(Known::Cookie) {
            let start = out.len();
            out.extend_from_slice(b"Cookie: ");
            match sticky::strip_cookie(cookie, name, out) {
                Stripped::Unchanged => out.extend_from_slice(cookie),
                Stripped::Rewritten => {}
                Stripped::Empty => {
                    out.truncate(start);
                    continue;
                }
            }
            out.extend_from_slice(END);
        }
    }

    /// Writes who asked, and what for.
    fn write_client(&self, out: &mut Vec<u8>) {
        self.write_addresses(out);
        let RequestSource { peer, scheme, .. } = self.source;
        if self.writes(Known::XForwardedProto) {
            append_field(out, b"X-Forwarded-Proto", scheme.as_str().as_bytes());
        }
        let own = self.head.authority(self.bytes);
        let host = forwarded::host(peer, own, self.came(Known::XForwardedHost));
        if self.writes(Known::XForwardedHost) && !host.is_empty() {
            append_field(out, b"X-Forwarded-Host", host);
        }
        if self.writes(Known::XForwardedPort)
            && let Some(port) = self.port(host)
        {
            out.extend_from_slice(b"X-Forwarded-Port: ");
            text::push_number(out, port.into());
            out.extend_from_slice(END);
        }
    }

    fn write_addresses(&self, out: &mut Vec<u8>) {
        let peer = self.source.peer;
        let mut address = 0..0;
        if self.writes(Known::XForwardedFor) {
            out.extend_from_slice(b"X-Forwarded-For: ");
            address.start = out.len();
            forwarded::write_x_forwarded_for(peer, self.came(Known::XForwardedFor), out);
            address.end = out.len();
            out.extend_from_slice(END);
        }
        if self.writes(Known::XRealIp) {
            out.extend_from_slice(b"X-Real-IP: ");
            if peer.is_trusted || address.is_empty() {
                forwarded::write_address(self.source.client, out);
            } else {
                // The same address, so its digits need not be found again.
                out.extend_from_within(address);
            }
            out.extend_from_slice(END);
        }
    }

    /// The port that the client reached, which asked for this host.
    fn port(&self, host: &[u8]) -> Option<u16> {
        let fields = &self.head.fields;
        let is_told = fields.has(Known::XForwardedProto) || fields.has(Known::XForwardedHost);
        let RequestSource {
            peer, scheme, port, ..
        } = self.source;
        let told = is_told.then_some((scheme, host));
        forwarded::port(peer, port, told, self.came(Known::XForwardedPort))
    }

    /// Writes the certificate of the peer where that is the client: a trusted proxy speaks for
    /// others, and says itself which certificates they have.
    #[cold]
    fn write_certificate(&self, der: &[u8], out: &mut Vec<u8>) {
        let RequestSource { peer, client, .. } = self.source;
        let mut fields = self.head.fields.iter();
        let is_told =
            peer.is_trusted && fields.any(|field| is_of_certificate(field.name(self.bytes)));
        if client == peer.address && !is_told && !self.edits.drops(CLIENT_CERT) {
            write_client_cert(der, out);
        }
    }

    /// Writes what the standards have for a hop on the way.
    fn write_hop(&self, out: &mut Vec<u8>) {
        if let Some(pseudonym) = self.via
            && self.writes(Known::Via)
        {
            out.extend_from_slice(b"Via: ");
            let minor = u8::from(self.head.facts.version == Version::Http11);
            forwarded::write_via(self.came(Known::Via), minor, pseudonym, out);
            out.extend_from_slice(END);
        }
        if self.forwarded && self.writes(Known::Forwarded) {
            out.extend_from_slice(b"Forwarded: ");
            let RequestSource { peer, scheme, .. } = self.source;
            let host = self.head.authority(self.bytes);
            forwarded::write_forwarded(peer, scheme, host, self.came(Known::Forwarded), out);
            out.extend_from_slice(END);
        }
    }
}
