//! Single values of the file: each reader gives the value, or says what it must be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::defaults;
use super::model::{HostPattern, Network};
use super::node::{Node, Value};
use super::suggest;
use super::units::{format_duration, format_size, parse_duration, parse_size};
use crate::core::address::{Address, BackendAddress};
use crate::core::host_name;
use crate::core::http::syntax::is_token;

pub(super) type Read<T> = Result<T, String>;

#[inline(never)]
pub(super) fn text(node: &Node) -> Read<&str> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            Err("text, so put it in quotes".to_owned())
        }
        Value::Null | Value::List(_) | Value::Map(_) => Err("text".to_owned()),
    }
}

#[inline(never)]
pub(super) fn boolean(node: &Node) -> Read<bool> {
    switch(node).ok_or_else(|| "on or off, yes or no, true or false".to_owned())
}

/// A value that only turns something on or off, in any of the words that YAML 1.1 takes for
/// booleans; none for all else.
#[inline(never)]
pub(super) fn switch(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" => Some(true),
            "off" | "no" | "false" => Some(false),
            _ => None,
        },
        Value::Null | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// What can only be turned on.
pub(super) fn on(node: &Node) -> Read<()> {
    let is_on = switch(node) == Some(true);
    is_on.then_some(()).ok_or_else(|| "on".to_owned())
}

/// The name or number of a user or group.
pub(super) fn account(node: &Node) -> Read<String> {
    let must = || "the name of a user or group, or its number".to_owned();
    if let Value::Integer(number) = node.value {
        // The largest number stands for none.
        let number = u32::try_from(number).ok().filter(|id| *id < u32::MAX);
        return number.map(|id| id.to_string()).ok_or_else(must);
    }
    let name = text(node).map_err(|_| must())?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '$');
    let fits = (1..=defaults::ACCOUNT_BYTES_MAX).contains(&name.len());
    if fits && !name.starts_with('-') && name.chars().all(is_plain) {
        Ok(name.to_owned())
    } else {
        Err(must())
    }
}

/// A folder that becomes the root of all paths, or `off`.
pub(super) fn root_folder(node: &Node) -> Read<Option<PathBuf>> {
    if is_off(node) {
        return Ok(None);
    }
    match text(node) {
        Ok(path) if path.starts_with('/') && !path.contains('\0') => Ok(Some(path.into())),
        Ok(_) | Err(_) => Err("the absolute path of a folder, or off".to_owned()),
    }
}

/// Where a file or a folder is.
pub(super) fn path(node: &Node) -> Read<PathBuf> {
    let path = text(node)
        .ok()
        .filter(|path| !path.is_empty() && !path.contains('\0'));
    path.map(PathBuf::from)
        .ok_or_else(|| "the path of a file".to_owned())
}

/// Whether a value that may be turned off is.
pub(super) fn is_off(node: &Node) -> bool {
    switch(node) == Some(false)
}

#[inline(never)]
pub(super) fn is_word(node: &Node, word: &str) -> bool {
    matches!(&node.value, Value::Text(text) if text == word)
}

pub(super) fn list(node: &Node) -> Read<&[Node]> {
    let Value::List(items) = &node.value else {
        return Err(list_must(node));
    };
    if items.is_empty() {
        return Err("a list of at least one".to_owned());
    }
    Ok(items)
}

#[cold]
fn list_must(node: &Node) -> String {
    let text = match &node.value {
        Value::Text(text) => text,
        Value::Map(_) => return "a list: each entry begins with `- `".to_owned(),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
            return "a list".to_owned();
        }
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-' | '/');
    if text.starts_with('-') {
        "a list, with a space behind the dash of each entry".to_owned()
    } else if text
        .split(", ")
        .all(|item| !item.is_empty() && item.chars().all(is_plain))
    {
        format!("a list, such as [{text}]")
    } else {
        "a list".to_owned()
    }
}

/// One of some words, with what each stands for.
pub(super) fn one_of<T: Clone>(words: &'static [(&'static str, T)]) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let given = match switch(node) {
            Some(true) => "on",
            Some(false) => "off",
            None => text(node).unwrap_or_default(),
        };
        let found = words.iter().find(|(word, _)| *word == given);
        let names = || words.iter().map(|(word, _)| *word);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| one_of_must(given, &names().collect::<Vec<_>>()))
    }
}

