//! Sticky sessions without memory: a cookie that names the backend by an opaque tag.
//!
//! The tag is a keyed hash of the upstream's name and the backend's identity. Every process and
//! host with the same secret computes the same tags, nothing is stored per client, and the tag
//! tells a client neither an address nor which backends exist. What is no tag of a known backend
//! counts as absent: a client cannot cause an error with it, only be balanced anew.
//!
//! Cookie fields are read as servers read them (RFC 6265 section 5.4 writes `name=value` pairs
//! separated by `;`), and what is not ours passes byte for byte, however odd it is.

use super::rewrite::{END, append_field};
use crate::core::sort::sorted;
use crate::core::text;

/// Bytes of a tag as text: 64 bits in hexadecimal digits.
pub(crate) const TAG_BYTES: usize = 16;

/// The opaque name of a backend, as it stands in the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    /// The tag that a cookie value is, if it has the form of one.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let digits: [u8; TAG_BYTES] = value.try_into().ok()?;
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        digits.iter().all(is_digit).then_some(Self(digits))
    }

    /// Its text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What tags are computed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TagKey {
    k0: u64,
    k1: u64,
}

/// Shows nothing: a key does not belong in a log.
impl std::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TagKey(..)")
    }
}

impl TagKey {
    /// The key made of a secret of any length.
    ///
    /// The key cannot be better than the secret: one that can be guessed lets tags be forged,
    /// which at worst lets a client choose its backend.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            k0: siphash(0, 0, secret),
            k1: siphash(0, 1, secret),
        }
    }

    /// The tag of a backend. `identity` is what stays the same over a reload: the `id` from the
    /// configuration or the address.
    #[must_use]
    pub fn tag(&self, upstream: &str, identity: &str) -> Tag {
        // The length in front keeps `ab` + `c` apart from `a` + `bc`.
        let mut message = (upstream.len() as u64).to_le_bytes().to_vec();
        message.extend_from_slice(upstream.as_bytes());
        message.extend_from_slice(identity.as_bytes());
        let mut hash = siphash(self.k0, self.k1, &message);
        let mut digits = [0; TAG_BYTES];
        for digit in &mut digits {
            hash = hash.rotate_left(4);
            *digit = b"0123456789abcdef"[usize::from(hash.to_le_bytes()[0] & 15)];
        }
        Tag(digits)
    }
}

/// The tags of an upstream's backends, for the way back from a cookie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    /// Sorted by tag.
    backends: Vec<(Tag, usize)>,
}

impl Tags {
    /// Takes tags with whatever number the caller knows the backend by.
    #[must_use]
    pub(crate) fn new(backends: impl IntoIterator<Item = (Tag, usize)>) -> Self {
        let given: Vec<_> = backends.into_iter().collect();
        let order = sorted(given.len(), &|a, b| given[a].cmp(&given[b]));
        Self {
            backends: order.into_iter().map(|at| given[at]).collect(),
        }
    }

    /// The backend that the Cookie fields ask for: the first value of our cookie that is a tag of
    /// a known backend. Others are passed over, so that a stray cookie of the same name (another
    /// path or domain) does not hide the good one.
    #[must_use]
    pub(crate) fn find<'a>(
        &self,
        fields: impl IntoIterator<Item = &'a [u8]>,
        name: &str,
    ) -> Option<usize> {
        fields
            .into_iter()
            .flat_map(|field| cookie_values(field, name))
            .filter_map(Tag::parse)
            .find_map(|tag| self.backend(tag))
    }

    fn backend(&self, tag: Tag) -> Option<usize> {
        let found = self.backends.binary_search_by_key(&tag, |entry| entry.0);
        found.ok().map(|at| self.backends[at].1)
    }
}

/// The value of the first cookie of that name in the values of any number of Cookie fields,
/// without the quotes around it; for hashing by a cookie of the application.
#[must_use]
pub fn cookie_value<'a>(
    fields: impl IntoIterator<Item = &'a [u8]>,
    name: &str,
) -> Option<&'a [u8]> {
    fields
        .into_iter()
        .find_map(|field| cookie_values(field, name).next())
}

/// The values of the cookies of that name in one Cookie field.
fn cookie_values<'a>(field: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    pairs(field).filter_map(move |pair| {
        let value = value_of(pair, name)?;
        let inner = value.strip_prefix(b"\"");
        let inner = inner.and_then(|rest| rest.strip_suffix(b"\""));
        Some(inner.unwrap_or(value))
    })
}

