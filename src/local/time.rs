//! Times as AWS, docker and PHP print them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// From here on a bare number is meant in milliseconds: it would be the year 5138 in seconds.
const LEAST_MILLISECONDS: i64 = 100_000_000_000;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A time at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// How many bytes it takes.
    pub len: usize,
    /// What stands between date and time: `T` or a space.
    pub separator: u8,
    /// Digits of the fraction after a point; a comma's (Python's) are read and not counted.
    pub fraction: usize,
    /// How the zone is written.
    pub zone: Zone,
    civil: DateTime,
}

/// How a time's zone is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Zone {
    /// Not at all.
    Absent,
    /// `Z`, `UTC`
    Named,
    /// `+09:00`
    Offset(Offset),
}

impl Found {
    /// The instant; `zone` holds where none is written.
    pub fn at(&self, zone: &TimeZone) -> Option<Timestamp> {
        let zone = match self.zone {
            Zone::Absent => zone.clone(),
            Zone::Named => TimeZone::UTC,
            Zone::Offset(offset) => TimeZone::fixed(offset),
        };
        zone.to_timestamp(self.civil).ok()
    }
}

/// Reads a whole text: a time as lines of text begin with it, a date, or a number of seconds or
/// milliseconds since the epoch. `zone` holds where the text names none.
pub fn parse(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(found) = at_start(text) {
        return (found.len == text.len()).then(|| found.at(zone)).flatten();
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return if number >= LEAST_MILLISECONDS {
            Timestamp::from_millisecond(number).ok()
        } else {
            Timestamp::from_second(number).ok()
        };
    }
    // jiff would read the date of longer texts, too, and forget the rest.
    let date: Date = (text.len() == "2026-11-24".len()).then(|| text.parse().ok())??;
    zone.to_timestamp(date.to_datetime(Time::midnight())).ok()
}

/// Whether a text that [`parse`] reads says by itself which instant it means.
pub fn is_absolute(text: &str) -> bool {
    let text = text.trim();
    match at_start(text) {
        Some(found) => found.zone != Zone::Absent,
        None => text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Seconds since the epoch, as ECS gives times in JSON.
pub(super) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    milliseconds(Timestamp::from_duration(since).ok()?)
}

/// A time without what is finer than a millisecond, as CloudWatch keeps times.
pub(super) fn milliseconds(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.as_millisecond()).ok()
}