#[inline(never)]
pub(super) fn one_of_must(given: &str, names: &[&str]) -> String {
    let near = suggest::hint(given, names.iter().copied());
    format!("one of {}{near}", names.join(", "))
}

/// An integer in a range, as any integer type that holds the range.
pub(super) fn integer<T: TryFrom<i128>>(range: RangeInclusive<i128>) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let value = integer_of(node, &range)?;
        T::try_from(value).map_err(|_| integer_must(&range))
    }
}

#[inline(never)]
fn integer_of(node: &Node, range: &RangeInclusive<i128>) -> Read<i128> {
    if let Value::Integer(value) = node.value
        && range.contains(&value)
    {
        return Ok(value);
    }
    Err(integer_must(range))
}

#[inline(never)]
fn integer_must(range: &RangeInclusive<i128>) -> String {
    format!("an integer from {} to {}", range.start(), range.end())
}

/// As `read`, but a word stands for none.
pub(super) fn or_word<T>(
    word: &'static str,
    read: impl Fn(&Node) -> Read<T>,
) -> impl Fn(&Node) -> Read<Option<T>> {
    move |node| {
        if is_word(node, word) {
            return Ok(None);
        }
        read(node)
            .map(Some)
            .map_err(|must| or_word_must(&must, word))
    }
}

#[inline(never)]
fn or_word_must(must: &str, word: &str) -> String {
    format!("{must}, or `{word}`")
}

/// What shows how durations and sizes are written, the best examples first.
const DURATIONS: [&str; 6] = ["500ms", "1m30s", "30s", "5s", "1h", "2d"];
const SIZES: [&str; 5] = ["64KiB", "1MB", "16KiB", "4096B", "64MiB"];

/// At most two of some words that are themselves allowed.
fn examples(words: &[&str], is_allowed: impl Fn(&str) -> bool) -> String {
    let mut allowed = words.iter().filter(|word| is_allowed(word));
    match (allowed.next(), allowed.next()) {
        (None, _) => String::new(),
        (Some(word), None) => format!(", such as {word}"),
        (Some(word), Some(other)) => format!(", such as {word} or {other}"),
    }
}

pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Read<Duration> {
    move |node| duration_of(node, &range)
}

#[inline(never)]
fn duration_of(node: &Node, range: &RangeInclusive<Duration>) -> Read<Duration> {
    let must = || {
        let (min, max) = (
            format_duration(*range.start()),
            format_duration(*range.end()),
        );
        let such_as = examples(&DURATIONS, |text| {
            parse_duration(text).is_some_and(|it| range.contains(&it))
        });
        format!("a duration from {min} to {max}{such_as}")
    };
    let duration = match &node.value {
        Value::Integer(0) => Some(Duration::ZERO),
        Value::Integer(_) | Value::Float(_) => {
            return Err(must().replace("a duration", "a duration with a unit,"));
        }
        Value::Text(text) => parse_duration(text),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
    };
    duration.filter(|d| range.contains(d)).ok_or_else(must)
}

/// A duration of whole seconds.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Read<Duration> {
    let read = duration(range);
    move |node| {
        let of_seconds =
            |must: String| must.replacen("a duration", "a duration of whole seconds", 1);
        let duration = read(node).map_err(of_seconds)?;
        if duration.subsec_nanos() == 0 {
            return Ok(duration);
        }
        let none = Node {
            at: node.at,
            value: Value::Null,
        };
        read(&none).map_err(of_seconds)
    }
}

/// A number of bytes, as any integer type that holds the range.
pub(super) fn size<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let bytes = size_of(node, &range)?;
        T::try_from(bytes).map_err(|_| size_must(&range))
    }
}

#[inline(never)]
fn size_of(node: &Node, range: &RangeInclusive<u64>) -> Read<u64> {
    let bytes = match &node.value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::Text(text) => parse_size(text),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    };
    let bytes = bytes.filter(|bytes| range.contains(bytes));
    bytes.ok_or_else(|| size_must(range))
}

#[inline(never)]
fn size_must(range: &RangeInclusive<u64>) -> String {
    let (min, max) = (format_size(*range.start()), format_size(*range.end()));
    let such_as = examples(&SIZES, |text| {
        parse_size(text).is_some_and(|it| range.contains(&it))
    });
    match *range.end() {
        u64::MAX => format!("a size{such_as}"),
        _ => format!("a size from {min} to {max}{such_as}"),
    }
}