/// What became of a Cookie field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stripped {
    /// It does not hold the cookie: forward it as it came.
    Unchanged,
    /// Forward what was written in its place.
    Rewritten,
    /// Nothing is left: forward no field.
    Empty,
}

/// Takes every cookie of that name out of a Cookie field. What is left, byte for byte, is appended
/// to `out`; nothing is when the outcome is not [`Stripped::Rewritten`].
pub fn strip_cookie(field: &[u8], name: &str, out: &mut Vec<u8>) -> Stripped {
    if !pairs(field).any(|pair| value_of(pair, name).is_some()) {
        return Stripped::Unchanged;
    }
    let start = out.len();
    let mut is_first = true;
    for pair in pairs(field).filter(|pair| value_of(pair, name).is_none()) {
        if is_first {
            // The space after the `;` of a cookie that is gone goes with it.
            out.extend_from_slice(pair.trim_ascii_start());
        } else {
            out.push(b';');
            out.extend_from_slice(pair);
        }
        is_first = false;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b';');
    if out[start..].iter().all(is_blank) {
        out.truncate(start);
        return Stripped::Empty;
    }
    Stripped::Rewritten
}

/// How the cookie is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CookieAttributes<'a> {
    /// Its name, a token.
    pub(crate) name: &'a str,
    /// The Domain attribute.
    pub(crate) domain: Option<&'a str>,
    /// The Max-Age attribute, in seconds; without it the cookie ends with the browser's session.
    pub(crate) max_age_s: Option<u64>,
    /// The SameSite attribute: `Lax`, `Strict` or `None`.
    pub(crate) same_site: &'a str,
    /// Whether it is only for https: configured, or what the client used for this request.
    pub(crate) secure: bool,
    /// Whether shared caches are told not to give it to other clients.
    pub(crate) cache_private: bool,
}

/// Appends the Set-Cookie field that binds a client to a backend (RFC 6265 section 4.1), and what
/// keeps it from others.
pub(crate) fn write_set_cookie(cookie: &CookieAttributes<'_>, tag: Tag, out: &mut Vec<u8>) {
    for part in [
        b"Set-Cookie: ",
        cookie.name.as_bytes(),
        b"=",
        tag.as_bytes(),
    ] {
        out.extend_from_slice(part);
    }
    text::push(
        out,
        format_args!("; Path=/; HttpOnly; SameSite={}", cookie.same_site),
    );
    if cookie.secure {
        text::push(out, format_args!("; Secure"));
    }
    if let Some(domain) = cookie.domain {
        text::push(out, format_args!("; Domain={domain}"));
    }
    if let Some(seconds) = cookie.max_age_s {
        text::push(out, format_args!("; Max-Age={seconds}"));
    }
    out.extend_from_slice(END);
    if cookie.cache_private {
        append_field(out, b"Cache-Control", b"private");
    }
}

/// What stands between the semicolons, spaces included.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|&byte| byte == b';')
}

/// The value of a pair if it has that name, which is case-sensitive; without the space around it.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let is_named = pair[..equals].trim_ascii() == name.as_bytes();
    is_named.then(|| pair[equals + 1..].trim_ascii())
}

