//! What is made of a backend's idle limit keeps clear of the true one, whatever else happens.

use proptest::collection::vec;
use proptest::prelude::*;
use weir::core::idle_limit::IdleLimit;
use weir::core::time::Tick;

/// Something that is seen of a backend.
#[derive(Clone, Debug)]
enum Event {
    /// It ends a connection at its limit, so much of it too late, in percent.
    Limit { late_percent: u64 },
    /// A connection is used again that has been idle for so much of the limit, in percent.
    Survives { percent: u64 },
    /// It ends all connections, which have been idle for so long.
    Restart { idle_ms: Vec<u64> },
    /// A response announces this.
    Announces { timeout_s: Option<u64> },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..25_u64).prop_map(|late_percent| Event::Limit { late_percent }),
        2 => (0..100_u64).prop_map(|percent| Event::Survives { percent }),
        1 => vec(0..60_000_u64, 1..30).prop_map(|idle_ms| Event::Restart { idle_ms }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => event(),
        1 => proptest::option::of(0..100_u64)
            .prop_map(|timeout_s| Event::Announces { timeout_s }),
    ]
}

fn tell(limit: &mut IdleLimit, event: &Event, true_ms: u64, now: &mut u64) {
    *now += 1_500;
    match event {
        Event::Limit { late_percent } => {
            limit.on_end(true_ms * (100 + late_percent) / 100, Tick(*now));
        }
        Event::Survives { percent } => limit.on_survived(true_ms * percent / 100),
        Event::Restart { idle_ms } => {
            for &idle_ms in idle_ms {
                // None of them is older than the limit.
                limit.on_end(idle_ms.min(true_ms), Tick(*now));
            }
        }
        Event::Announces { timeout_s } => limit.on_response(*timeout_s),
    }
}

proptest! {
    #[test]
    fn what_is_used_again_is_younger_than_the_true_limit(
        true_ms in 500..60_000_u64,
        events in vec(event(), 1..200),
    ) {
        let (mut limit, mut now) = (IdleLimit::default(), 0);
        for event in &events {
            tell(&mut limit, event, true_ms, &mut now);
            let reuse_ms = limit.reuse_ms().unwrap_or(0);
            prop_assert!(reuse_ms <= true_ms, "{reuse_ms} ms after {event:?}");
        }
    }

    #[test]
    fn a_limit_without_anything_else_is_learned_with_the_third_end(
        true_ms in 100..60_000_u64,
        late_percents in vec(0..50_u64, 3),
    ) {
        let (mut limit, mut now) = (IdleLimit::default(), 0);
        for late_percent in late_percents {
            prop_assert_eq!(limit.known_ms(), None);
            tell(&mut limit, &Event::Limit { late_percent }, true_ms, &mut now);
        }
        let known_ms = limit.known_ms().expect("it is learned");
        prop_assert!(known_ms >= true_ms && known_ms < true_ms * 3 / 2);
    }

    #[test]
    fn one_restart_teaches_nothing(idle_ms in vec(0..100_000_u64, 1..500)) {
        let mut limit = IdleLimit::default();
        for idle_ms in idle_ms {
            limit.on_end(idle_ms, Tick(5));
        }
        prop_assert_eq!(limit.known_ms(), None);
    }

    #[test]
    fn no_connection_is_used_for_longer_than_is_announced(
        true_ms in 500..60_000_u64,
        events in vec(any_event(), 1..200),
    ) {
        let (mut limit, mut now, mut announced) = (IdleLimit::default(), 0, None);
        for event in &events {
            tell(&mut limit, event, true_ms, &mut now);
            if let Event::Announces { timeout_s } = event {
                announced = *timeout_s;
            }
            if let Some(timeout_s) = announced {
                let reuse_ms = limit.reuse_ms().expect("something is known");
                prop_assert!(reuse_ms <= timeout_s * 800);
            }
        }
    }
}
