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