/// The name of a listener, an upstream or a backend: what logs and statistics can hold unquoted.
pub(super) fn name(node: &Node) -> Read<String> {
    let name = text(node)?;
    is_name(name).then(|| name.to_owned()).ok_or_else(name_must)
}

pub(super) fn name_must() -> String {
    format!(
        "1 to {} visible ASCII characters without space, quote, comma, brace and backslash",
        defaults::NAME_BYTES_MAX
    )
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= defaults::NAME_BYTES_MAX && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`' | ',' | '{' | '}' | '\\')
}

/// A name made of any text.
pub(super) fn name_from(text: &str) -> String {
    let name = text.chars().map(|c| if is_name_char(c) { c } else { '_' });
    name.take(defaults::NAME_BYTES_MAX - 16).collect()
}

const LISTEN: &str = "an address to listen on";

/// Where a listener binds: `:8080`, `127.0.0.1:80`, `[::1]:80`, `unix:/path`. Port 0 lets the
/// kernel choose.
pub(super) fn listen_address(node: &Node) -> Read<Address> {
    const MUST: &str =
        "an address to listen on, such as :8080, 127.0.0.1:80, [::1]:80 or unix:/path";
    if let Value::Integer(port @ 0..=65_535) = node.value {
        return Err(format!("{LISTEN}, such as \":{port}\", in quotes"));
    }
    let given = text(node).map_err(|_| format!("{MUST}, in quotes"))?;
    if let Some(path) = given.strip_prefix("unix:") {
        return unix_path(path).map(Address::Unix);
    }
    if let Some(port) = given.strip_prefix(':') {
        if let Some(port) = port_number(port) {
            return Ok(Address::Ip((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        let near = near_listen(given).map(|near| format!("{LISTEN}, such as {near}"));
        return Err(near.unwrap_or_else(|| format!("{MUST}; a port is 0 to 65535")));
    }
    if let Ok(address) = given.parse::<SocketAddr>() {
        return Ok(Address::Ip(address));
    }
    Err(match near_listen(given) {
        Some(near) => format!("{LISTEN}, such as {near}"),
        None => MUST.to_owned(),
    })
}

/// What is most likely meant by what is no address to listen on.
#[cold]
fn near_listen(given: &str) -> Option<String> {
    let bare = given.split_once("://").map_or(given, |(_, rest)| rest);
    // Quotes that a word processor or a slip has left.
    let is_quote = |c: char| matches!(c, '"' | '\'' | '\u{2018}'..='\u{201d}');
    let bare = bare.trim_matches(is_quote).trim_end_matches('/');
    if bare.starts_with('/') {
        return Some(format!("unix:{bare}"));
    }
    if port_number(bare).is_some() {
        return Some(format!(":{bare}"));
    }
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{bare}]:80"));
    }
    if bare.parse::<Ipv4Addr>().is_ok() || is_bracketed_ipv6(bare) {
        return Some(format!("{bare}:80"));
    }
    let (host, port) = bare.rsplit_once(':')?;
    let port = port_number(port)?;
    if host.is_empty() && bare == given {
        return None;
    }
    match host {
        "*" | "" => Some(format!(":{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        _ => bare.parse::<SocketAddr>().ok().map(|near| near.to_string()),
    }
}

/// Where a backend is: as [`listen_address`], but with a host, or as `name:port`.
pub(super) fn backend_address(node: &Node) -> Read<BackendAddress> {
    const MUST: &str = "a backend's address, such as 10.0.0.1:80, [::1]:80, name:80 or unix:/path";
    let given = text(node).map_err(|_| MUST.to_owned())?;
    if let Some(path) = given.strip_prefix("unix:") {
        return unix_path(path).map(|path| BackendAddress::Fixed(Address::Unix(path)));
    }
    if let Some((scheme, rest)) = given.split_once("://") {
        return Err(without_scheme(scheme, rest).unwrap_or_else(|| MUST.to_owned()));
    }
    if let Some(near) = with_port(given) {
        return Err(format!("an address with a port, such as {near}"));
    }
    if let Some((first, _)) = given
        .split_once([' ', ','])
        .filter(|(it, _)| it.contains(':'))
    {
        let keys = format!("{{address: \"{first}\", weight: 2}}");
        return Err(format!(
            "one address, such as {first}, with more keys {keys}"
        ));
    }
    if given.starts_with('/') {
        return Err(format!(
            "unix: before the path of a socket, such as unix:{given}"
        ));
    }
    let (host, port) = given.rsplit_once(':').ok_or(MUST)?;
    let Some(port) = port_number(port).filter(|port| *port != 0) else {
        return Err(format!("{MUST}; a port is 1 to 65535"));
    };
    if host.is_empty() {
        return Err(format!("an address with a host, such as 127.0.0.1:{port}"));
    }
    if let Ok(address) = given.parse::<SocketAddr>() {
        if address.ip().is_unspecified() {
            let near = SocketAddr::new(loopback(address.ip()), port);
            return Err(format!(
                "an address that can be connected to, such as {near}"
            ));
        }
        return Ok(BackendAddress::Fixed(Address::Ip(address)));
    }
    if !is_host_name(host) {
        return Err(MUST.to_owned());
    }
    Ok(BackendAddress::Name {
        host: host.to_owned(),
        port,
    })
}

/// What is said of a URL in the place of an address.
#[cold]
fn without_scheme(scheme: &str, rest: &str) -> Option<String> {
    let host = rest.split('/').next().unwrap_or_default();
    let (port, tls) = match scheme {
        "https" => (443, ", with `tls: {}` beside `backends`"),
        _ => (80, ""),
    };
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port_number(port).is_some());
    let near = if has_port {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let node = Node {
        at: super::problem::Position::START,
        value: Value::Text(near),
    };
    backend_address(&node).ok()?;
    let near = text(&node).unwrap_or_default();
    Some(format!(
        "an address without `{scheme}://`, such as {near}{tls}"
    ))
}