/// Finds `2026-11-24T03:36:09`, `2024-05-19 06:10:35.743`, `2026-11-24T03:36:09.123000+00:00`,
/// `24-Nov-2026 03:37:49 UTC` and the like at the very beginning of a text.
pub(super) fn at_start(text: &str) -> Option<Found> {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
    };
    let date = scan.date()?;
    let separator = scan.one_of(b"T ")?;
    let (hour, minute) = (scan.number(2)?, scan.byte(b':').and(scan.number(2))?);
    let second = scan.byte(b':').and(scan.number(2))?;
    // A leap second is the last one of its minute; jiff has none.
    let time = Time::new(
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        i8::try_from(second.min(59)).ok()?,
        0,
    )
    .ok()?;
    let (fraction, nanoseconds) = scan.fraction();
    let civil = date
        .to_datetime(time)
        .checked_add(SignedDuration::from_nanos(nanoseconds))
        .ok()?;
    let zone = scan.zone();
    Some(Found {
        len: scan.at,
        separator,
        fraction,
        zone,
        civil,
    })
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|byte| wanted.contains(byte))?;
        self.at += 1;
        Some(byte)
    }

    fn byte(&mut self, wanted: u8) -> Option<u8> {
        self.one_of(&[wanted])
    }

    fn digit(&mut self) -> Option<i64> {
        let digit = self.peek().filter(u8::is_ascii_digit)?;
        self.at += 1;
        Some(i64::from(digit - b'0'))
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        (0..digits).try_fold(0, |sum, _| Some(sum * 10 + self.digit()?))
    }

    fn date(&mut self) -> Option<Date> {
        let (year, month, day);
        if self.bytes.get(2) == Some(&b'-') {
            day = self.number(2)?;
            self.byte(b'-')?;
            let name = self.bytes.get(self.at..self.at + 3)?;
            let index = MONTHS.iter().position(|m| m.as_bytes() == name)?;
            month = i64::try_from(index).ok()? + 1;
            self.at += 3;
            self.byte(b'-')?;
            year = self.number(4)?;
        } else {
            year = self.number(4)?;
            self.byte(b'-')?;
            month = self.number(2)?;
            self.byte(b'-')?;
            day = self.number(2)?;
        }
        Date::new(
            i16::try_from(year).ok()?,
            i8::try_from(month).ok()?,
            i8::try_from(day).ok()?,
        )
        .ok()
    }

    /// The number of digits after a point, and the nanoseconds that they, or those after a
    /// comma, mean.
    fn fraction(&mut self) -> (usize, i64) {
        let start = self.at;
        let mark = self.one_of(b".,");
        let (mut digits, mut nanoseconds, mut unit) = (0, 0, 100_000_000);
        while let Some(digit) = mark.and_then(|_| self.digit()) {
            nanoseconds += digit * unit;
            unit /= 10;
            digits += 1;
        }
        if digits == 0 {
            self.at = start;
        }
        (if mark == Some(b'.') { digits } else { 0 }, nanoseconds)
    }

    fn zone(&mut self) -> Zone {
        for name in ["Z", "UTC", " UTC"] {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let ends = !rest.get(name.len()).is_some_and(u8::is_ascii_alphanumeric);
            if rest.starts_with(name.as_bytes()) && ends {
                self.at += name.len();
                return Zone::Named;
            }
        }
        let start = self.at;
        match self.offset() {
            Some(offset) => Zone::Offset(offset),
            None => {
                self.at = start;
                Zone::Absent
            }
        }
    }

    fn offset(&mut self) -> Option<Offset> {
        let sign = match self.one_of(b"+-")? {
            b'-' => -1,
            _ => 1,
        };
        let hours = self.number(2)?;
        self.byte(b':');
        let minutes = self.number(2)?;
        Offset::from_seconds(i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts() {
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        for (text, expected) in [
            ("2026-11-24T03:36:09Z", "2026-11-24T03:36:09Z"),
            ("2026-11-24T03:36:09+00:00", "2026-11-24T03:36:09Z"),
            ("2026-11-24T12:36:09+0900", "2026-11-24T03:36:09Z"),
            (
                "2026-11-24T03:36:09.123000+00:00",
                "2026-11-24T03:36:09.123Z",
            ),
            (
                "2026-11-24T03:36:09.123456789Z",
                "2026-11-24T03:36:09.123456789Z",
            ),
            ("2024-05-19 06:10:35.743 UTC", "2024-05-19T06:10:35.743Z"),
            ("24-Nov-2026 03:37:49 UTC", "2026-11-24T03:37:49Z"),
            ("2026-11-24 12:36:09", "2026-11-24T03:36:09Z"),
            ("2026-11-24 12:36:09,250", "2026-11-24T03:36:09.25Z"),
            ("2026-11-24", "2026-11-23T15:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("1795491369123", "2026-11-24T03:36:09.123Z"),
            ("1795491369", "2026-11-24T03:36:09Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(parse(text, &tokyo), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-11-24T03:36",
            "2026-13-24T03:36:09Z",
            "2026-11-24T03:36:09Z x",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text, &tokyo), None, "{text}");
        }
    }

    #[test]
    fn a_clock_or_a_day_alone_may_be_anywhere() {
        for text in [
            "2026-11-24T03:36:09Z",
            " 2026-11-24 12:36:09+0900",
            "24-Nov-2026 03:37:49 UTC",
            "1795491369",
        ] {
            assert!(is_absolute(text), "{text}");
        }
        for text in ["2026-11-24T03:36:09", "2026-11-24 12:36:09.5", "2026-11-24"] {
            assert!(!is_absolute(text), "{text}");
        }
    }

    #[test]
    fn beginnings() {
        let found = at_start("2026-11-24T03:36:09.123000+00:00 stream text").unwrap();
        assert_eq!((found.len, found.fraction), (32, 6));
        // A zone's letters that go on are a word.
        let found = at_start("2026-11-24 03:36:09 UTCX").unwrap();
        assert_eq!((found.len, found.zone), (19, Zone::Absent));
        assert_eq!(at_start("03:36:09"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,60}") {
            let _ = parse(&text, &TimeZone::UTC);
            if let Some(found) = at_start(&text) {
                proptest::prop_assert!(text.is_char_boundary(found.len));
            }
        }

        #[test]
        fn what_is_printed_is_read(millisecond in -62_000_000_000_000_i64..250_000_000_000_000) {
            let at = Timestamp::from_millisecond(millisecond).unwrap();
            proptest::prop_assert_eq!(parse(&at.to_string(), &TimeZone::UTC), Some(at));
        }
    }
}