/// SipHash-2-4 with a 128-bit key (Aumasson and Bernstein, 2012). The hash of the standard library
/// is not promised to stay the same between releases, and tags have to.
fn siphash(k0: u64, k1: u64, message: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = message.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = message.len().to_le_bytes()[0];
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        state[3] ^= word;
        sip_round(&mut state);
        sip_round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    for _ in 0..4 {
        sip_round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_2_4() {
        // Appendix A of the paper, and the first and eighth of its reference vectors.
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(k0, k1, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(k0, k1, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(k0, k1, &message[..8]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn a_tag_depends_on_secret_upstream_and_backend() {
        let (key, other) = (TagKey::new(b"one"), TagKey::new(b"two"));
        let tag = key.tag("ab", "c");
        assert_eq!(tag, TagKey::new(b"one").tag("ab", "c"));
        for different in [
            key.tag("ab", "d"),
            key.tag("a", "bc"),
            key.tag("b", "c"),
            other.tag("ab", "c"),
        ] {
            assert_ne!(tag, different);
        }
        assert_eq!(Tag::parse(tag.as_bytes()), Some(tag));
    }

    #[test]
    fn only_a_known_tag_finds_a_backend() {
        let key = TagKey::new(b"secret");
        let [one, two, gone] = ["1", "2", "3"].map(|backend| key.tag("web", backend));
        let tags = Tags::new([(two, 2), (one, 1)]);
        let text = |tag: Tag| String::from_utf8(tag.as_bytes().to_vec()).unwrap();
        let (one, two, gone) = (text(one), text(two), text(gone));
        for (fields, backend) in [
            (vec![format!("weir={one}")], Some(1)),
            (vec![format!("a=b; weir=\"{two}\"")], Some(2)),
            (vec!["a=b".into(), format!("c=d; weir={two}; e=f")], Some(2)),
            (vec![format!("weir={gone}; weir={one}")], Some(1)),
            (vec![format!("weir={gone}")], None),
            (vec![format!("weir={}", one.to_uppercase())], None),
            (vec![format!("weir={one}0")], None),
            (vec![format!("weir={}", "0".repeat(9000))], None),
            (vec!["weir=".into(), "weir".into(), "=".into()], None),
            (vec![format!("Weir={one}"), format!("xweir={one}")], None),
            (vec![], None),
        ] {
            let found = tags.find(fields.iter().map(String::as_bytes), "weir");
            assert_eq!(found, backend, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_junk() {
        for (fields, value) in [
            (&["a=1"][..], Some("1")),
            (&["b=2;a=1"], Some("1")),
            (&["b=2", "c=3;  a = 1 ; d"], Some("1")),
            (&["a=\"x y\""], Some("x y")),
            (&["a=\""], Some("\"")),
            (&["a="], Some("")),
            (&["a==="], Some("==")),
            (&[";;=; =x; a=1; a=2"], Some("1")),
            (&["aa=1; A=2; a"], None),
            (&[""], None),
            (&[], None),
        ] {
            let found = cookie_value(fields.iter().map(|field| field.as_bytes()), "a");
            assert_eq!(found, value.map(str::as_bytes), "{fields:?}");
        }
    }

    #[test]
    fn our_cookie_leaves_and_every_other_byte_stays() {
        use Stripped::{Empty, Rewritten, Unchanged};
        for (field, outcome, left) in [
            ("a=1; b=2", Unchanged, ""),
            ("", Unchanged, ""),
            ("xw=1;w;W=1", Unchanged, ""),
            ("w=1", Empty, ""),
            (" w = 1 ;", Empty, ""),
            ("w=1; w=2; ", Empty, ""),
            ("w=1; a=1", Rewritten, "a=1"),
            ("a=1; w=1", Rewritten, "a=1"),
            ("a=1; w=1; b=2", Rewritten, "a=1; b=2"),
            ("a=1;w=1;b=2", Rewritten, "a=1;b=2"),
            ("w=1; a=1; w=2; b=\"; w=3", Rewritten, "a=1; b=\""),
            (
                "a=\t1 ;; \"junk\"  ; w=1;x",
                Rewritten,
                "a=\t1 ;; \"junk\"  ;x",
            ),
        ] {
            let mut out = b"kept ".to_vec();
            assert_eq!(
                strip_cookie(field.as_bytes(), "w", &mut out),
                outcome,
                "{field}"
            );
            assert_eq!(out, [b"kept ", left.as_bytes()].concat(), "{field}");
        }
    }

    #[test]
    fn the_set_cookie_field_says_what_is_configured() {
        let tag = Tag::parse(b"0123456789abcdef").unwrap();
        let plain = CookieAttributes {
            name: "weir",
            domain: None,
            max_age_s: None,
            same_site: "Lax",
            secure: false,
            cache_private: false,
        };
        let full = CookieAttributes {
            domain: Some("example.com"),
            max_age_s: Some(3600),
            same_site: "None",
            secure: true,
            cache_private: true,
            ..plain
        };
        for (cookie, lines) in [
            (
                plain,
                "Set-Cookie: weir=0123456789abcdef; Path=/; HttpOnly; SameSite=Lax\r\n",
            ),
            (
                full,
                "Set-Cookie: weir=0123456789abcdef; Path=/; HttpOnly; SameSite=None; Secure; \
                 Domain=example.com; Max-Age=3600\r\nCache-Control: private\r\n",
            ),
        ] {
            let mut out = Vec::new();
            write_set_cookie(&cookie, tag, &mut out);
            assert_eq!(out, lines.as_bytes());
        }
    }
}
