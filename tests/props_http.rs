//! Properties of the HTTP policy files over drawn inputs.

use proptest::prelude::*;

mod path {
    use super::*;
    use weir::core::http::path::canonical;

    /// Paths made of the pieces that matter, far more often than chance would.
    fn target() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "/", "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5C", "%61", "%c3", "%25", ";", "a",
            "b", "|", "%20", "\u{e9}", "?", "%0", "%00", "\\", " ",
        ]);
        let pieces = prop::collection::vec(piece, 0..16).prop_map(|all| all.concat().into_bytes());
        prop_oneof![
            8 => pieces.prop_map(|mut rest| { rest.insert(0, b'/'); rest }),
            1 => prop::collection::vec(any::<u8>(), 0..32),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_canonical_path_is_rooted_and_settled(target in target()) {
            let mut space = Vec::new();
            if let Ok(found) = canonical(&target, &mut space) {
                prop_assert_eq!(found.path[0], b'/');
                let mut segments: Vec<&[u8]> = found.path[1..].split(|&b| b == b'/').collect();
                prop_assert!(segments.iter().all(|s| *s != b"." && *s != b".."));
                segments.pop();
                prop_assert!(segments.iter().all(|s| !s.is_empty()), "no run of slashes");
                prop_assert!(found.path.iter().all(|b| (0x21..0x7f).contains(b)));
                let query = target.iter().position(|&b| b == b'?').map(|at| &target[at + 1..]);
                prop_assert_eq!(found.query, query);
            }
        }

        #[test]
        fn a_canonical_path_is_its_own_canonical_path(target in target()) {
            let (mut space, mut unused) = (Vec::new(), Vec::new());
            if let Ok(found) = canonical(&target, &mut space) {
                let again = canonical(found.path, &mut unused).unwrap();
                prop_assert_eq!(again.path, found.path);
                prop_assert_eq!(again.path.as_ptr(), found.path.as_ptr(), "and is borrowed");
            }
        }
    }
}

mod route {
    use super::*;
    use weir::core::http::route::{Found, HostPattern, RouteTable, Rule, is_prefix, strip_prefix};

    fn host() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "b", "A"]);
        prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."))
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["x", "y", "xy"]);
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, slash)| {
            let end = if slash && !segments.is_empty() {
                "/"
            } else {
                ""
            };
            format!("/{}{end}", segments.join("/"))
        })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let pattern = prop_oneof![
            Just(HostPattern::Any),
            host().prop_map(HostPattern::Exact),
            host().prop_map(|host| HostPattern::Suffix(format!(".{host}"))),
        ];
        let methods = prop::sample::subsequence(vec!["GET".to_owned(), "PUT".to_owned()], 0..2);
        (pattern, path(), methods).prop_map(|(host, prefix, methods)| Rule {
            host,
            prefix,
            methods,
        })
    }

    /// How specific a rule is for a request, were it the only one; none when it does not match.
    fn rank(rule: &Rule, host: &str, path: &str) -> Option<(usize, usize)> {
        let host = host.to_lowercase();
        let of_host = match &rule.host {
            HostPattern::Any => 0,
            HostPattern::Suffix(end) if host.ends_with(&end.to_lowercase()) => end.len(),
            HostPattern::Exact(name) if host == name.to_lowercase() => usize::MAX,
            HostPattern::Exact(_) | HostPattern::Suffix(_) => return None,
        };
        is_prefix(rule.prefix.as_bytes(), path.as_bytes()).then_some((of_host, rule.prefix.len()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_table_agrees_with_looking_at_every_rule(
            rules in prop::collection::vec(rule(), 0..12), host in host(), path in path(),
        ) {
            let table = RouteTable::new(&rules).unwrap();
            let ranked: Vec<_> = (0..rules.len())
                .filter_map(|at| Some((rank(&rules[at], &host, &path)?, at)))
                .collect();
            let best = ranked.iter()
                .filter(|(_, at)| rules[*at].methods.is_empty() || rules[*at].methods[0] == "GET")
                .max_by_key(|(rank, at)| (*rank, std::cmp::Reverse(*at)));
            let expected = match best {
                Some((_, at)) => Found::Route(*at),
                None if ranked.is_empty() => Found::NotFound,
                None => Found::MethodNotAllowed,
            };
            prop_assert_eq!(table.find(host.as_bytes(), path.as_bytes(), b"GET"), expected);
            let mut allow = Vec::new();
            table.write_allow(host.as_bytes(), path.as_bytes(), &mut allow);
            if expected == Found::MethodNotAllowed {
                prop_assert_eq!(allow, b"PUT");
            }
        }

        #[test]
        fn what_is_left_of_a_path_is_a_path(path in path(), prefix in path()) {
            let left = strip_prefix(path.as_bytes(), prefix.as_bytes());
            prop_assert_eq!(left[0], b'/');
            prop_assert!(path.as_bytes().ends_with(left) || left == b"/");
        }
    }
}

mod sticky {
    use super::*;
    use weir::core::http::sticky::{Stripped, Tag, cookie_value, strip_cookie};

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let piece =
            prop::sample::select(vec!["w", "=", ";", "; ", " ", "a", "\"", "w=1", "\u{e9}"]);
        prop::collection::vec(piece, 0..12).prop_map(|all| all.concat().trim().as_bytes().to_vec())
    }

    fn others(field: &[u8]) -> Vec<&[u8]> {
        field
            .split(|&byte| byte == b';')
            .filter(|pair| cookie_value([*pair], "w").is_none())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_stripped_field_holds_every_cookie_but_ours(field in field()) {
            let mut out = Vec::new();
            let ours = cookie_value([field.as_slice()], "w").is_some();
            let left = match strip_cookie(&field, "w", &mut out) {
                Stripped::Unchanged => { prop_assert!(!ours); field.clone() }
                Stripped::Rewritten => { prop_assert!(ours); out }
                Stripped::Empty => {
                    prop_assert!(ours && out.is_empty());
                    let blank = others(&field).iter().all(|pair| pair.trim_ascii().is_empty());
                    prop_assert!(blank, "nothing of another cookie is lost");
                    return Ok(());
                }
            };
            prop_assert_eq!(cookie_value([left.as_slice()], "w"), None);
            let (before, after) = (others(&field), others(&left));
            prop_assert_eq!(before[0].trim_ascii_start(), after[0].trim_ascii_start());
            prop_assert_eq!(&before[1..], &after[1..], "the rest to the byte");
        }

        #[test]
        fn a_tag_is_read_only_in_its_own_form(value in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(tag) = Tag::parse(&value) {
                prop_assert_eq!(tag.as_bytes(), value.as_slice());
            }
        }
    }
}