/// A host or address that lacks its port, or a port that lacks its host, with what it lacks. Of
/// an IPv6 address without brackets the last group is most likely meant for the port.
fn with_port(given: &str) -> Option<String> {
    let port = |text: &str| port_number(text).filter(|port| *port != 0);
    if let Some(port) = port(given) {
        return Some(format!("127.0.0.1:{port}"));
    }
    if given.parse::<Ipv6Addr>().is_ok() {
        let split = given.rsplit_once(':');
        let meant = split.and_then(|(host, rest)| Some((host.parse().ok()?, port(rest)?)));
        return Some(match meant {
            Some((host, port)) => SocketAddr::new(IpAddr::V6(host), port).to_string(),
            None => format!("[{given}]:80"),
        });
    }
    let is_address = given.parse::<IpAddr>().is_ok() || is_bracketed_ipv6(given);
    (is_address || is_host_name(given)).then(|| format!("{given}:80"))
}

/// Where an address stands that stands for all.
fn loopback(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

pub(super) fn unix_path(path: &str) -> Read<PathBuf> {
    // sun_path of unix(7) has 108 bytes, the last of them zero.
    const PATH_BYTES_MAX: usize = 107;
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err("unix: and the absolute path of a socket".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "a path of at most {PATH_BYTES_MAX} bytes, which is all a Unix socket can have"
        ));
    }
    Ok(Path::new(path).to_owned())
}

/// Whether it is a host name that can be resolved (RFC 1123 section 2.1, and underscores, which
/// container networks use). What looks like an IPv4 address is none.
pub(super) fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_bare = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    host_name::is_of_labels(host)
        && host.split('.').all(is_bare)
        && !host_name::ends_in_digits(host)
}

/// The `host` of a route: a name, `*.` and a name, an IP address, or `*`.
pub(super) fn host_pattern(node: &Node) -> Read<HostPattern> {
    const MUST: &str = "a host name without port, such as example.com or *.example.com";
    let host = text(node).map_err(|_| MUST.to_owned())?;
    if host == "*" {
        return Ok(HostPattern::Any);
    }
    let is_ip = host.parse::<std::net::Ipv4Addr>().is_ok() || is_bracketed_ipv6(host);
    let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match lower.strip_prefix("*.") {
        Some(domain) if is_host_name(domain) => Ok(HostPattern::Suffix(format!(".{domain}"))),
        None if is_ip || is_host_name(&lower) => Ok(HostPattern::Exact(lower)),
        Some(_) | None => Err(MUST.to_owned()),
    }
}

