//! From seconds since 1970 to a date and a time of day in UTC, in the proleptic Gregorian calendar.

pub(crate) const SECONDS_PER_DAY: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_UNIX: u64 = 719_468;
const DAYS_PER_400_YEARS: u64 = 146_097;

/// From that of 1970-01-01 on.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// From March on.
const MONTHS: [&str; 12] = [
    "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
];

/// A moment as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CivilTime {
    pub(crate) year: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// 1 to 31.
    pub(crate) day: u64,
    /// 0 to 23.
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    /// Three letters, in English.
    pub(crate) weekday_name: &'static str,
    /// Three letters, in English.
    pub(crate) month_name: &'static str,
}

impl CivilTime {
    /// The moment that so many seconds after the beginning of 1970 is; without leap seconds, as
    /// everywhere.
    ///
    /// Counted from 1 March of year 0: with the leap day last, the lengths of the months follow a
    /// line, 153 days for every five.
    pub(crate) fn from_unix(unix_s: u64) -> Self {
        let (unix_days, second_of_day) = (unix_s / SECONDS_PER_DAY, unix_s % SECONDS_PER_DAY);
        let days = unix_days + DAYS_BEFORE_UNIX;
        let (era, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
        let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
        let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
        let year_start = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
        let day_of_year = day_of_era - year_start;
        let month_from_march = (5 * day_of_year + 2) / 153;
        let is_next_year = month_from_march >= 10;
        Self {
            year: era * 400 + year_of_era + u64::from(is_next_year),
            month: (month_from_march + 2) % 12 + 1,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday_name: nth(&WEEKDAYS, unix_days % 7),
            month_name: nth(&MONTHS, month_from_march),
        }
    }
}

fn nth(names: &[&'static str], index: u64) -> &'static str {
    let name = usize::try_from(index).ok().and_then(|at| names.get(at));
    name.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As everybody learns it.
    fn days_in(year: u64, month: u64) -> u64 {
        let is_leap =
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    #[test]
    fn the_days_of_eight_centuries_follow_each_other() {
        const WEEK: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        const YEAR: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (mut year, mut month, mut day, mut weekday) = (1970, 1, 1, 3);
        let mut unix_days = 0;
        while year < 2801 {
            for second in [0, SECONDS_PER_DAY - 1] {
                let found = CivilTime::from_unix(unix_days * SECONDS_PER_DAY + second);
                assert_eq!((found.year, found.month, found.day), (year, month, day));
                assert_eq!(found.weekday_name, WEEK[weekday]);
                assert_eq!(found.month_name, nth(&YEAR, month - 1));
            }
            unix_days += 1;
            weekday = (weekday + 1) % 7;
            day += 1;
            if day > days_in(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn leap_days_are_those_of_the_gregorian_calendar() {
        for (unix_s, year, month, day) in [
            (68_169_600, 1972, 2, 29),
            (951_782_400, 2000, 2, 29),
            (951_868_800, 2000, 3, 1),
            (1_709_164_800, 2024, 2, 29),
            (4_107_542_399, 2100, 2, 28),
            (4_107_542_400, 2100, 3, 1),
            (13_574_563_200, 2400, 2, 29),
        ] {
            let found = CivilTime::from_unix(unix_s);
            assert_eq!((found.year, found.month, found.day), (year, month, day));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn four_centuries_later_all_but_the_year_is_the_same(
            unix_s in 0..u64::MAX / 2, centuries in 0..1_000_000_u64,
        ) {
            let found = CivilTime::from_unix(unix_s);
            let later = CivilTime::from_unix(
                unix_s + centuries * DAYS_PER_400_YEARS * SECONDS_PER_DAY,
            );
            let year = found.year + 400 * centuries;
            prop_assert_eq!(later, CivilTime { year, ..found });
        }

        #[test]
        fn the_time_of_day_is_what_is_left_of_the_day(unix_s in any::<u64>()) {
            let found = CivilTime::from_unix(unix_s);
            prop_assert!(found.hour < 24 && found.minute < 60 && found.second < 60);
            let second = found.hour * 3600 + found.minute * 60 + found.second;
            prop_assert_eq!(second, unix_s % SECONDS_PER_DAY);
        }
    }
}