fn is_bracketed_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

/// `10.0.0.0/8`, or an address, which is a network of one.
pub(super) fn network(node: &Node) -> Read<Network> {
    const MUST: &str = "an IP network, such as 10.0.0.0/8 or 2001:db8::/32, or an IP address";
    let given = text(node).map_err(|_| MUST.to_owned())?;
    let (address, bits) = match given.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (given, None),
    };
    let address: IpAddr = address.parse().map_err(|_| MUST.to_owned())?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = match bits {
        Some(bits) => port_number(bits).and_then(|bits| u8::try_from(bits).ok()),
        None => Some(bits_max),
    };
    let prefix_bits = prefix_bits
        .filter(|bits| *bits <= bits_max)
        .ok_or_else(|| format!("{MUST}; its prefix has 0 to {bits_max} bits"))?;
    let first = first_address(address, prefix_bits);
    if first != address {
        return Err(format!(
            "the first address of its network: {first}/{prefix_bits}"
        ));
    }
    Ok(Network::new(address, prefix_bits))
}

fn first_address(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let host_bits = |bits_max: u8| u32::from(bits_max.saturating_sub(prefix_bits));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host_bits(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host_bits(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A token (RFC 9110 section 5.6.2), such as a cookie's or a field's name.
pub(super) fn token(what: &'static str) -> impl Fn(&Node) -> Read<String> {
    move |node| {
        let must = || format!("{what}: letters, digits and !#$%&'*+-.^_`|~");
        let token = text(node).map_err(|_| must())?;
        let fits = is_token(token.as_bytes()) && token.len() <= defaults::NAME_BYTES_MAX;
        fits.then(|| token.to_owned()).ok_or_else(must)
    }
}

/// Longest body of a message, in bytes; none is unlimited.
pub(super) fn body_size(node: &Node) -> Read<Option<u64>> {
    or_word("unlimited", size(0..=u64::MAX))(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Position;

    fn node(text: &str) -> Node {
        Node {
            at: Position { line: 1, column: 1 },
            value: Value::Text(text.to_owned()),
        }
    }

    #[test]
    fn what_is_suggested_for_an_address_is_one() {
        for (given, near) in [
            ("a", "a:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("8080", "127.0.0.1:8080"),
            (":80", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("::1:80", "[::1]:80"),
            ("::1:0", "[::1:0]:80"),
            ("fe80::1", "[fe80::1]:80"),
            ("2001:db8::1:8080", "[2001:db8::1]:8080"),
            ("2001:db8:0:0:0:0:0:1", "[2001:db8:0:0:0:0:0:1]:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:81", "[::1]:81"),
            ("/run/a.sock", "unix:/run/a.sock"),
            ("http://a", "a:80"),
            ("tcp://[::1]:9/x", "[::1]:9"),
        ] {
            let must = backend_address(&node(given)).expect_err(given);
            assert!(
                must.ends_with(&format!("such as {near}")),
                "{given}: {must}"
            );
            assert!(backend_address(&node(near)).is_ok(), "{near}");
        }
        for given in [
            "",
            ":",
            ":x",
            "a b",
            "10.0.0.1/24",
            "http://",
            "::1:x",
            "[::1",
        ] {
            let must = backend_address(&node(given)).expect_err(given);
            assert!(must.contains(", such as 10.0.0.1:80, "), "{given}: {must}");
        }
    }

    #[test]
    fn what_is_suggested_for_a_duration_or_a_size_is_in_range() {
        let spans = [0, 1, 1_000, 5_000, 60_000, 7 * 86_400_000].map(Duration::from_millis);
        for (at, min) in spans.into_iter().enumerate() {
            for max in &spans[at..] {
                let read = duration(min..=*max);
                let must = read(&node("x")).expect_err("no duration");
                let examples = must.split_once(", such as ").map_or("", |(_, words)| words);
                for word in examples.split(" or ").filter(|word| !word.is_empty()) {
                    assert!(read(&node(word)).is_ok(), "{must}");
                }
            }
        }
        let read = size::<u64>(1024..=65_535);
        let must = read(&node("x")).expect_err("no size");
        assert_eq!(must, "a size from 1KiB to 65535B, such as 16KiB or 4096B");
        assert!(read(&node("16KiB")).is_ok() && read(&node("4096B")).is_ok());
    }
}
